"""What teaches, of several tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._table.fitting.targets import read_targets, warn_of_labels_alone
from stdistill._table.niches import write_niches


def test_whole_numbers_that_became_floating_point(make_cells: Callable[..., ad.AnnData]) -> None:
    """As a column of clusters does where one is missing: 1.0 is the 1 of the other table, with its colour."""
    one = make_cells(3, cluster=pd.Categorical([1, 2, 1]))
    other = make_cells(3, cluster=pd.Categorical([2.0, np.nan, 3.5]))
    other.uns["cluster_colors"] = ["#000002", "#000003"]
    found = read_targets([one, other], "cluster", 2)
    assert found.niches == ["1", "2", "3.5"]
    assert found.values.tolist() == [0, 1, 0, 1, -1, 2]
    assert found.colors[1:] == ["#000002", "#000003"]


def test_labels_in_the_place_of_logits(make_cells: Callable[..., ad.AnnData]) -> None:
    """The column says less than the logits beside it, unless niches were merged in it on purpose."""
    cells = make_cells(3)
    write_niches(cells, "teacher", np.eye(3, dtype=np.float32), niches=["0", "1", "2"], colors=["red", "green", "blue"])
    with pytest.warns(UserWarning, match="teacher_key='teacher' teaches its logits"):
        warn_of_labels_alone([cells], "teacher_niche")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_labels_alone([cells], "teacher")
        cells.obs["merged_niche"] = cells.obs["teacher_niche"]
        warn_of_labels_alone([cells], "merged_niche")
    cells.obs["teacher_niche"] = pd.Categorical(["0", "1", "1"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_labels_alone([cells], "teacher_niche")
    assert not any("teaches its logits" in str(each.message) for each in said)


def test_labels_in_two_spellings(make_cells: Callable[..., ad.AnnData]) -> None:
    """Two pathologists' slides: what the one calls Tumour and the other tumour is one niche, or is said to be two."""
    tables = [make_cells(), make_cells()]
    for table, names in zip(tables, (["Tumour", "stroma"], ["tumour", "stroma"]), strict=True):
        table.obs["pathology"] = pd.Categorical.from_codes(np.arange(table.n_obs) % 2, names)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_targets([table], "pathology", 2)
    with pytest.warns(UserWarning, match=r"differ in blanks or capitals alone, .*: 'Tumour', 'tumour'\."):
        assert read_targets(tables, "pathology", 2).niches == ["Tumour", "stroma", "tumour"]
