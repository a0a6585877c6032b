from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgba

from stdistill._drawing.colors import MISSING, find_colormap
from stdistill._drawing.matrix import check_frame, cluster_order, draw_matrix, matrix_size

viridis = colormaps["viridis"]

LIKENESS = pd.DataFrame([[9, -1, 0.9, -1], [-1, 9, -1, 0.8], [0.9, -1, 9, np.nan], [-1, 0.8, np.nan, 9]])


def test_order_is_by_what_is_alike() -> None:
    before = LIKENESS.copy()
    order = cluster_order(LIKENESS).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset([0, 2]), frozenset([1, 3])}
    pd.testing.assert_frame_equal(LIKENESS, before)


def test_the_diagonal_plays_no_part() -> None:
    other = LIKENESS.to_numpy().copy()
    np.fill_diagonal(other, [np.nan, -5, 0, 100])
    assert cluster_order(pd.DataFrame(other)).tolist() == cluster_order(LIKENESS).tolist()


def test_a_chain_is_put_in_order() -> None:
    place = np.random.default_rng(0).permutation(12)
    chain = pd.DataFrame(-np.abs(place[:, None] - place[None, :]).astype(float))
    ordered = place[cluster_order(chain)]
    assert ordered.tolist() in (list(range(12)), list(range(11, -1, -1)))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_names(n: int) -> None:
    assert sorted(cluster_order(LIKENESS.iloc[:n, :n])) == list(range(n))
    nothing = pd.DataFrame(np.full((n, n), np.nan))
    assert sorted(cluster_order(nothing)) == list(range(n))


def test_frames_of_something_else() -> None:
    frame = pd.DataFrame({"k": [10], "ari": [0.5]})
    check_frame(frame, ["k", "ari"], "sd.tl.agreement")
    with pytest.raises(TypeError, match=r"Expected the frame that sd\.tl\.agreement returns, found ndarray"):
        check_frame(frame.to_numpy(), ["k"], "sd.tl.agreement")  # type: ignore[arg-type]
    lacks = r"has 1 rows and the columns \['k', 'ari'\]; it lacks the columns \['nmi', 'method'\]"
    with pytest.raises(ValueError, match=lacks):
        check_frame(frame, ["k", "nmi", "method"], "sd.tl.agreement")
    with pytest.raises(ValueError, match=r"has 0 rows and the columns \['k', 'ari'\]\.$"):
        check_frame(frame.iloc[:0], ["k", "ari"], "sd.tl.agreement")


@pytest.mark.parametrize(("names", "rotation"), [([6, 9, 10], 0), (["B", "T", "NK"], 0), (["B", "T", "NK cell"], 90)])
def test_a_matrix_is_drawn_with_its_names(names: list[object], rotation: int) -> None:
    """Rows are of other things than columns, and each value is where its names are."""
    values = np.array([[0.0, 0.5, 1.0], [np.nan, 2.0, -1.0]])
    matrix = pd.DataFrame(values, index=pd.Index(["one", "two"], name="niche"), columns=pd.Index(names, name="type"))
    figure, ax = plt.subplots()
    draw_matrix(ax, matrix, cmap=find_colormap("viridis"), label="share", highest=1.0, title="mine")
    (image,) = ax.images
    drawn = image.to_rgba(image.get_array())
    grey, low, high = (np.array(to_rgba(color)) for color in (MISSING, viridis(0.0), viridis(1.0)))
    np.testing.assert_allclose(drawn[1, 0], grey, atol=1e-6)
    np.testing.assert_allclose(drawn[0, 0], low, atol=1e-6)
    np.testing.assert_allclose(drawn[1, 2], low, atol=1e-6)  # below the range, and above it
    np.testing.assert_allclose([drawn[0, 2], drawn[1, 1]], [high, high], atol=1e-6)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(map(str, names))
    assert {text.get_rotation() for text in ax.get_xticklabels()} == {rotation}
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "two"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("type", "niche", "mine")
    assert figure.axes[1].get_ylabel() == "share"
    plt.close(figure)


def test_larger_matrices_have_larger_panels() -> None:
    wide, tall = (matrix_size(pd.DataFrame(np.zeros(shape))) for shape in ((4, 30), (30, 4)))
    assert wide[0] > tall[0]
    assert wide[1] < tall[1]
    assert matrix_size(pd.DataFrame(np.zeros((30, 30)))) == (wide[0], tall[1])
