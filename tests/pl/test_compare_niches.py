from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import stdistill as sd


@pytest.fixture
def result() -> pd.DataFrame:
    found = pd.DataFrame(
        {
            "niche": ["tumour", "stroma", "lymphoid aggregate", "fat", "nerve"],
            "effect": [-0.4, 0.1, 1.2, -0.9, np.nan],
            "lower": [-0.8, -0.3, 0.8, -1.6, np.nan],
            "upper": [0.0, 0.5, 1.6, -0.2, np.nan],
            "p": [0.04, 0.6, 0.00005, 0.01, np.nan],
            "q": [0.053, 0.6, 0.0002, 0.02, np.nan],
        }
    )
    found.attrs = {"group_key": "group", "groups": ["control", "treated"], "confidence": 0.9}
    return found


def marks(ax: plt.Axes) -> list:
    return [line for line in ax.lines if line.get_marker() == "o"]


def test_forest(result: pd.DataFrame, check_image: Callable) -> None:
    ax = sd.pl.compare_niches(result, show=False)
    check_image("compare_niches")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["lymphoid aggregate", "stroma", "tumour", "fat", "nerve"]
    assert [line.get_xdata()[0] for line in marks(ax)] == [1.2, 0.1, -0.4, -0.9]
    assert [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in marks(ax)] == [False, True, True, False]
    intervals = [line.get_xdata() for line in ax.lines if line.get_marker() != "o"][1:]
    np.testing.assert_allclose(intervals, [[0.8, 1.6], [-0.3, 0.5], [-0.8, 0.0], [-1.6, -0.2]])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["<0.0001", "0.0002", "0.600", "0.600", "0.040", "0.053", "0.010", "0.020", "p", "q"]
    assert ax.get_title() == "treated against control"
    assert "90% interval" in ax.get_xlabel()


def test_order_colours_and_a_number(result: pd.DataFrame) -> None:
    result.attrs["groups"] = None
    palette = ["red", "lime", "blue", "black", "white"]
    ax = sd.pl.compare_niches(result, sort=False, palette=palette, show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == result["niche"].tolist()
    assert [to_hex(line.get_color()) for line in marks(ax)] == ["#ff0000", "#00ff00", "#0000ff", "#000000"]
    assert ax.get_title() == "per unit of group"
    read = pd.DataFrame(result.to_dict("list"))  # as from a CSV
    assert sd.pl.compare_niches(read, show=False).get_title() == ""
    assert sd.pl.compare_niches(read, title="Mine", show=False).get_title() == "Mine"


def test_what_is_no_comparison(result: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"sd\.tl\.compare_niches returns, found dict"):
        sd.pl.compare_niches({})
    with pytest.raises(ValueError, match=r"it lacks the columns \['q'\]"):
        sd.pl.compare_niches(result.drop(columns="q"))
    with pytest.raises(ValueError, match="palette has 1 colours; 5 are needed"):
        sd.pl.compare_niches(result, palette=["red"])
