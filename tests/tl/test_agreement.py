from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import stdistill as sd

WITH_FIXTURE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def column(values: object) -> pd.Categorical:
    return pd.Categorical(values)


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """60 cells: 30 train, 20 test, 5 buffer, 5 off the image; the student is wrong for each tenth and misses some."""
    rng = np.random.default_rng(0)
    teacher = rng.integers(0, 4, 60).astype(str).astype(object)
    student = np.where(rng.random(60) < 0.1, "9", teacher).astype(object)
    student[[0, 1, 35]] = None
    teacher[[2, 36]] = None
    split = ["train"] * 30 + ["test"] * 20 + ["buffer"] * 5 + [None] * 5
    leiden = rng.integers(0, 3, 60).astype(str)
    return make_cells(
        60,
        split=pd.Categorical(split, ["train", "test", "buffer"]),
        teacher_niche=column(teacher),
        student_niche=column(student),
        he_leiden_niche=column(leiden),
    )


def test_rows_are_those_of_scikit_learn(cells: ad.AnnData) -> None:
    table = sd.tl.agreement(cells)
    assert table[["method", "split"]].to_numpy().tolist() == [
        [method, split] for method in ("student_niche", "he_leiden_niche") for split in ("train", "test")
    ]
    for row in table.itertuples():
        obs = cells.obs[cells.obs["split"] == row.split]
        known = obs[[row.method, "teacher_niche"]].dropna().astype(str)
        assert row.ari == pytest.approx(adjusted_rand_score(known["teacher_niche"], known[row.method]))
        assert row.nmi == pytest.approx(normalized_mutual_info_score(known["teacher_niche"], known[row.method]))
        assert (row.n_cells, row.n_left_out) == (len(known), len(obs) - len(known))
    assert table["n_left_out"].tolist() == [3, 2, 1, 1]


def test_by_hand(make_cells: Callable) -> None:
    """aaabbb against 112222: pairs together in both 1 + 3, in one 6 and 7; ARI = (4 − 6·7/15) / (6.5 − 6·7/15)."""
    cells = make_cells(6, teacher_niche=column(list("aaabbb")), student_niche=column(list("112222")))
    row = sd.tl.agreement(cells).iloc[0]
    assert row["ari"] == pytest.approx((4 - 42 / 15) / (6.5 - 42 / 15))
    joint, ours, theirs = np.array([2, 1, 3]) / 6, np.array([2, 4]) / 6, np.array([3, 3]) / 6

    def entropy(p: np.ndarray) -> float:
        return -float((p * np.log(p)).sum())

    mutual = entropy(ours) + entropy(theirs) - entropy(joint)
    assert row["nmi"] == pytest.approx(mutual / ((entropy(ours) + entropy(theirs)) / 2))


@WITH_FIXTURE
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60), st.randoms())
def test_names_do_not_matter(make_cells: Callable, pairs: list[tuple[int, int]], random: object) -> None:
    teacher, student = np.array(pairs).T
    if len(np.unique(teacher)) < 2:
        return
    names = list("vwxyz")
    random.shuffle(names)  # type: ignore[attr-defined]
    renamed = np.array(names)[student]
    cells = make_cells(
        len(pairs),
        teacher_niche=column(teacher.astype(str)),
        a_niche=column(student.astype(str)),
        b_niche=column(renamed),
        same_niche=column(np.array(names)[teacher]),
    )
    table = sd.tl.agreement(cells).set_index("method")
    assert table.loc["a_niche", "ari"] == pytest.approx(table.loc["b_niche", "ari"])
    assert table.loc["a_niche", "nmi"] == pytest.approx(table.loc["b_niche", "nmi"])
    assert table.loc["same_niche", ["ari", "nmi"]].tolist() == pytest.approx([1, 1])


def test_without_a_split(cells: ad.AnnData) -> None:
    table = sd.tl.agreement(cells, keys="student_niche", split_key=None)
    assert table["split"].tolist() == ["all"]
    assert table["n_cells"].item() + table["n_left_out"].item() == 60
    del cells.obs["split"]
    pd.testing.assert_frame_equal(sd.tl.agreement(cells, keys="student_niche"), table)


def test_a_method_that_labels_one_group(cells: ad.AnnData) -> None:
    cells.obs.loc[cells.obs["split"] == "train", "student_niche"] = np.nan
    train, test = sd.tl.agreement(cells, keys=["student_niche"]).itertuples()
    assert np.isnan(train.ari)
    assert (train.n_cells, train.n_left_out) == (0, 30)
    assert test.n_cells == 18


def test_subsets_and_spatialdata(make_slide: Callable) -> None:
    slide = make_slide(40)
    table = slide["table"]
    table.obs["teacher_niche"] = column(["a", "b"] * 20)
    table.obs["student_niche"] = column(["1", "2"] * 20)
    table.obs["split"] = pd.Categorical(["train", "test"] * 20, ["train", "test"])
    with pytest.raises(ValueError, match=r"split 'train'.* has the one label 'a' in the 20 cells compared"):
        sd.tl.agreement(slide)
    table.obs["split"] = column(["train"] * 20 + ["test"] * 20)
    assert sd.tl.agreement(slide)["ari"].tolist() == [1, 1]
    subset = table[table.obs["split"] == "test"]
    assert sd.tl.agreement(subset)["split"].tolist() == ["test"]


def test_nothing_is_written(cells: ad.AnnData) -> None:
    before = cells.copy()
    sd.tl.agreement(cells)
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert not cells.uns


def test_bad_input(cells: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"reference_key='teacher' is not a column of .obs; there is: 'he_leiden_niche'"):
        sd.tl.agreement(cells, reference_key="teacher")
    with pytest.raises(KeyError, match=r"keys='he_nolan_niche' is not a column of .obs"):
        sd.tl.agreement(cells, keys=["he_nolan_niche"])
    with pytest.raises(ValueError, match="keys is empty"):
        sd.tl.agreement(cells, keys=[])
    with pytest.raises(KeyError, match="split_key='strips' is not a column"):
        sd.tl.agreement(cells, split_key="strips")
    with pytest.raises(KeyError, match=r"no column \*_niche in .obs beside 'teacher_niche'. Niches are written by"):
        sd.tl.agreement(ad.AnnData(obs=cells.obs[["teacher_niche"]]))
    cells.obs["number_niche"] = np.arange(60.0)
    with pytest.raises(TypeError, match=r"'number_niche'.* holds float64; expected a categorical column"):
        sd.tl.agreement(cells, keys="number_niche")
    cells.obs["empty_niche"] = pd.Categorical([None] * 60, categories=["a"])
    with pytest.raises(ValueError, match=r"'empty_niche'.* is missing for all of the 60 cells"):
        sd.tl.agreement(cells, keys="empty_niche")
    only_buffer = np.where(cells.obs["split"] == "buffer", "1", None)
    cells.obs["buffer_niche"] = column(only_buffer)
    with pytest.raises(ValueError, match=r"No cell of \['train', 'test'\] has a label in both"):
        sd.tl.agreement(cells, keys="buffer_niche")
    cells.obs["one_niche"] = column(["a"] * 60)
    with pytest.raises(ValueError, match=r"'one_niche'.* has the one label 'a'"):
        sd.tl.agreement(cells, reference_key="one_niche", keys="student_niche")
    cells.obs["split"] = column(["buffer"] * 60)
    with pytest.raises(ValueError, match="No cell is 'train' or 'test' in the split"):
        sd.tl.agreement(cells)
