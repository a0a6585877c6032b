from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

import stdistill as sd
from stdistill._measures.abundances.moran import Colocalization

TYPES = ["tumour", "T cells", "B cells", "macrophages", "fibroblasts", "vessels", "fat", "nerve"]


def colocalization_of(r: np.ndarray, types: list[str], sd: float = 0.05) -> Colocalization:
    from stdistill._measures.abundances.moran import significance

    frames = [pd.DataFrame(each, index=types, columns=types) for each in (r, *significance(r, sd))]
    return Colocalization(*frames, length_um=150.0, cutoff=0.2, n_rows=400)


@pytest.fixture
def maps() -> tuple[Colocalization, Colocalization]:
    """Three groups of types that lie together, drawn in turn; the prediction is smoother, and lacks the nerve."""
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(each, 3).ravel() for each in rng.normal(size=(3, 40, 40))])
    group = np.arange(len(TYPES)) % 3
    noise = gaussian_filter(rng.normal(size=(len(TYPES), 40, 40)), (0, 1, 1)).reshape(len(TYPES), -1)
    truth = fields[group] / fields.std() + noise / noise.std()
    predicted = fields[group] / fields.std() + 0.3 * rng.normal(size=truth.shape)
    of = [np.corrcoef(each) for each in (truth, predicted)]
    of[1][-1] = of[1][:, -1] = np.nan
    first, second = (colocalization_of(r, TYPES) for r in of)
    order = TYPES[::-1]  # of the prediction: types go by name
    second = Colocalization(
        **{name: getattr(second, name).loc[order, order] for name in "rzpq"}, length_um=150.0, cutoff=0.2, n_rows=400
    )
    return first, second


def labels(ax: plt.Axes) -> list[str]:
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [label.get_text() for label in ax.get_xticklabels()]
    return names


def marked(ax: plt.Axes) -> set[tuple[str, str]]:
    names = labels(ax)
    return {(names[int(y)], names[int(x)]) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}


def test_truth_and_prediction(maps: tuple[Colocalization, Colocalization], check_image: Callable) -> None:
    left, right = sd.pl.colocalization(maps, show=False)
    check_image("colocalization")
    assert (left.get_title(), right.get_title()) == ("truth", "prediction")
    names = labels(left)
    assert labels(right) == names
    assert [TYPES.index(name) % 3 for name in names] in [
        sorted((np.arange(8) % 3).tolist(), key=order.index)
        for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
    ]  # each group together
    for ax, one in zip((left, right), maps, strict=True):
        drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
        expected = one.r.loc[names, names].to_numpy().copy()
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_array_equal(drawn, expected)
        q = one.q.loc[names, names].stack()
        assert marked(ax) == set(q[q <= 0.05].index)
    assert left.images[0].get_clim() == right.images[0].get_clim()
    low, high = left.images[0].get_clim()
    off_diagonal = [one.r.to_numpy()[~np.eye(8, dtype=bool)] for one in maps]
    assert high == -low == np.nanmax(np.abs(off_diagonal))


def test_one_map(maps: tuple[Colocalization, Colocalization]) -> None:
    ax = sd.pl.colocalization(maps[0], title="slide", max_q=1e-12, cmap="PuOr", show=False)
    assert ax.get_title() == "slide"
    assert ax.images[0].get_cmap().name == "PuOr"
    assert marked(ax) < marked(sd.pl.colocalization(maps[0], show=False))
    _, own = plt.subplots()
    assert sd.pl.colocalization(maps[0], ax=own) is own


def test_several_predictions(maps: tuple[Colocalization, Colocalization]) -> None:
    axes = sd.pl.colocalization([*maps, maps[1]], show=False)
    assert [ax.get_title() for ax in axes] == ["truth", "prediction 1", "prediction 2"]
    assert labels(axes[0]) == labels(axes[1]) == labels(axes[2])


def test_few_types_and_none_with_r() -> None:
    for n in (1, 2, 3):
        nothing = colocalization_of(np.full((n, n), np.nan), TYPES[:n])
        ax = sd.pl.colocalization(nothing, show=False)
        assert sorted(labels(ax)) == sorted(TYPES[:n])
        assert not marked(ax)
    assert labels(sd.pl.colocalization(colocalization_of(np.array([[1, 0.3], [0.3, 1]]), TYPES[:2]), show=False))


def test_bad_input(maps: tuple[Colocalization, Colocalization]) -> None:
    with pytest.raises(TypeError, match=r"Expected what sd.tl.colocalization returns, or several .* found DataFrame"):
        sd.pl.colocalization(maps[0].r)
    with pytest.raises(TypeError, match="found str"):
        sd.pl.colocalization([maps[0], "prediction"])
    with pytest.raises(ValueError, match="result is empty"):
        sd.pl.colocalization([])
    few = colocalization_of(maps[0].r.iloc[:3, :3].to_numpy(), TYPES[:3])
    with pytest.raises(ValueError, match=r"Map 1 lacks 5 types of the first: .*'fat'"):
        sd.pl.colocalization((maps[0], few))
    with pytest.raises(ValueError, match="max_q must be positive"):
        sd.pl.colocalization(maps, max_q=0)
    with pytest.raises(KeyError, match="cmap='x' is not a colour map"):
        sd.pl.colocalization(maps, cmap="x")
    with pytest.raises(ValueError, match="title holds 1 titles; there are 2 panels"):
        sd.pl.colocalization(maps, title="one")
