"""How many nuclei were found: by overlap and by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Matches:
    """Numbers of nuclei; those of several images may be added."""

    n_matched: int
    n_true: int
    n_found: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 when there is nothing to find and nothing was found."""
        total = self.n_true + self.n_found
        return 2 * self.n_matched / total if total else 1.0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.n_matched + other.n_matched, self.n_true + other.n_true, self.n_found + other.n_found)


def match_overlaps(true: Labels, found: Labels, *, min_iou: float = 0.5) -> Matches:
    """Match nuclei of two label images (h, w) whose intersection over union is above `min_iou`, at least 0.5.

    Above one half no nucleus has two partners, so that nothing has to be assigned.
    """
    true_areas, found_areas = (np.bincount(labels.ravel(), minlength=1) for labels in (true, found))
    both = (true > 0) & (found > 0)
    pairs, intersections = np.unique(true[both].astype(np.int64) * len(found_areas) + found[both], return_counts=True)
    a, b = np.divmod(pairs, len(found_areas))
    unions = true_areas[a] + found_areas[b] - intersections
    return Matches(
        int((intersections > min_iou * unions).sum()),
        int((true_areas[1:] > 0).sum()),
        int((found_areas[1:] > 0).sum()),
    )


def match_places(true: npt.NDArray[np.floating], found: npt.NDArray[np.floating], *, radius: float) -> Matches:
    """Match as many centres (n, 2) as possible that lie within `radius` of each other, each at most once."""
    if not len(true) or not len(found):
        return Matches(0, len(true), len(found))
    near = KDTree(true).sparse_distance_matrix(KDTree(found), radius, output_type="ndarray")
    graph = coo_matrix((np.ones(len(near)), (near["i"], near["j"])), shape=(len(true), len(found))).tocsr()
    partners = maximum_bipartite_matching(graph, perm_type="column")
    return Matches(int((partners >= 0).sum()), len(true), len(found))
