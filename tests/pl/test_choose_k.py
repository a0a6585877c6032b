from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.records import write_record


@pytest.fixture
def stability() -> pd.DataFrame:
    k = np.arange(5, 31)
    rng = np.random.default_rng(0)
    mean = 0.9 - 0.012 * k + 0.12 * np.exp(-((k - 12) ** 2) / 4) + rng.normal(0, 0.01, len(k))
    span = rng.uniform(0.02, 0.06, (2, len(k)))
    return pd.DataFrame(
        {
            "k": k,
            "ari_runs": mean,
            "ari_runs_min": mean - span[0],
            "ari_runs_max": mean + span[1],
            "ari_neighbors": mean - 0.05,
            "occupied_niches": np.minimum(k, 15 + 0.5 * (k - 15)),
        }
    )


def test_curves(stability: pd.DataFrame, check_image: Callable) -> None:
    axes = sd.pl.choose_k(stability, show=False)
    check_image("choose_k")
    assert [ax.get_title() for ax in axes] == ["stability", "occupied niches"]
    runs, neighbors = axes[0].lines
    np.testing.assert_array_equal(runs.get_xydata(), stability[["k", "ari_runs"]])
    np.testing.assert_array_equal(neighbors.get_ydata(), stability["ari_neighbors"])
    (band,) = axes[0].collections
    extent = band.get_paths()[0].get_extents()
    assert (extent.ymin, extent.ymax) == (stability["ari_runs_min"].min(), stability["ari_runs_max"].max())
    np.testing.assert_array_equal(axes[1].lines[1].get_ydata(), stability["occupied_niches"])
    names = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert names == ["between runs", "with neighbouring k"]
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["all k niches"]


def test_from_the_table(stability: pd.DataFrame, tmp_path: Path) -> None:
    """What was kept on disk is drawn as what was returned."""
    cells = ad.AnnData(np.zeros((3, 1)))
    write_record(cells, "choose_k", **{name: values.to_numpy() for name, values in stability.items()}, n_runs=3)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    drawn = sd.pl.choose_k(ad.read_h5ad(tmp_path / "cells.h5ad"), show=False)
    expected = sd.pl.choose_k(stability, show=False)
    for one, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(one.lines[0].get_xydata(), other.lines[0].get_xydata())


def test_one_k(stability: pd.DataFrame) -> None:
    alone = stability[:1].assign(ari_neighbors=np.nan)
    stable, _ = sd.pl.choose_k(alone, show=False)
    assert stable.lines[0].get_ydata().tolist() == [stability.loc[0, "ari_runs"]]


def test_scanpys_manners(stability: pd.DataFrame, tmp_path: Path) -> None:
    _, given = plt.subplots(1, 2)
    colors = {"between runs": "#ff0000", "with neighbouring k": "#0000ff"}
    axes = sd.pl.choose_k(stability, ax=list(given), palette=colors, title=["a", "b"])
    assert axes == list(given)
    assert [line.get_color() for line in axes[0].lines] == ["#ff0000", "#0000ff"]
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    sd.pl.choose_k(stability, save=tmp_path / "k.pdf")
    assert (tmp_path / "k.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn(stability: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"run sd.tl.choose_k first"):
        sd.pl.choose_k(ad.AnnData(np.zeros((3, 1))))
    with pytest.raises(ValueError, match=r"lacks the columns \['ari_runs_min'\]"):
        sd.pl.choose_k(stability.drop(columns="ari_runs_min"))
    with pytest.raises(ValueError, match="has 0 rows"):
        sd.pl.choose_k(stability[:0])
    with pytest.raises(TypeError, match=r"found the path .stability\.csv.: read it first"):
        sd.pl.choose_k("stability.csv")
    with pytest.raises(ValueError, match="title holds 1 titles; there are 2 panels"):
        sd.pl.choose_k(stability, title="stability")
    with pytest.raises(ValueError, match="palette has 1 colours; 2 are needed"):
        sd.pl.choose_k(stability, palette=["red"])
