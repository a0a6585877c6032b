from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd


@pytest.fixture
def result(slide: ad.AnnData) -> pd.DataFrame:
    slide.obs["he_leiden_niche"] = pd.Categorical((slide.obsm["spatial"][:, 0] // 70).astype(int).astype(str))
    sd.pp.split_strips(slide, crop_px=20, mpp=1.0)
    return sd.tl.agreement(slide)


def test_bars(result: pd.DataFrame, check_image: Callable) -> None:
    train, test = sd.pl.agreement(result, show=False)
    check_image("agreement")
    assert (train.get_title(), test.get_title()) == ("train", "test")
    rows = result[result["split"] == "test"]
    ari, nmi = ([bar.get_width() for bar in bars if hasattr(bar, "get_width")] for bars in test.containers)
    assert ari == rows["ari"].tolist()
    assert nmi == rows["nmi"].tolist()
    assert [label.get_text() for label in test.get_yticklabels()] == rows["method"].tolist()


def test_worse_than_chance_and_unknown(result: pd.DataFrame) -> None:
    result.loc[0, ["ari", "nmi"]] = [-0.1, np.nan]
    train, _ = sd.pl.agreement(result, palette={"NMI": "red", "ARI": "blue"}, show=False)
    assert train.get_xlim()[0] < -0.1
    assert train.containers[0][0].get_facecolor() == (0, 0, 1, 1)


def test_other_frames(result: pd.DataFrame, slide: ad.AnnData) -> None:
    with pytest.raises(TypeError, match=r"Expected the frame that sd.tl.agreement returns, found AnnData"):
        sd.pl.agreement(slide)
    with pytest.raises(ValueError, match=r"lacks the columns \['nmi'\]"):
        sd.pl.agreement(result.drop(columns="nmi"))
    with pytest.raises(ValueError, match="has 0 rows"):
        sd.pl.agreement(result[:0])
