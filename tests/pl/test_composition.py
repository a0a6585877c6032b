from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import stdistill as sd


@pytest.fixture
def result(slide: ad.AnnData) -> pd.DataFrame:
    slide.obs["teacher_niche"] = slide.obs["teacher_niche"].cat.add_categories("empty")
    return sd.tl.composition(slide, niche_key="teacher_niche", cell_type_key="cell_type")


def test_heatmap(result: pd.DataFrame, check_image: Callable) -> None:
    ax = sd.pl.composition(result, show=False)
    check_image("composition_heatmap")
    drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn, result.to_numpy())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2", "3", "empty"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("cell_type", "teacher_niche")


def test_bars(result: pd.DataFrame, check_image: Callable) -> None:
    palette = dict(zip("EDCBA", ["#0000ff", "#00ff00", "#ff0000", "#ffff00", "#00ffff"], strict=True))
    ax = sd.pl.composition(result, kind="bars", palette=palette, title="Teacher", show=False)
    check_image("composition_bars")
    for cell_type, bars in zip("ABCDE", ax.containers, strict=True):
        widths = [bar.get_width() for bar in bars]
        np.testing.assert_allclose(widths, result[cell_type].fillna(0))
        assert to_hex(bars[0].get_facecolor()) == palette[cell_type]
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    np.testing.assert_allclose(ends, [1, 1, 1, 1, 0])


def test_what_is_no_composition(result: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="found dict"):
        sd.pl.composition({})
    with pytest.raises(ValueError, match="do not sum to 1"):
        sd.pl.composition(2 * result)
    with pytest.raises(ValueError, match="do not sum to 1"):
        sd.pl.composition(result.astype(str))
    with pytest.raises(ValueError, match="do not sum to 1"):
        sd.pl.composition(result * np.nan)
    with pytest.raises(ValueError, match=r"has 5 rows and the columns \[\]"):
        sd.pl.composition(result[[]])
    with pytest.raises(ValueError, match=r"kind must be one of \['heatmap', 'bars'\], found 'pie'"):
        sd.pl.composition(result, kind="pie")
    with pytest.raises(ValueError, match="palette has 2 colours; 5 are needed"):
        sd.pl.composition(result, kind="bars", palette=["red", "blue"])
    with pytest.raises(KeyError, match="cmap='jett' is not a colour map"):
        sd.pl.composition(result, cmap="jett")
