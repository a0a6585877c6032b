from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

TYPES = ["Cancer epithelial", "CAFs MSC/iCAF", "NK cells", "Plasmablasts"]


@pytest.fixture
def scores() -> pd.DataFrame:
    """Of two keys, on cells that were fitted and on others; one key has no correlation for the last type."""
    cc = {
        ("he_abundance", "unseen"): [0.5, 0.3, 0.4, np.nan, 0.4],
        ("ridge", "unseen"): [0.4, 0.35, 0.1, -0.1, 0.1875],
        ("he_abundance", "fitted"): [0.7, 0.6, 0.5, np.nan, 0.6],
        ("ridge", "fitted"): [0.5, 0.4, 0.2, 0.1, 0.3],
    }
    return pd.DataFrame(
        [
            {"key": key, "cells": cells, "type": name, "cc": value, "n_undefined": int(np.isnan(value))}
            for (key, cells), values in cc.items()
            for name, value in zip([*TYPES, "all"], values, strict=True)
        ]
    ).assign(
        n_undefined=lambda frame: frame["n_undefined"].where(frame["type"] != "all", frame["key"] == "he_abundance")
    )


def test_dots(scores: pd.DataFrame, check_image: Callable) -> None:
    axes = sd.pl.abundance_scores(scores, show=False)
    check_image("abundance_scores")
    assert [ax.get_title() for ax in axes] == ["unseen", "fitted"]
    unseen, fitted = axes
    assert unseen.get_xlim() == fitted.get_xlim()
    assert unseen.get_xlabel() == "CC"
    # By the mean over keys and groups.
    assert [tick.get_text() for tick in unseen.get_yticklabels()] == TYPES
    dots = {line.get_label().split("\n")[0]: line for line in unseen.lines if line.get_marker() == "o"}
    assert dots["he_abundance"].get_xdata().tolist() == [0.5, 0.3, 0.4]
    assert dots["ridge"].get_xdata().tolist() == [0.4, 0.35, 0.1, -0.1]
    assert np.rint(dots["ridge"].get_ydata()).tolist() == [0, 1, 2, 3]
    assert sum(line.get_marker() == "x" for line in unseen.lines) == 1
    labels = [text.get_text() for text in unseen.get_legend().get_texts()]
    assert labels == ["he_abundance\nmean 0.400, 1 undefined", "ridge\nmean 0.188"]
    means = [line.get_xdata()[0] for line in unseen.lines if line.get_linestyle() == "--"]
    assert means == [0.4, 0.1875]


def test_one_key_of_all_cells(scores: pd.DataFrame) -> None:
    one = scores[(scores["key"] == "ridge") & (scores["cells"] == "unseen")].assign(cells="all")
    ax = sd.pl.abundance_scores(one, palette=["red"], title="Patient B", show=False)
    assert ax.get_title() == "Patient B"
    (dots,) = (line for line in ax.lines if line.get_marker() == "o")
    assert dots.get_color() == "red"
    assert dots.get_ydata().tolist() == [0, 1, 2, 3]


def test_a_key_without_one_of_the_groups(scores: pd.DataFrame) -> None:
    some = scores[(scores["key"] == "ridge") | (scores["cells"] == "unseen")]
    _, fitted = sd.pl.abundance_scores(some, show=False)
    assert [text.get_text() for text in fitted.get_legend().get_texts()] == ["ridge\nmean 0.300"]


def test_nothing_is_defined(scores: pd.DataFrame) -> None:
    ax = sd.pl.abundance_scores(scores[scores["cells"] == "unseen"].assign(cc=np.nan), show=False)
    assert sum(line.get_marker() == "x" for line in ax.lines) == 8
    plt.gcf().canvas.draw()


def test_other_frames(scores: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"Expected the frame that sd\.tl\.abundance_scores returns, found dict"):
        sd.pl.abundance_scores({})
    with pytest.raises(ValueError, match=r"it lacks the columns \['cc'\]"):
        sd.pl.abundance_scores(scores.drop(columns="cc"))
    with pytest.raises(ValueError, match="the one given has 0 rows"):
        sd.pl.abundance_scores(scores[:0])
    with pytest.raises(KeyError, match="category='ridge' is not a name in the palette"):
        sd.pl.abundance_scores(scores, palette={"he_abundance": "red"})
    assert not plt.get_fignums()
