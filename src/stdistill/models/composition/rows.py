"""What a composition is told from: features of one or several encoders side by side, of a place and around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stdistill._support.arrays import Integers, Mask
from stdistill.models.features import known_rows

Features = npt.NDArray[np.floating[Any]]


class FeatureRows:
    """Reads rows of features, without a copy of all of them.

    Parameters
    ----------
    features
        (n, d) of each encoder; a row with a NaN has none.
    graph
        (n, n) connectivities without the diagonal: the mean over the neighbours that have features, and the place
        itself, is put beside its own.
    """

    def __init__(self, features: Sequence[Features], graph: csr_matrix | None = None) -> None:
        self.features = features
        self.graph = graph
        known = [known_rows(part) for part in features]
        self.known: Mask = np.logical_and.reduce(known)
        """(n,), the rows that have features of every encoder."""
        self.n_known = [int(part.sum()) for part in known]
        """Rows with features of each encoder."""

    def __len__(self) -> int:
        return len(self.known)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of what is read."""
        own = sum(part.shape[1] for part in self.features)
        return len(self), own if self.graph is None else 2 * own

    def __getitem__(self, rows: Integers, /) -> npt.NDArray[np.float32]:
        """Return known rows as (len(rows), columns)."""
        own = self._side_by_side(rows)
        return own if self.graph is None else np.hstack([own, self._around(rows, own)])

    def _side_by_side(self, rows: Integers) -> npt.NDArray[np.float32]:
        return np.hstack([np.asarray(part[rows], dtype=np.float32) for part in self.features])

    def _around(self, rows: Integers, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Average over each row and its neighbours; each of these is read once."""
        edges = self.graph[rows]  # type: ignore[index]
        neighbors, column = np.unique(edges.indices, return_inverse=True)
        known = self.known[neighbors]
        ones = known[column].astype(np.float32)
        weights = csr_matrix((ones, column, edges.indptr), shape=(len(rows), len(neighbors)))
        values = self._side_by_side(neighbors)
        values[~known] = 0
        total: npt.NDArray[np.float32] = weights @ values + own
        mean: npt.NDArray[np.float32] = total / (1 + np.asarray(weights.sum(axis=1)).reshape(-1, 1))
        return mean
