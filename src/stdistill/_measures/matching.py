"""Which labels of two methods mean the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment


def best_partners(overlap: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Find each row's column (-1: none) such that the sum of what they share is largest."""
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    partners = np.full(len(overlap), -1)
    partners[rows] = np.where(overlap[rows, columns] > 0, columns, -1)
    return partners


def nearest_names(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.intp],
    named_features: npt.NDArray[np.float32],
    named_labels: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Renumber clusters as those elsewhere whose centres are nearest, one to one; clusters beyond get new numbers."""
    centers, named_centers = _centroids(features, labels), _centroids(named_features, named_labels)
    apart = ((centers[:, None] - named_centers[None]) ** 2).sum(axis=-1)
    rows, columns = linear_sum_assignment(apart)
    numbers = np.full(len(centers), -1, dtype=np.intp)
    numbers[rows] = columns
    more = numbers < 0
    numbers[more] = len(named_centers) + np.arange(more.sum())
    renamed: npt.NDArray[np.intp] = numbers[labels]
    return renamed


def _centroids(features: npt.NDArray[np.float32], labels: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    sizes = np.bincount(labels)
    sums = np.stack([np.bincount(labels, weights=axis) for axis in features.T], axis=1)
    centroids: npt.NDArray[np.float64] = sums / sizes[:, None]
    return centroids
