from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier

import stdistill as sd
from stdistill._measures.matching import nearest_names
from stdistill._measures.resolution import search_resolution


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """600 cells of 5 tissues that differ in 60 half-precision features; strips, a buffer and cells off the image."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 5, 600)
    features = 3 * rng.normal(size=(5, 60))[tissue] + rng.normal(size=(600, 60))
    features[590:] = np.nan
    split = np.array(["train"] * 380 + ["test"] * 180 + ["buffer"] * 30 + [None] * 10, dtype=object)
    cells = make_cells(600, tissue=tissue, split=pd.Categorical(split, ["train", "test", "buffer"]))
    cells.obsm["X_he"] = features.astype(np.float16)
    return cells


@pytest.mark.parametrize("test", ["cluster", "label"])
def test_finds_tissues_in_both_groups(cells: ad.AnnData, test: str) -> None:
    sd.tl.leiden(cells, k=5, test=test)
    niches = cells.obs["he_leiden_niche"]
    assert niches.isna().tolist() == [False] * 560 + [True] * 40
    assert niches.cat.categories.tolist() == list("01234")
    assert len(cells.uns["he_leiden_niche_colors"]) == 5
    labelled = niches.notna()
    # Niches of the same tissue have the same name on training and test cells.
    assert adjusted_rand_score(cells.obs["tissue"][labelled], niches[labelled]) == 1
    record = cells.uns["stdistill"]["leiden"]
    assert (record["k"], record["n_clusters"], record["n_clusters_test"], record["test"]) == (5, 5, 5, test)
    sizes = niches[cells.obs["split"] == "train"].value_counts(sort=False)
    assert sizes.is_monotonic_decreasing


THREADS = """
import torch
torch.set_num_threads(1)
import anndata as ad, numpy as np
import stdistill as sd
rng = np.random.default_rng(0)
cells = ad.AnnData(np.zeros((300, 1)), obsm={"X_he": rng.normal(size=(300, 4)).astype("float32")})
print(torch.get_num_threads())
sd.tl.leiden(cells, k=2)
print(torch.get_num_threads())
"""


def test_torch_keeps_its_threads() -> None:
    """numba sets those of OpenMP when it begins, once a process; a teacher fitted again would then be another one."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-2:] == ["1", "1"]


def test_by_the_other_package(cells: ad.AnnData) -> None:
    """igraph and leidenalg find the same communities where these are clear."""
    both = cells.copy()
    sd.tl.leiden(both, k=5)
    sd.tl.leiden(both, k=5, flavor="leidenalg", key_added="other")
    labelled = both.obs["other_niche"].notna()
    assert adjusted_rand_score(both.obs["he_leiden_niche"][labelled], both.obs["other_niche"][labelled]) == 1
    assert both.uns["stdistill"]["leiden_other"]["flavor"] == "leidenalg"
    with pytest.raises(ValueError, match=r"flavor must be one of \['igraph', 'leidenalg'\], found 'louvain'"):
        sd.tl.leiden(cells, k=5, flavor="louvain")


def test_the_training_cells_alone_decide(cells: ad.AnnData) -> None:
    sd.tl.leiden(cells, k=5)
    other = cells.copy()
    other.obsm["X_he"][380:560] = np.random.default_rng(1).normal(size=(180, 60))
    sd.tl.leiden(other, k=5)
    assert other.uns["stdistill"]["leiden"]["resolution"] == cells.uns["stdistill"]["leiden"]["resolution"]
    assert other.obs["he_leiden_niche"][:380].tolist() == cells.obs["he_leiden_niche"][:380].tolist()


def test_labels_are_those_of_the_nearest_training_cells(cells: ad.AnnData) -> None:
    rng = np.random.default_rng(2)
    cells.obsm["X_he"] = rng.normal(size=(600, 4))  # few enough not to be reduced
    sd.tl.leiden(cells, k=4, test="label", n_neighbors=9)
    niches = cells.obs["he_leiden_niche"].to_numpy()
    train = (cells.obs["split"] == "train").to_numpy()
    neighbors = KNeighborsClassifier(9).fit(cells.obsm["X_he"][train], niches[train].astype(str))
    test = (cells.obs["split"] == "test").to_numpy()
    assert (neighbors.predict(cells.obsm["X_he"][test]) == niches[test].astype(str)).all()


def test_same_seed_same_niches(cells: ad.AnnData, tmp_path: Path) -> None:
    cells.obsm["X_he"][:590] = np.random.default_rng(0).normal(size=(590, 60))
    for key in ("a", "b"):
        sd.tl.leiden(cells, k=6, key_added=key)
    assert (cells.obs["a_niche"].dropna() == cells.obs["b_niche"].dropna()).all()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert again.obs["a_niche"].equals(cells.obs["a_niche"])
    assert again.uns["stdistill"]["leiden_a"]["k"] == 6


def test_without_a_split_and_on_a_copy(cells: ad.AnnData) -> None:
    copied = sd.tl.leiden(cells, k=5, split_key=None, copy=True)
    assert "he_leiden_niche" not in cells.obs
    assert copied.obs["he_leiden_niche"].notna().sum() == 590
    record = copied.uns["stdistill"]["leiden"]
    assert "n_clusters_test" not in record
    assert "test" not in record


def test_k_that_cannot_be_met(make_cells: Callable) -> None:
    """Three tissues without any link between them cannot be two communities."""
    rng = np.random.default_rng(0)
    cells = make_cells(150)
    cells.obsm["X_he"] = np.repeat(np.eye(3) * 100, 50, axis=0) + rng.normal(size=(150, 3))
    with pytest.warns(UserWarning, match=r"gives k=2 clusters of the 150 cells.*is used, with 3") as caught:
        sd.tl.leiden(cells, k=2)
    assert [w.filename for w in caught if "k=2" in str(w.message)] == [__file__]
    assert cells.obs["he_leiden_niche"].nunique() == 3
    assert cells.uns["stdistill"]["leiden"]["n_clusters"] == 3


@pytest.mark.parametrize("k", [2, 3, 9, 40])
def test_the_resolution_is_found(k: int) -> None:
    tried = []

    def communities(resolution: float) -> np.ndarray:
        tried.append(resolution)
        return np.arange(1 + int(7 * resolution**1.3))

    found = search_resolution(communities, k, fewest=1)
    assert found.n_clusters == k
    assert found.resolution == tried[-1]
    assert len(tried) < 15


def test_the_nearest_number_below_is_taken() -> None:
    found = search_resolution(lambda resolution: np.arange(4 if resolution < 1.37 else 6), 5, fewest=1)
    assert found.n_clusters == 4
    assert found.resolution < 1.37


def test_the_search_ends_where_there_are_no_fewer() -> None:
    tried = []

    def communities(resolution: float) -> np.ndarray:
        tried.append(resolution)
        return np.arange(12 if resolution > 0.3 else 8)

    assert search_resolution(communities, 5, fewest=8).n_clusters == 8
    assert tried == [1, 0.5, 0.25]


def test_clusters_go_by_the_nearest_centre() -> None:
    named = np.array([[0.0], [0], [10], [20]], dtype=np.float32)
    others = np.array([[19.0], [1], [11], [11], [50]], dtype=np.float32)
    names = nearest_names(others, np.array([0, 1, 2, 2, 3]), named, np.array([0, 0, 1, 2]))
    # Four clusters, three names: the one that is left over is new.
    assert names[1:4].tolist() == [0, 1, 1]
    assert sorted({names[0], names[4]}) == [2, 3]


def test_many_cells_are_searched_approximately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of cores; the exact and the approximate search agree on nearly all neighbours."""
    from stdistill._measures import feature_graph

    features = np.random.default_rng(0).normal(size=(2000, 10)).astype(np.float32)
    exact = feature_graph.NeighborSearch(2000, 10, 0).fit_transform(features)
    monkeypatch.setattr(feature_graph, "EXACT_UP_TO", 100)
    search = feature_graph.NeighborSearch(2000, 10, 0)
    found = search.fit_transform(features)
    assert isinstance(found, csr_matrix)
    shared = found.sign().multiply(exact.sign()).sum() / exact.sign().sum()
    assert shared > 0.95
    again = feature_graph.NeighborSearch(2000, 10, 0).fit_transform(features)
    assert (again != found).nnz == 0
    assert search.nearest(features[:5]).shape == (5, 10)
    assert search.nearest(features[:5])[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_bad_input(cells: ad.AnnData) -> None:
    def fails(error: type[Exception], match: str, **changed: Any) -> None:
        with pytest.raises(error, match=match):
            sd.tl.leiden(cells, **{"k": 5, **changed})

    fails(KeyError, r"use_rep='X_uni' is not a key of .obsm; there is: 'X_he', 'spatial'", use_rep="X_uni")
    fails(ValueError, "k must be at least 2, found 1", k=1)
    fails(TypeError, "k must be an integer, found 5.0", k=5.0)
    fails(ValueError, r"test must be one of \['cluster', 'label'\], found 'both'", test="both")
    fails(ValueError, "key_added must be a name", key_added="a b")
    fails(KeyError, "split_key='strips' is not a column", split_key="strips")
    fails(ValueError, r"180 test cells have features; at least 201 are needed", k=200)
    cells.obsm["ids"] = np.arange(600)[:, None]
    fails(TypeError, r"'ids'\] is a ndarray of int64, of shape \(600, 1\); expected a dense array", use_rep="ids")
    cells.obsm["sparse"] = csr_matrix(cells.obsm["X_he"].astype(np.float32))
    fails(TypeError, r"is a csr_matrix of float32, of shape \(600, \d+\); expected a dense", use_rep="sparse")
    cells.obs["split"] = pd.Categorical(["train"] * 600)
    fails(ValueError, r"No cell is 'test' in the split, which holds \['train'\]")
    del cells.obsm["X_he"]
    fails(KeyError, "Compute H&E features with sd.pp.embed_he")
    assert "stdistill" not in cells.uns
    assert "he_leiden_niche" not in cells.obs


def test_features_that_overflowed(cells: ad.AnnData) -> None:
    """A NaN says that there are no features; an infinite value that there were some, which are spoilt."""
    cells.obsm["X_he"][3, 0] = np.inf
    with pytest.raises(ValueError, match="infinite values: they overflowed"):
        sd.tl.leiden(cells, k=3)
    assert "he_leiden_niche" not in cells.obs
