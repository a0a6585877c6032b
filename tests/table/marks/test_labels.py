from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._table.marks.labels import MOST_CODES, drop_marks, warn_of_other_labels, write_label_marks

CODES = np.random.default_rng(0).integers(-1, 4, 500)


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    """Cells with four niches; every fifth has none."""
    cells = make_cells(500)
    cells.obs["student_niche"] = pd.Categorical.from_codes(CODES, list("abcd"))
    write_label_marks(cells, "student", CODES)
    return cells


def check(cells: ad.AnnData) -> None:
    warn_of_other_labels(cells, "student_niche", "student")


def rename(cells: ad.AnnData) -> ad.AnnData:
    cells.obs["student_niche"] = cells.obs["student_niche"].cat.rename_categories({"a": "tumour", "b": "stroma"})
    return cells


def merge(cells: ad.AnnData) -> ad.AnnData:
    cells.obs["student_niche"] = cells.obs["student_niche"].astype(object).replace({"b": "a"}).astype("category")
    return cells


def hide(cells: ad.AnnData) -> ad.AnnData:
    cells.obs.loc[cells.obs_names[::3], "student_niche"] = None
    return cells


def scale(cells: ad.AnnData) -> ad.AnnData:
    cells.obsm["spatial"] = cells.obsm["spatial"] / 0.2125
    return cells


def shuffle(cells: ad.AnnData) -> ad.AnnData:
    return cells[np.random.default_rng(1).permutation(500)[:300]].copy()


def join(cells: ad.AnnData) -> ad.AnnData:
    """With a table that has other labels, and no marks."""
    other = cells[:2].copy()
    other.obs_names = ["x", "y"]
    other.obs = other.obs[["student_niche"]]
    return ad.concat([cells, other], join="outer")


@pytest.mark.parametrize("change", [rename, merge, hide, scale, shuffle, join])
def test_labels_that_are_those_that_were_written(cells: ad.AnnData, change: Callable[..., ad.AnnData]) -> None:
    """Under other names, where several became one, of a part, in another order, with centres in another unit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(change(cells))


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_labels_on_disk(cells: ad.AnnData, form: str, tmp_path: Path) -> None:
    getattr(cells, f"write_{form}")(tmp_path / "cells")
    again = getattr(ad, f"read_{form}")(tmp_path / "cells")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(again)


def test_labels_that_were_edited(cells: ad.AnnData) -> None:
    some = np.flatnonzero(CODES == 1)[:7]
    cells.obs.iloc[some, cells.obs.columns.get_loc("student_niche")] = "a"
    n_labelled = (CODES >= 0).sum()
    with pytest.warns(UserWarning, match=rf"other labels than were written for 7 of {n_labelled} cells"):
        check(cells)


def test_a_label_where_none_was_written(cells: ad.AnnData) -> None:
    cells.obs["student_niche"] = cells.obs["student_niche"].fillna("a")
    n_given = (CODES == -1).sum()
    with pytest.warns(UserWarning, match=rf"were written for {n_given} of 500 cells"):
        check(cells)


@pytest.mark.parametrize("with_marks", [True, False])
def test_labels_that_were_moved(cells: ad.AnnData, with_marks: bool) -> None:
    """By themselves, or with all that was written of them: they are of other cells."""
    order = np.random.default_rng(1).permutation(500)
    for column in ["student_niche", "student_mark"][: 1 + with_marks]:
        cells.obs[column] = cells.obs[column].iloc[order].array
    with pytest.warns(UserWarning, match=r"edited, or put in another order than the rest of the table"):
        check(cells)


def test_without_centres_or_with_many_groups_there_are_no_marks(cells: ad.AnnData) -> None:
    write_label_marks(cells, "student", np.arange(500))
    assert MOST_CODES < 500
    assert "student_mark" not in cells.obs
    write_label_marks(cells, "student", CODES)
    drop_marks(cells, "student")
    assert "student_mark" not in cells.obs
    alone = ad.AnnData(obs=cells.obs[["student_niche"]])
    write_label_marks(alone, "student", CODES)
    assert list(alone.obs) == ["student_niche"]
    check(alone)
