from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.fitting.inputs import fitting_inputs
from stdistill._table.records import write_record


@pytest.fixture
def make(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    def make(*, seed: int = 0, split: str = "train", images: str | None = None) -> ad.AnnData:
        cells = make_cells(200, seed=seed, extent=300.0)
        cells.obsm["X_he"] = np.random.default_rng(seed).normal(size=(200, 4)).astype("float16")
        cells.obs["split"] = pd.Categorical([split] * 200)
        sd.pp.neighborhoods(cells, radius_um=60)
        write_record(cells, "embed_he", images=images, key_added="X_he")
        return cells

    return make


def check(*tables: ad.AnnData) -> None:
    fitting_inputs(tables, use_rep="X_he", library_key=None, split_key="split")


def test_cells_that_are_there_twice(make: Callable[..., ad.AnnData]) -> None:
    with pytest.raises(ValueError, match=r"200 of the 200 cells that are 'test' are 'train' as well"):
        check(make(), make(split="test"))
    part = make(split="test")[:30].copy()
    sd.pp.neighborhoods(part, radius_um=60)
    with pytest.raises(ValueError, match=r"30 of the 30 cells"):
        check(make(), part)
    check(make(), make())  # more weight, and no test
    check(make(), make(seed=1, split="test"))


def test_one_image_in_two_tables(make: Callable[..., ad.AnnData]) -> None:
    with pytest.warns(UserWarning, match=r"Two of the tables show one H&E"):
        check(make(images="a+b"), make(seed=1, split="test", images="b"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(make(images="a"), make(seed=1, split="test", images="b"))
        check(make(images="a"), make(seed=1, images="a"))
        check(make(images="a"), make(seed=1, split="test"))
