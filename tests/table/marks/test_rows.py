from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.marks.cells import fingerprint_rows
from stdistill._table.marks.rows import check_rows, warn_of_edits, write_features, write_rows

RNG = np.random.default_rng(0)
CENTERS = RNG.uniform(0, 5000, (3000, 2))
FEATURES = RNG.normal(size=(3000, 7)).astype(np.float16)

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
    sort_features(cells)
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
    with pytest.raises(ValueError, match=rf"{n_moved} of 1000 rows that were looked at have not the values"):
        check_rows(cells)


def test_centres_that_were_moved_by_themselves() -> None:
    """Those that were turned, mirrored or given another unit are the same cells', also where all lie on one grid."""
    spots = make(400)
    del spots.obsm["X_he"]
    spots.obsm["spatial"] = np.stack(np.divmod(np.arange(400), 20), axis=1) * 100.0
    del spots.obs["spatial_mark"]
    write_rows(spots, "X_he", FEATURES[:400])
    for cells in (make(), spots):
        centers = cells.obsm["spatial"]
        turned = centers[:, ::-1] * [1, -1] + [0, centers[:, 0].max()]
        for same in (turned, centers * [-1, 1] + [centers[:, 0].max(), 0], centers / 0.2125, centers.astype("float32")):
            cells.obsm["spatial"] = same
            check_rows(cells)
        cells.obsm["spatial"] = centers[RNG.permutation(len(centers))]
        with pytest.raises(
            ValueError, match=r"\.obsm\['spatial'\] do not belong together.*set the centres by the names"
        ):
            check_rows(cells)


def test_marks_of_places_stay() -> None:
    """They are of the first time, so that what was written then is known again after centres got another unit."""
    cells = make()
    before = cells.obs["spatial_mark"].copy()
    cells.obsm["spatial"] = cells.obsm["spatial"] * 1000
    write_features(cells, "X_he", FEATURES)
    pd.testing.assert_series_equal(cells.obs["spatial_mark"], before)


def test_values_that_were_edited() -> None:
    cells = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_edits(cells, "X_he")
        warn_of_edits(cells[::7].copy(), "X_he")
    cells.obsm["X_he"][3] *= 2
    with pytest.warns(UserWarning, match=r"\.obsm\['X_he'\] was changed in 1 of 3000 rows since it was written"):
        warn_of_edits(cells, "X_he")
