from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spatialdata
import xarray as xr

import stdistill as sd
from stdistill._table.niches import write_niches


def test_pixels_of_the_cells(make_slide: Callable) -> None:
    slide = make_slide(np.array([[2.125, 4.25], [21.25, 42.5]]), he_to_global=np.diag([2.0, 2, 1]), shape=(60, 60))
    pixels = sd.get.he_pixels(slide)
    np.testing.assert_allclose(pixels[["x", "y"]], [[5, 10], [50, 100]])
    assert pixels["on_image"].tolist() == [True, False]
    assert pixels["image_key"].tolist() == ["he", "he"]
    np.testing.assert_allclose(pixels["mpp"], 0.425)
    assert pixels.index.equals(slide["table"].obs_names)


def test_two_slides(make_slide: Callable) -> None:
    parts = {"a": make_slide(30), "b": make_slide(20, he_to_global=np.diag([2.0, 2, 1]))}
    both = spatialdata.concatenate(parts, concatenate_tables=True)
    pixels = sd.get.he_pixels(both, image_key={"cells-a": "he-a", "cells-b": "he-b"})
    assert pixels.groupby("image_key", observed=True)["mpp"].first().to_dict() == pytest.approx(
        {"he-a": 0.2125, "he-b": 0.425}
    )
    np.testing.assert_allclose(pixels[["x", "y"]][:30], sd.get.he_pixels(parts["a"])[["x", "y"]])


def test_logits(make_cells: Callable) -> None:
    cells = make_cells(3)
    values = np.array([[1, 2], [3, 4], [np.nan, np.nan]], dtype=np.float32)
    write_niches(cells, "student", values, niches=["tumour", "stroma"], colors=["#000000", "#ffffff"])
    found = sd.get.logits(cells, "student")
    np.testing.assert_array_equal(found, values)
    assert found.dtypes.tolist() == [np.float32, np.float32]
    assert found.columns.tolist() == ["tumour", "stroma"]
    assert found.index.equals(cells.obs_names)
    with pytest.raises(KeyError, match=r"key='teacher' is not a prefix of logits in \.obs; there is: 'student'.*nolan"):
        sd.get.logits(cells, "teacher")


def test_logits_of_a_spatialdata(make_slide: Callable) -> None:
    slide = make_slide(5)
    write_niches(slide["table"], "student", np.eye(5), niches=list("abcde"), colors=["#000000"] * 5)
    assert sd.get.logits(slide, "student").shape == (5, 5)


def test_crops_are_those_that_are_embedded(bundle: Path) -> None:
    from torch import nn

    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"].obs_names[[5, 3, 700, 5]]
    slide.tables["table"] = slide["table"][cells.unique()].copy()
    encoder = sd.encoders.from_module(nn.Flatten(), mean=(0, 0, 0), std=(1 / 255,) * 3)
    for mpp in (None, 0.4):
        sd.pp.embed_he(slide, encoder=encoder, crop_px=24, mpp=mpp)
        crops = sd.get.he_crops(slide, cells=cells)
        features = slide["table"][cells].obsm["X_he"].reshape(4, 3, 24, 24).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(crops, features, atol=0.6)


def test_crops_of_other_features(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    slide.tables["table"] = slide["table"][:5].copy()
    cells = slide["table"].obs_names
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, key_added="X_other", mpp=0.5)
    np.testing.assert_array_equal(
        sd.get.he_crops(slide, cells=cells, use_rep="X_other"), sd.get.he_crops(slide, cells=cells, crop_px=64, mpp=0.5)
    )
    assert sd.get.he_crops(slide, cells=cells).shape == (5, 224, 224, 3)
    with pytest.raises(KeyError, match=r"use_rep='X_uni' is not features in \.obsm; there is: 'X_other', 'spatial'"):
        sd.get.he_crops(slide, cells=cells, use_rep="X_uni")


def test_crops_of_unknown_cells(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    with pytest.raises(KeyError, match=r"1 of the cells are not in the table, such as 'nobody'"):
        sd.get.he_crops(slide, cells=["nobody"])


def test_crops_of_an_image_that_was_replaced(bundle: Path) -> None:
    """What is shown is not what the features are of."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(slide, encoder="texture", crop_px=32)
    names = slide["table"].obs_names[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = sd.get.he_crops(slide, cells=names)
    with xr.set_options(keep_attrs=True):
        slide.images["he"] = slide.images["he"].map_over_datasets(lambda level: 255 - level if level else level)
    with pytest.warns(UserWarning, match=r"'he' is not the image that \.obsm\['X_he'\] was computed from"):
        after = sd.get.he_crops(slide, cells=names)
    np.testing.assert_array_equal(after, 255 - before)
