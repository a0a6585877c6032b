from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

import stdistill as sd
from stdistill._measures.composition import CompositionJSD


@pytest.fixture
def result(slide: ad.AnnData) -> CompositionJSD:
    slide.obs["he_leiden_niche"] = pd.Categorical((slide.obsm["spatial"][:, 0] // 140).astype(int).astype(str))
    return sd.tl.composition_jsd(slide, cell_type_key="cell_type", n_permutations=500)


def test_matrices_and_histograms(result: CompositionJSD, check_image: Callable) -> None:
    axes = sd.pl.composition_jsd(result, show=False)
    check_image("composition_jsd")
    assert len(axes) == 4
    for number, (key, matrix) in enumerate(result.divergences.items()):
        left, right = axes[2 * number : 2 * number + 2]
        np.testing.assert_array_equal(left.images[0].get_array(), matrix)
        pairs = result.niches[result.niches["method"] == key].dropna()
        outlined = [(p.get_x() + 0.5, p.get_y() + 0.5) for p in left.patches if isinstance(p, Rectangle)]
        names = [(matrix.index[int(y)], matrix.columns[int(x)]) for x, y in outlined]
        assert names == list(zip(pairs["reference_niche"], pairs["niche"], strict=True))
        assert sum(bar.get_height() for bar in right.patches) == 500
        assert right.lines[0].get_xdata()[0] == result.summary["jsd"][number]


def test_one_method(result: CompositionJSD) -> None:
    left, right = sd.pl.composition_jsd(result, keys="he_leiden_niche", title=["a", "b"], show=False)
    assert (left.get_title(), right.get_title()) == ("a", "b")
    assert left.get_xlabel() == "he_leiden_niche"


def test_bad_input(result: CompositionJSD) -> None:
    with pytest.raises(TypeError, match=r"Expected what sd.tl.composition_jsd returns, found DataFrame"):
        sd.pl.composition_jsd(result.summary)
    with pytest.raises(
        KeyError, match=r"keys='x' is not a method of the result; there is: 'he_leiden_niche', 'student"
    ):
        sd.pl.composition_jsd(result, keys=["x"])
    with pytest.raises(ValueError, match=r"keys is empty: name methods of the result, which has \['student_niche'"):
        sd.pl.composition_jsd(result, keys=[])
    with pytest.raises(ValueError, match="title holds 1 titles; there are 4 panels"):
        sd.pl.composition_jsd(result, title="one")
