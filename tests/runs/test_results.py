from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._runs.results import describe_inputs, describe_slide, load_results, save_results
from stdistill._table.he.slide_record import SlideRecord, write_slide_record
from stdistill._table.niches import write_niches
from stdistill._table.records import read_record, write_record


@pytest.fixture
def cells(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    cells = make_cells(40)
    logits = np.random.default_rng(0).normal(size=(40, 12)).astype("float32")
    logits[3] = np.nan
    for key in ("student_k1", "student_k12"):
        write_niches(cells, key, logits, niches=[f"n{i}" for i in range(12)], colors=["#000000"] * 12)
        write_record(cells, "distill", key_added=key, k=12, seed=0)
    cells.obsm["X_scVI"] = np.ones((40, 3), dtype="float32")
    return cells


def test_what_was_saved_comes_back(cells: ad.AnnData, make_cells: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    save_results(cells, "student_k12", tmp_path / "student.h5ad")
    fresh = make_cells(40)
    write_record(fresh, "split_strips", n_strips=4)
    load_results(fresh, tmp_path / "student.h5ad")
    expected = [name for name in cells.obs.columns if name.startswith("student_k12_")]
    assert fresh.obs.columns.tolist() == expected  # and nothing of student_k1
    pd.testing.assert_frame_equal(fresh.obs, cells.obs[expected])
    assert fresh.uns["student_k12_niche_colors"].tolist() == ["#000000"] * 12
    assert read_record(fresh, "distill", "student_k12")["k"] == 12
    assert read_record(fresh, "distill", "student_k1") == {}
    assert read_record(fresh, "split_strips")["n_strips"] == 4
    assert "X_scVI" not in fresh.obsm


def test_features(cells: ad.AnnData, make_cells: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    save_results(cells, "X_scVI", tmp_path / "latent.h5ad")
    fresh = make_cells(40)
    load_results(fresh, tmp_path / "latent.h5ad")
    np.testing.assert_array_equal(fresh.obsm["X_scVI"], cells.obsm["X_scVI"])
    assert fresh.obsm["X_scVI"].dtype == np.float32


def test_loading_replaces(cells: ad.AnnData, tmp_path: Path) -> None:
    before = cells.obs.copy()
    save_results(cells, "student_k12", tmp_path / "student.h5ad")
    cells.obs["student_k12_confidence"] = 0.0
    load_results(cells, tmp_path / "student.h5ad")
    pd.testing.assert_frame_equal(cells.obs, before, check_like=True)


def test_other_cells(cells: ad.AnnData, tmp_path: Path) -> None:
    save_results(cells, "student_k12", tmp_path / "student.h5ad")
    with pytest.raises(ValueError, match=r"student\.h5ad is of other cells"):
        load_results(cells[::-1].copy(), tmp_path / "student.h5ad")


def test_inputs_are_told_apart(make_cells: Callable[..., ad.AnnData]) -> None:
    def make() -> ad.AnnData:
        cells = make_cells(40, split=pd.Categorical(["train", "test"] * 20))
        cells.obsm["X_he"] = np.zeros((40, 5), dtype="float16")
        cells.obsm["X_scVI"] = np.zeros((40, 5), dtype="float32")
        cells.uns["spatial_neighbors"] = {"params": {"radius": 50.0}}
        slide = SlideRecord("xenium", um_to_px=np.eye(3), shape=(100, 100), digest="a")
        write_slide_record(cells, slide)
        return cells

    def describe(cells: ad.AnnData) -> dict[str, Any]:
        return {**describe_slide(cells, counts=True), **describe_inputs(cells)}

    facts = describe(make())
    assert facts == describe(make())
    moved, other_split, other_he, wider, recounted, repainted = (make() for _ in range(6))
    repainted.uns["stdistill"]["slide"]["digest"] = "b"
    recounted.X[3, 1] += 1
    moved.obsm["spatial"][7] += 1
    other_split.obs["split"] = pd.Categorical(["test", "train"] * 20)
    other_he.obsm["X_he"][7, 0] = 1
    wider.uns["spatial_neighbors"]["params"]["radius"] = 60.0
    for cells, key in (
        (moved, "cells"),
        (other_split, "split"),
        (other_he, "X_he"),
        (wider, "radius_um"),
        (recounted, "counts"),
        (repainted, "he_file"),
    ):
        changed = {name for name, value in describe(cells).items() if value != facts[name]}
        assert changed == {key}


def test_results_that_were_spoilt(cells: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "teacher.h5ad"
    save_results(cells, "teacher", path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        ValueError, match=r"teacher\.h5ad is not what a step of a run wrote .*remove it, and the step is"
    ):
        load_results(cells, path)
