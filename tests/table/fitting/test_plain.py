"""What plain models write to tables."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.fitting.inputs import fitting_inputs
from stdistill._table.fitting.plain import write_plain
from stdistill._table.fitting.results import Naming

KEYS = {"split_key": "split", "library_key": None}


@pytest.fixture
def make_table(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    def make(seed: int = 0) -> ad.AnnData:
        cells = make_cells(60, extent=300.0, seed=seed)
        cells.obsm["X_he"] = np.random.default_rng(seed).normal(size=(60, 4)).astype("float16")
        x = cells.obsm["spatial"][:, 0]
        cells.obs["split"] = pd.Categorical(np.select([x < 120, x > 205], ["train", "test"], "buffer"))
        sd.pp.neighborhoods(cells, radius_um=80)
        return cells

    return make


def test_each_table_gets_its_part(make_table: Callable[..., ad.AnnData]) -> None:
    tables = [make_table(seed) for seed in (0, 1)]
    inputs = fitting_inputs(tables, use_rep="X_he", **KEYS)
    logits = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    logits[~inputs.eligible] = np.nan
    naming = Naming("kmeans_niches", "plain", "X_he", list("abc"), ["#ff0000", "#00ff00", "#0000ff"])
    write_plain(inputs, naming, logits, inputs.training, **KEYS, seed=7)
    for table, part in zip(tables, np.split(logits, 2), strict=True):
        np.testing.assert_array_equal(sd.get.logits(table, "plain"), part)
        assert set(table.obs["plain_niche"].dropna()) <= set("abc")
        assert table.obs["plain_fitted"].equals(table.obs["split"] == "train")
        record = table.uns["stdistill"]["kmeans_niches_plain"]
        assert (record["k"], record["seed"], record["radius_um"], record["split_key"]) == (3, 7, 80, "split")
        assert table.obs["plain_model"].iloc[0] == record["model_sha256"][:16]
        assert "teacher_key" not in record
    first, second = (table.uns["stdistill"]["kmeans_niches_plain"] for table in tables)
    assert first["model_sha256"] == second["model_sha256"]
    assert first["fingerprint"] != second["fingerprint"]
