from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

import stdistill as sd
from stdistill._table.marks import check_rows, fingerprint_rows, mark_cells, mark_counts, write_features

RNG = np.random.default_rng(0)
CENTERS = RNG.uniform(0, 5000, (3000, 2))
FEATURES = RNG.normal(size=(3000, 7)).astype(np.float16)


def test_a_cell_has_its_mark_in_any_table() -> None:
    marks = mark_cells(FEATURES, CENTERS)
    assert len(np.unique(marks)) == 3000
    order = RNG.permutation(3000)[:500]
    np.testing.assert_array_equal(mark_cells(FEATURES[order], CENTERS[order]), marks[order])
    np.testing.assert_array_equal(mark_cells(FEATURES.astype(np.float64), CENTERS.astype(np.float32)), marks)
    np.testing.assert_array_equal(mark_cells(np.asfortranarray(FEATURES), np.asfortranarray(CENTERS)), marks)


def test_features_and_places_both_count() -> None:
    marks = mark_cells(FEATURES, CENTERS)
    assert not (mark_cells(FEATURES, CENTERS + 0.01) == marks).any()
    other = FEATURES.copy()
    other[:, 3] = np.nextafter(other[:, 3], np.float16(np.inf))
    assert not (mark_cells(other, CENTERS) == marks).any()
    swapped = FEATURES[:, ::-1]
    assert not (mark_cells(swapped, CENTERS) == marks).any()
    same = np.ones_like(FEATURES)
    assert len(np.unique(mark_cells(same, CENTERS))) == 3000


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mark_cells(FEATURES, CENTERS)
    monkeypatch.setattr("stdistill._table.marks.CHUNK", 40)
    np.testing.assert_array_equal(mark_cells(FEATURES, CENTERS), whole)


def test_counts() -> None:
    counts = RNG.poisson(0.5, (3000, 40)).astype(np.float32)
    marks = mark_counts(counts, CENTERS)
    np.testing.assert_array_equal(mark_counts(csr_matrix(counts), CENTERS), marks)
    np.testing.assert_array_equal(mark_counts(counts.astype(np.int32), CENTERS), marks)
    assert len(np.unique(marks)) == 3000
    assert not (mark_counts(counts[:, ::-1], CENTERS) == marks)[counts[:, 0] != counts[:, -1]].any()
    np.testing.assert_array_equal(mark_counts(counts, None), mark_counts(csr_matrix(counts), None))


def test_features_are_told_apart_in_any_order() -> None:
    whole = fingerprint_rows(FEATURES)
    assert fingerprint_rows(FEATURES[RNG.permutation(3000)].astype(np.float64)) == whole
    column = FEATURES.copy()
    column[:, 2] = RNG.permutation(column[:, 2])
    assert len({whole, fingerprint_rows(column), fingerprint_rows(FEATURES[1:]), fingerprint_rows(-FEATURES)}) == 4


MOVED = r"Rows of \.obs and of \.obsm\['X_he'\] do not belong together any more"


def make(n: int = 3000) -> ad.AnnData:
    obs = pd.DataFrame({"kind": RNG.choice(list("abc"), n)}, index=[f"cell-{row}" for row in range(n)])
    cells = ad.AnnData(obs=obs, obsm={"spatial": CENTERS[:n]})
    assert write_features(cells, "X_he", FEATURES[:n]) == fingerprint_rows(FEATURES[:n])
    return cells


def sort_obs(cells: ad.AnnData) -> None:
    cells.obs = cells.obs.sort_values("kind", kind="stable")


def sort_features(cells: ad.AnnData) -> None:
    cells.obsm["X_he"] = cells.obsm["X_he"][np.argsort(cells.obs["kind"].to_numpy(), kind="stable")]


@pytest.mark.parametrize("move", [sort_obs, sort_features])
@pytest.mark.parametrize("form", ["as it is", "subset", "view", "shuffled", "h5ad", "backed", "zarr", "concatenated"])
def test_rows_that_were_moved_by_themselves(move: Callable[[ad.AnnData], None], form: str, tmp_path: Path) -> None:
    """In whatever form the table comes afterwards; and of one that was not moved the same form passes."""

    def in_form(cells: ad.AnnData) -> ad.AnnData:
        if form in ("h5ad", "backed"):
            path = tmp_path / f"cells-{len(list(tmp_path.iterdir()))}.h5ad"
            cells.write_h5ad(path)
            return ad.read_h5ad(path, backed="r" if form == "backed" else None)
        if form == "zarr":
            cells.write_zarr(tmp_path / "cells.zarr")
            return ad.read_zarr(tmp_path / "cells.zarr")
        if form == "concatenated":  # with a table that has no marks
            other = ad.AnnData(obs=pd.DataFrame(index=["a", "b"]), obsm={"X_he": FEATURES[:2]})
            return ad.concat([cells, other], join="outer")
        rows = {"subset": np.arange(0, 3000, 3), "view": np.arange(500), "shuffled": RNG.permutation(3000)}
        part = cells[rows.get(form, np.arange(3000))]
        return part if form == "view" else part.copy()

    cells = make()
    check_rows(in_form(cells))
    move(cells)
    with pytest.raises(ValueError, match=MOVED):
        check_rows(in_form(cells))


def test_every_function_that_reads_a_table_says_it() -> None:
    cells = make()
    sort_obs(cells)
    for read in (sd.pp.neighborhoods, sd.tl.choose_k, lambda moved: sd.pl.niches(moved, show=False)):
        with pytest.raises(ValueError, match=MOVED):
            read(cells)
    del cells.obsm["X_he"]  # to be computed again
    sd.pp.neighborhoods(cells, radius_um=200)


def test_features_that_were_changed_are_not_moved() -> None:
    """As where they are scaled, cells are set to missing, or some cells have the same features as others."""
    cells = make()
    cells.obsm["X_he"] = cells.obsm["X_he"] * 2
    check_rows(cells)
    features = FEATURES.copy()
    features[:900] = np.nan
    features[900:1800] = 0
    write_features(cells, "X_he", features)
    cells.obsm["X_he"][RNG.permutation(3000)[:1000]] = np.nan
    cells.obsm["X_he"][RNG.permutation(3000)[:1000]] = 0
    check_rows(cells)
    cells.obs_names = [f"slide-{name}" for name in cells.obs_names]
    check_rows(cells)
    check_rows(cells[:0].copy())


def test_a_few_rows_that_were_moved() -> None:
    cells = make(1000)
    order = np.r_[RNG.permutation(50), 50:1000]
    cells.obsm["X_he"] = cells.obsm["X_he"][order]
    n_moved = (order != np.arange(1000)).sum()
    with pytest.raises(ValueError, match=rf"{n_moved} of 1000 rows that were looked at have not the features"):
        check_rows(cells)
