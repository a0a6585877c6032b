from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stdistill as sd
from stdistill._measures.matching import best_partners
from stdistill._table.niches import PALETTE
from stdistill._table.records import read_record

RED, GREEN, BLUE = "#ff0000", "#00ff00", "#0000ff"


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """Of x most is b, of y most is a, of z one is a; w is in unlabelled cells alone."""
    cells = make_cells(
        10,
        teacher_niche=pd.Categorical([*"aaabbbbc", None, None]),
        other_niche=pd.Categorical([*"yyzxxxx", None, "w", "w"]),
    )
    cells.uns["teacher_niche_colors"] = [RED, GREEN, BLUE]
    return cells


def test_the_same_tissue_has_the_same_colour(cells: ad.AnnData) -> None:
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche")
    colors = dict(zip(cells.obs["other_niche"].cat.categories, cells.uns["other_niche_colors"], strict=True))
    assert (colors["x"], colors["y"]) == (GREEN, RED)
    assert {colors["w"], colors["z"]} & {RED, GREEN, BLUE} == set()
    assert colors["w"] != colors["z"]
    assert list(cells.uns["teacher_niche_colors"]) == [RED, GREEN, BLUE]
    assert cells.obs["other_niche"].cat.categories.tolist() == list("wxyz")
    record = cells.uns["stdistill"]["match_niches_other_niche"]
    assert record["share_matched"] == 6 / 7
    assert (record["key_added"], record["reference_key"], record["rename"]) == ("other_niche", "teacher_niche", False)


def test_each_key_has_a_record(cells: ad.AnnData) -> None:
    cells.obs["third_niche"] = cells.obs["teacher_niche"].copy()
    for key in ("other_niche", "third_niche"):
        sd.tl.match_niches(cells, reference_key="teacher_niche", key=key)
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="third_niche", rename=True)  # replaces its own only
    records = cells.uns["stdistill"]
    assert records.keys() == {"match_niches_other_niche", "match_niches_third_niche"}
    assert read_record(cells, "match_niches", "other_niche")["share_matched"] == 6 / 7
    third = read_record(cells, "match_niches", "third_niche")
    assert (third["share_matched"], third["rename"]) == (1, True)


def test_names(cells: ad.AnnData) -> None:
    cells.obs["other_niche"] = cells.obs["other_niche"].cat.rename_categories({"z": "a", "w": "v"})
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche", rename=True)
    # In the order they had: the niche called a, which is not the teacher's a, gives way; v, x, y.
    assert sorted(cells.obs["other_niche"].cat.categories) == ["a", "a_", "b", "v"]
    assert cells.obs["other_niche"].tolist()[:7] == ["a", "a", "a_", "b", "b", "b", "b"]
    assert (cells.obs["other_niche"].isna() == [False] * 7 + [True] + [False] * 2).all()


def test_the_order_of_the_categories_stays(cells: ad.AnnData) -> None:
    codes = cells.obs["other_niche"].cat.codes.to_numpy()
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche", rename=True)
    np.testing.assert_array_equal(cells.obs["other_niche"].cat.codes, codes)
    assert cells.obs["other_niche"].cat.categories.tolist() == ["w", "b", "a", "z"]


def test_many_niches_have_a_colour_each(make_cells: Callable) -> None:
    """30 of either, none of which has a partner: 60 colours."""
    names = [f"{number}" for number in range(30)]
    cells = make_cells(60, teacher_niche=pd.Categorical(names * 2), other_niche=pd.Categorical(["one", *names[1:]] * 2))
    cells.obs["other_niche"] = cells.obs["other_niche"].where(np.arange(60) < 1)
    cells.obs["other_niche"] = cells.obs["other_niche"].cat.set_categories(["one", *names[1:]])
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche")
    both = [*cells.uns["teacher_niche_colors"], *cells.uns["other_niche_colors"]]
    assert len(set(both)) == 59  # "one" is "0"


def test_default_colours(cells: ad.AnnData) -> None:
    del cells.uns["teacher_niche_colors"]
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche")
    assert list(cells.uns["teacher_niche_colors"]) == list(PALETTE[:3])
    assert list(cells.uns["other_niche_colors"]) == [PALETTE[3], PALETTE[1], PALETTE[0], PALETTE[4]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10_000))
def test_no_other_pairing_shares_more(m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    overlap = rng.integers(0, 50, (m, k)) * (rng.random((m, k)) < 0.5)
    partners = best_partners(overlap)
    paired = partners >= 0
    assert len(set(partners[paired])) == paired.sum()
    assert (overlap[paired, partners[paired]] > 0).all()
    most = overlap[paired, partners[paired]].sum()
    n = min(m, k)
    for _ in range(1000):
        rows, columns = rng.permutation(m)[:n], rng.permutation(k)[:n]
        assert overlap[rows, columns].sum() <= most


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_survives_writing(cells: ad.AnnData, tmp_path: Path, suffix: str) -> None:
    sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche", rename=True)
    path = tmp_path / f"cells.{suffix}"
    cells.write_h5ad(path) if suffix == "h5ad" else cells.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert list(again.uns["other_niche_colors"]) == list(cells.uns["other_niche_colors"])
    assert again.obs["other_niche"].cat.categories.tolist() == ["w", "b", "a", "z"]


def test_copy(cells: ad.AnnData) -> None:
    copied = sd.tl.match_niches(cells, reference_key="teacher_niche", key="other_niche", rename=True, copy=True)
    assert "other_niche_colors" in copied.uns
    assert set(cells.uns) == {"teacher_niche_colors"}
    assert cells.obs["other_niche"].cat.categories.tolist() == list("wxyz")


def test_bad_input(cells: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"key='student_niche' is not a column of .obs; there is: 'other_niche', 'teach"):
        sd.tl.match_niches(cells, reference_key="teacher_niche", key="student_niche")
    with pytest.raises(ValueError, match="are both 'teacher_niche'"):
        sd.tl.match_niches(cells, reference_key="teacher_niche", key="teacher_niche")
    cells.obs["apart"] = pd.Categorical([None] * 9 + ["a"])
    with pytest.raises(ValueError, match="No cell has a niche in both"):
        sd.tl.match_niches(cells, reference_key="teacher_niche", key="apart")
    cells.obs["text"] = "a"
    with pytest.raises(TypeError, match="expected a categorical column"):
        sd.tl.match_niches(cells, reference_key="teacher_niche", key="text")
    assert set(cells.uns) == {"teacher_niche_colors"}
