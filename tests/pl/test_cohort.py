from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import stdistill as sd

NICHES = ["tumour", "stroma", "lymphoid aggregate", "fat"]


@pytest.fixture
def cohort() -> ad.AnnData:
    """Slides in turn of two kinds of composition, and of two groups."""
    rng = np.random.default_rng(0)
    kinds = np.array([[8, 3, 1, 1], [1, 3, 2, 8]])[np.arange(12) // 3 % 2]
    shares = np.array([rng.dirichlet(4 * kind) for kind in kinds]).astype(np.float32)
    obs = pd.DataFrame({"group": ["treated", "control"] * 6}, index=[f"slide {number}" for number in range(12)])
    found = ad.AnnData(shares, obs=obs, var=pd.DataFrame(index=NICHES))
    found.layers["area"] = shares[:, ::-1].copy()
    found.uns["niche_colors"] = np.array(["#111111", "#222222", "#333333", "#444444"], dtype=object)
    return found


def names(ax: plt.Axes) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def drawn(ax: plt.Axes) -> np.ndarray:
    return np.array([[bar.get_height() for bar in bars] for bars in ax.containers]).T


def test_groups(cohort: ad.AnnData, check_image: Callable) -> None:
    del cohort.uns["niche_colors"]
    cohort.obs.loc["slide 4", "group"] = None
    ax = sd.pl.cohort(cohort, group_key="group", show=False)
    check_image("cohort")
    order = names(ax)
    assert sorted(order) == sorted(cohort.obs_names)
    groups = cohort.obs.loc[order, "group"].fillna("missing").tolist()
    assert groups == ["control"] * 6 + ["treated"] * 5 + ["missing"]
    np.testing.assert_allclose(drawn(ax), cohort[order].X, rtol=1e-6)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["group: control (6)", "treated (5)", "missing (1)"]


def test_slides_that_are_alike_stand_together(cohort: ad.AnnData) -> None:
    ax = sd.pl.cohort(cohort, show=False)
    kinds = [int(name.split()[1]) // 3 % 2 for name in names(ax)]
    assert sum(one != other for one, other in pairwise(kinds)) == 1
    plain = sd.pl.cohort(cohort, cluster=False, show=False)
    assert names(plain) == list(cohort.obs_names)


def test_colors_and_area(cohort: ad.AnnData) -> None:
    ax = sd.pl.cohort(cohort, of="area", cluster=False, title="Area", show=False)
    assert [to_hex(bars[0].get_facecolor()) for bars in ax.containers] == cohort.uns["niche_colors"].tolist()
    np.testing.assert_allclose(drawn(ax), cohort.layers["area"], rtol=1e-6)
    assert (ax.get_ylabel(), ax.get_title()) == ("share of the area", "Area")
    palette = dict.fromkeys(NICHES, "red")
    ax = sd.pl.cohort(cohort, palette=palette, show=False)
    assert to_hex(ax.containers[2][0].get_facecolor()) == "#ff0000"
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == NICHES[::-1]


def test_few_many_and_empty(cohort: ad.AnnData) -> None:
    assert names(sd.pl.cohort(cohort[:1], show=False)) == ["slide 0"]
    many = ad.concat([cohort] * 6, index_unique="-")
    assert names(sd.pl.cohort(many, show=False)) == []
    cohort.X[3] = np.nan
    ax = sd.pl.cohort(cohort, show=False)
    assert names(ax)[-1] == "slide 3"
    assert drawn(ax)[-1].sum() == 0


def test_what_is_no_cohort(cohort: ad.AnnData) -> None:
    with pytest.raises(TypeError, match="found DataFrame"):
        sd.pl.cohort(cohort.to_df())
    with pytest.raises(ValueError, match="of must be one of"):
        sd.pl.cohort(cohort, of="volume")
    with pytest.raises(KeyError, match="group_key='patient'"):
        sd.pl.cohort(cohort, group_key="patient")
    with pytest.raises(KeyError, match="category='tumour' is not a name in the palette"):
        sd.pl.cohort(cohort, palette={"x": "red"})
    cohort.X = 2 * cohort.X
    with pytest.raises(ValueError, match="do not sum to 1"):
        sd.pl.cohort(cohort)
    del cohort.layers["area"]
    with pytest.raises(KeyError, match="layer='area'"):
        sd.pl.cohort(cohort, of="area")
