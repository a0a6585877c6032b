from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import pytest

import stdistill as sd


def test_strips(slide: ad.AnnData, check_image: Callable) -> None:
    sd.pp.split_strips(slide, crop_px=30, mpp=1.0)
    ax = sd.pl.split(slide, show=False)
    check_image("split")
    sizes = slide.obs["split"].value_counts()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{name} ({sizes[name]})" for name in ("train", "test", "buffer")]
    assert len(set(slide.uns["split_colors"])) == 3


def test_split_under_another_name(slide: ad.AnnData) -> None:
    sd.pp.split_strips(slide, crop_px=30, mpp=1.0, key_added="fold")
    assert sd.pl.split(slide, show=False).get_title() == "fold"
    assert list(slide.uns["fold_colors"]) == ["#3f90da", "#ffa90e", "#717581"]


def test_without_a_split(slide: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"split_key='split' is not a column of .obs; .* with sd.pp.split_strips"):
        sd.pl.split(slide)
