from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd


def test_matrix(slide: ad.AnnData, check_image: Callable) -> None:
    slide.obs["student_niche"] = slide.obs["student_niche"].cat.rename_categories(list("dbca"))
    sd.pp.split_strips(slide, crop_px=20, mpp=1.0)
    ax = sd.pl.confusion(slide, show=False)
    check_image("confusion")
    test = slide.obs[slide.obs["split"] == "test"]
    expected = pd.crosstab(test["teacher_niche"], test["student_niche"], normalize="index")[list("dbca")]
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    assert [label.get_text() for label in ax.get_xticklabels()] == list("dbca")
    assert ax.get_title() == f"{test['student_niche'].notna().sum()} cells (test)"


def test_partners_are_on_the_diagonal_and_the_others_last(slide: ad.AnnData) -> None:
    names = {"0": "9", "1": "8", "2": "7", "3": "0"}
    renamed = slide.obs["teacher_niche"].astype(str).map(names)
    renamed[:30] = "1"
    slide.obs["student_niche"] = pd.Categorical(renamed)
    ax = sd.pl.confusion(slide, split_key=None, title="all", show=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["9", "8", "7", "0", "1"]
    assert (np.diag(ax.images[0].get_array()[:, :4]) > 0.8).all()


def test_bad_input(slide: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"key='he_niche' is not a column of .obs; there is: .*'student_niche'"):
        sd.pl.confusion(slide, key="he_niche")
    slide.obs["student_niche"] = slide.obs["student_niche"].where(slide.obs["teacher_niche"] == "0")
    slide.obs["teacher_niche"] = slide.obs["teacher_niche"].where(slide.obs["teacher_niche"] != "0")
    with pytest.raises(ValueError, match=r"No cell \(all\) has a niche in both"):
        sd.pl.confusion(slide)
