"""Graphs of cells with similar features, and their communities; imported when needed, for scanpy loads slowly."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import scanpy as sc
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from stdistill._measures.resolution import Flavor
from stdistill._support.threads import kept_threads

N_ITERATIONS: dict[Flavor, int] = {"igraph": 2, "leidenalg": -1}
"""Of Leiden: what scanpy recommends for the one, and its default for the other, until nothing changes."""
EXACT_UP_TO = 50_000
"""Beyond so many cells neighbours are found approximately: the exact search takes 10 s of computing for these, and four
times that for twice as many; the other one 3 s, and 30 s to compile."""


class NeighborSearch:
    """Nearest neighbours among some cells, in the form that :func:`scanpy.pp.neighbors` takes as `transformer`.

    scanpy would search with all cores, which gives other neighbours on another number of cores, and cannot read the
    sparse arrays that scikit-learn and pynndescent now return.
    """

    def __init__(self, n_cells: int, n_neighbors: int, seed: int) -> None:
        self._params: dict[str, Any] = {"n_neighbors": n_neighbors, "metric": "euclidean"}
        if n_cells <= EXACT_UP_TO:
            from sklearn.neighbors import KNeighborsTransformer

            self._search: Any = KNeighborsTransformer(n_neighbors=n_neighbors, algorithm="brute")
        else:
            from pynndescent import PyNNDescentTransformer

            self._search = PyNNDescentTransformer(n_neighbors=n_neighbors, random_state=seed, n_jobs=1)

    def get_params(self) -> dict[str, Any]:
        """Return what scanpy records."""
        return self._params

    def fit_transform(self, features: npt.NDArray[np.float32]) -> csr_matrix:
        """Find the neighbours of each cell among all."""
        return csr_matrix(self._search.fit_transform(features))

    def nearest(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Find the neighbours (m, n_neighbors) of other cells among those it was fitted to."""
        # scikit-learn gives one more, for a cell that may find itself; both list the nearest first.
        found = self._search.transform(features).indices.reshape(len(features), -1)
        neighbors: npt.NDArray[np.intp] = found[:, : self._params["n_neighbors"]]
        return neighbors


class FeatureGraph:
    """Cells connected to those with the most similar features."""

    @kept_threads()
    def __init__(
        self, features: npt.NDArray[np.float32], n_neighbors: int, seed: int, flavor: Flavor = "igraph"
    ) -> None:
        self._features = features
        self._seed = seed
        self._flavor = flavor
        self._search = NeighborSearch(len(features), n_neighbors, seed)
        self._cells = ad.AnnData(obs={"cell": np.arange(len(features)).astype(str)}, obsm={"features": features})
        sc.pp.neighbors(self._cells, use_rep="features", transformer=self._search, random_state=seed)

    @property
    def n_components(self) -> int:
        """The number of parts without any link between them: at no resolution are there fewer communities."""
        return int(connected_components(self._cells.obsp["connectivities"], directed=False)[0])

    def communities(self, resolution: float) -> npt.NDArray[np.intp]:
        """Return the number of each cell's community, from the largest on."""
        sc.tl.leiden(
            self._cells,
            resolution=resolution,
            flavor=self._flavor,
            n_iterations=N_ITERATIONS[self._flavor],
            directed=False,
            random_state=self._seed,
        )
        labels = self._cells.obs["leiden"].cat.codes.to_numpy()
        rank = np.empty(labels.max() + 1, dtype=np.intp)
        rank[np.argsort(-np.bincount(labels), kind="stable")] = np.arange(len(rank))
        ranked: npt.NDArray[np.intp] = rank[labels]
        return ranked

    @kept_threads()
    def vote(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Label other cells by the majority of their nearest cells here; of a tie, by the first label."""
        k = int(labels.max()) + 1
        voted = labels[self._search.nearest(features)] + k * np.arange(len(features))[:, None]
        votes = np.bincount(voted.ravel(), minlength=len(features) * k)
        majority: npt.NDArray[np.intp] = votes.reshape(-1, k).argmax(axis=1)
        return majority
