"""A model knows the cells that it was fitted on, whatever became of the table that knew it."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

FAST = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 1, "progress_bar": False}
FAST |= {"batch_size": 64, "accelerator": "cpu", "learning_rate": 5e-3, "teacher_key": "region"}


def make(n: int = 500, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 600, (n, 2))
    band = (centers[:, 0] > 300).astype(int)
    cells = ad.AnnData(np.ones((n, 1), dtype="float32"), obsm={"spatial": centers})
    cells.obsm["X_he"] = (np.eye(2)[band] + rng.normal(0, 0.5, (n, 2))).astype("float16")
    cells.obs["region"] = pd.Categorical(np.array(["left", "right"])[band])
    sd.pp.split_strips(cells, crop_px=40, mpp=0.5)
    sd.pp.neighborhoods(cells, radius_um=60)
    return cells


def is_refused(cells: ad.AnnData, column: str) -> None:
    with pytest.raises(ValueError, match=rf"had a part in fitting '{column}'"):
        sd.tl.agreement(cells, reference_key="region", keys=column)


def other_split(cells: ad.AnnData) -> None:
    sd.pp.split_strips(cells, crop_px=40, mpp=0.5, test_strip=2)
    sd.pp.neighborhoods(cells, radius_um=60)


def test_the_first_student_after_another_took_its_key(tmp_path: Path) -> None:
    cells = make()
    first = sd.tl.distill(cells, **FAST)
    training = cells.obs["student_fitted"].copy()
    first.save(tmp_path / "first")
    other_split(cells)
    sd.tl.distill(cells, **FAST)
    assert not cells.obs["student_fitted"].equals(training)
    for model in (first, tmp_path / "first"):
        sd.tl.predict(cells, model, key_added="first")
        np.testing.assert_array_equal(cells.obs["first_fitted"], training)
        is_refused(cells, "first_niche")
    sd.tl.agreement(cells, reference_key="region", keys="student_niche")


def test_a_copy_that_was_made_before() -> None:
    cells = make()
    copy = cells[np.random.default_rng(1).permutation(cells.n_obs)[:300]].copy()
    student = sd.tl.distill(cells, **FAST)
    sd.pp.neighborhoods(copy, radius_um=60)
    sd.tl.predict(copy, student)
    np.testing.assert_array_equal(copy.obs["student_fitted"], cells.obs["student_fitted"][copy.obs_names])
    other_split(copy)
    is_refused(copy, "student_niche")


def test_the_model_of_one_table_with_the_key_of_another() -> None:
    """Records that go by the name of the key must not speak for a model that is not theirs."""
    cells, other = make(), make(seed=1)
    mine, theirs = sd.tl.distill(cells, **FAST), sd.tl.distill(other, **FAST)
    sd.tl.predict(cells, theirs)
    assert not cells.obs["student_fitted"].any()
    assert cells.uns["stdistill"].keys() & {"distill", "predict"} == {"predict"}
    sd.tl.predict(cells, mine)
    assert cells.obs["student_fitted"].sum() == (cells.obs["split"] == "train").sum()


def test_a_student_remembers_the_cells_of_its_teacher() -> None:
    cells = make()
    sd.tl.nolan(cells, k=2, use_rep="X_he", **{key: FAST[key] for key in FAST if key != "teacher_key"})
    taught = cells.obs["teacher_fitted"].to_numpy()
    cells.obs["split"] = np.where(taught & (np.arange(500) % 2 == 0), "buffer", cells.obs["split"])
    sd.pp.neighborhoods(cells, radius_um=60)
    student = sd.tl.distill(cells, k=2, **{**FAST, "teacher_key": "teacher"})
    bare = make()
    sd.tl.predict(bare, student)
    np.testing.assert_array_equal(bare.obs["student_fitted"], taught)


def test_other_slides_are_not_known() -> None:
    student = sd.tl.distill(make(), **FAST)
    other = make(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(other, student)
    assert not other.obs["student_fitted"].any()


def test_the_same_slide_with_other_cells(bundle: Path) -> None:
    """The H&E of the training, read alone: its nuclei show what the student was trained on."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    sd.pp.embed_he(slide, encoder="texture", crop_px=40)
    sd.pp.split_strips(slide, crop_px=40)
    cells.obs["region"] = pd.Categorical(
        np.where(cells.obsm["spatial"][:, 1] > np.median(cells.obsm["spatial"][:, 1]), "a", "b")
    )
    student = sd.tl.distill(slide, **FAST)
    assert student.card.images == [cells.uns["stdistill"]["embed_he"]["images"]]
    again = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(again, encoder="texture", crop_px=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(again, student)
    np.testing.assert_array_equal(again["table"].obs["student_fitted"], cells.obs["student_fitted"])

    alone = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    sd.pp.detect_nuclei(alone, method="tree")
    sd.pp.embed_he(alone, encoder="texture", crop_px=40)
    with pytest.warns(UserWarning, match=r"trained on this very H&E.*All count as fitted"):
        sd.tl.predict(alone, student)
    assert alone["table"].obs["student_fitted"].all()
    assert alone["table"].uns["stdistill"]["embed_he"]["images"] == student.card.images[0]
