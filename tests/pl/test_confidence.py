from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import stdistill as sd


def test_maps(slide: ad.AnnData, check_image: Callable) -> None:
    slide.obs["teacher_confidence"] = np.linspace(0, 1, slide.n_obs)
    axes = sd.pl.confidence(slide, show=False)
    check_image("confidence")
    assert [ax.get_title() for ax in axes] == ["student_confidence", "teacher_confidence"]
    bars = [ax for ax in plt.gcf().axes if ax not in axes]
    assert [bar.get_ylim() for bar in bars] == [(0, 1)] * 2
    assert not slide.uns


def test_colors_of_cells(slide: ad.AnnData) -> None:
    slide = slide[:2].copy()
    slide.obsm["spatial"] = np.array([[0.0, 0.0], [100.0, 100.0]])
    slide.obs["student_confidence"] = [np.nan, 0.75]
    ax = sd.pl.confidence(slide, cmap="magma", show=False)
    pixels = ax.images[0].get_array()
    middle = int(5 / 110 * 2000)
    np.testing.assert_array_equal(pixels[middle, middle], (0xDD, 0xDD, 0xDD, 255))
    expected = np.round(255 * np.array(mpl.colormaps["magma"](0.75)))
    np.testing.assert_array_equal(pixels[-middle, -middle], expected)


def test_a_column_that_knows_missing_values(slide: ad.AnnData) -> None:
    slide.obs["student_confidence"] = slide.obs["student_confidence"].astype("Float32")
    assert sd.pl.confidence(slide, show=False).get_title() == "student_confidence"


def test_what_is_no_confidence(slide: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"keys='sure' is not a column of .obs; there is: .*'student_confidence'"):
        sd.pl.confidence(slide, keys="sure")
    with pytest.raises(TypeError, match="holds category; expected numbers between 0 and 1"):
        sd.pl.confidence(slide, keys="teacher_niche")
    with pytest.raises(KeyError, match="cmap='jett' is not a colour map"):
        sd.pl.confidence(slide, cmap="jett")
    with pytest.raises(ValueError, match="keys is empty"):
        sd.pl.confidence(slide, keys=[])
    with pytest.raises(ValueError, match="alpha must be at most 1"):
        sd.pl.confidence(slide, alpha=2)
    slide.obs["student_confidence"] = 3.0
    with pytest.raises(ValueError, match="values outside 0 to 1, from 3 to 3"):
        sd.pl.confidence(slide)
    slide.obs["student_confidence"] = np.nan
    with pytest.raises(ValueError, match="is missing for every cell"):
        sd.pl.confidence(slide)
    del slide.obs["student_confidence"]
    with pytest.raises(KeyError, match=r"There is no column \*_confidence"):
        sd.pl.confidence(slide)
    assert not plt.get_fignums()
