"""K-means of neighbourhood means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Integers
from stdistill._support.threads import one_thread
from stdistill._training.sampling import spatial_order
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.plain.means import Scale, find_scale, means_by_part, read_means

CELLS_TO_CLUSTER = 20_000
"""Of larger trainings as many are drawn."""
N_STARTS = 10
"""Of k-means, the best of which is taken."""


class Clusters(NamedTuple):
    """Centres of k-means, and how far cells lie around them."""

    centers: npt.NDArray[np.float32]
    """(k, n_features), in standardised features."""
    variance: float
    """Mean squared distance of a training cell to its centre, per feature: σ²."""


def fit_clusters(neighborhoods: Neighborhoods, cells: Integers, k: int, scale: Scale, seed: int) -> Clusters:
    """Cluster the neighbourhood means of (a sample of) the cells."""
    from sklearn.cluster import KMeans

    chosen = np.random.default_rng(seed).permutation(len(cells))[:CELLS_TO_CLUSTER]
    means = read_means(neighborhoods, cells[np.sort(chosen)], scale)
    with one_thread():
        found = KMeans(k, n_init=N_STARTS, random_state=seed).fit(means)
    return Clusters(found.cluster_centers_.astype(np.float32), float(found.inertia_) / means.size)


def cluster_logits(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    training: npt.NDArray[np.bool_],
    cells: npt.NDArray[np.bool_],
    *,
    k: int,
    seed: int,
) -> tuple[npt.NDArray[np.float32], Clusters]:
    """Cluster training cells, and say of all cells how near to each centre they are.

    Parameters
    ----------
    neighborhoods
        Cells of one or several slides.
    libraries
        (n,), number of each cell's slide.
    training, cells
        (n,), those to cluster, and those to be told; all have features.
    k
        Number of clusters.
    seed
        Of the sample and of k-means.

    Returns
    -------
    (n, k) logits -d² / 2σ², NaN where `cells` is false, and the clusters.
    """
    order = spatial_order(neighborhoods.centers, libraries)
    scale = find_scale(neighborhoods, np.flatnonzero(training))
    clusters = fit_clusters(neighborhoods, order[training[order]], k, scale, seed)
    # Training cells that all lie on their centres are as near to these as numbers can tell.
    variance = max(clusters.variance, float(np.finfo(np.float32).eps))
    logits = np.full((len(training), k), np.nan, dtype=np.float32)
    for part, means in means_by_part(neighborhoods, order[cells[order]], scale):
        squares = (means**2).sum(axis=1)[:, None] + (clusters.centers**2).sum(axis=1)
        distances = np.maximum(squares - 2 * means @ clusters.centers.T, 0)
        logits[part] = -distances / (2 * variance)
    return logits, clusters
