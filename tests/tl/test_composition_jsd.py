from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import permutations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

import stdistill as sd
from stdistill._measures.composition import jensen_shannon, pair_niches, random_pairings

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def column(values: object) -> pd.Categorical:
    return pd.Categorical(values)


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """Niches of the teacher a: TTTB, b: BBBB, c: NN; of the student 1: TTT, 2: BBBBB, 3: NN. All are test cells."""
    types = list("TTTBBBBBNN")
    return make_cells(
        10,
        teacher_niche=column(list("aaaabbbbcc")),
        student_niche=column(list("1112222233")),
        cell_type=column(types),
    )


def test_by_hand(cells: ad.AnnData) -> None:
    result = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    # a (3/4 T, 1/4 B) and 1 (T): the middle is 7/8 T, 1/8 B.
    between = (0.75 * np.log2(0.75 / 0.875) + 0.25 * np.log2(0.25 / 0.125) + np.log2(1 / 0.875)) / 2
    assert result.niches["niche"].tolist() == ["1", "2", "3"]
    assert result.niches["jsd"].tolist() == pytest.approx([between, 0, 0])
    assert result.niches["n_cells"].tolist() == [4, 4, 2]
    row = result.summary.iloc[0]
    assert row["method"] == "student_niche"
    assert row["jsd"] == row["jsd_paired"] == pytest.approx(0.4 * between)
    assert row["share_paired"] == 1
    assert (row["n_cells"], row["n_left_out"]) == (10, 0)
    assert (result.base, result.cells) == (2, "all")
    # Of the 3! pairings one is this good.
    assert row["share_random"] == pytest.approx(1 / 6, abs=0.02)
    assert result.divergences["student_niche"].shape == (3, 3)
    assert np.diag(result.divergences["student_niche"]).tolist() == result.niches["jsd"].tolist()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 8), st.sampled_from([2, np.e, 10]), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_divergence_is_scipys_distance_squared(m: int, k: int, t: int, base: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.full(t, 0.3), n) for n in (m, k))
    q[0] = p[0]
    matrix = jensen_shannon(p, q, base)
    expected = [[jensenshannon(a, b, base) ** 2 for b in q] for a in p]
    np.testing.assert_allclose(matrix, np.nan_to_num(expected), atol=1e-9)
    assert matrix.min() >= 0
    assert matrix.max() <= np.log(2) / np.log(base)
    assert matrix[0, 0] == 0


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_no_random_pairing_is_better(m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, sizes = rng.random((m, k)), rng.integers(1, 1000, m)
    partners, least = pair_niches(matrix, sizes, 2)
    assert (random_pairings(matrix, sizes, 2, 1000, seed) >= least - 1e-12).all()
    paired = partners[partners >= 0]
    assert len(set(paired)) == len(paired) == min(m, k)
    own = np.where(partners >= 0, matrix[np.arange(m), partners], 1)
    assert least == pytest.approx(np.average(own, weights=sizes))


def test_least_of_all_pairings() -> None:
    rng = np.random.default_rng(1)
    matrix, sizes = rng.random((5, 5)), rng.integers(1, 100, 5)
    means = [np.average(matrix[np.arange(5), list(order)], weights=sizes) for order in permutations(range(5))]
    assert pair_niches(matrix, sizes, 2)[1] == pytest.approx(min(means))
    drawn = random_pairings(matrix, sizes, 2, 20_000, 0)
    assert set(np.round(drawn, 9)) <= set(np.round(means, 9))
    assert drawn.mean() == pytest.approx(np.mean(means), abs=0.005)


@SLOW
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=4, max_size=50), st.permutations(list("wxyz")))
def test_names_do_not_matter(make_cells: Callable, rows: list[tuple[int, int, int]], names: list[str]) -> None:
    teacher, student, types = np.array(rows).T
    assume(len(set(teacher)) > 1 and len(set(types)) > 1)
    cells = make_cells(
        len(rows),
        teacher_niche=column(teacher.astype(str)),
        a_niche=column(student.astype(str)),
        b_niche=column(np.array(names)[student]),
        same_niche=column(np.array(names)[teacher]),
        cell_type=column(types.astype(str)),
    )
    result = sd.tl.composition_jsd(cells, cell_type_key="cell_type", n_permutations=200)
    jsd = result.summary.set_index("method")["jsd"]
    assert jsd["a_niche"] == pytest.approx(jsd["b_niche"])
    assert jsd["same_niche"] == 0
    assert jsd.between(0, 1).all()
    assert result.summary["share_random"].between(0, 1).all()
    assert all((result.random[key] >= jsd[key] - 1e-12).all() for key in result.random)


def test_fewer_niches_gain_nothing(cells: ad.AnnData) -> None:
    cells.obs["student_niche"] = column(list("1111222222"))  # has a and, with 4 of 6 cells, b
    result = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    assert result.niches["niche"].iloc[:2].tolist() == ["1", "2"]
    assert pd.isna(result.niches["niche"].iloc[2])
    assert result.niches["jsd"].iloc[2] == 1
    row = result.summary.iloc[0]
    assert row["share_paired"] == 0.8
    assert row["jsd"] == pytest.approx(0.8 * row["jsd_paired"] + 0.2)
    assert result.divergences["student_niche"].shape == (3, 2)


def test_more_niches(cells: ad.AnnData) -> None:
    cells.obs["student_niche"] = column(list("1100222233"))  # 0 is half T, half B, and more like a
    result = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    assert result.niches["niche"].tolist() == ["0", "2", "3"]
    assert result.divergences["student_niche"].columns.tolist() == ["0", "2", "3", "1"]
    assert result.summary["share_paired"].item() == 1


def test_empty_niches_take_no_part(cells: ad.AnnData) -> None:
    full = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    cells.obs["teacher_niche"] = cells.obs["teacher_niche"].cat.add_categories(["unused"])
    cells.obs["student_niche"] = cells.obs["student_niche"].cat.add_categories(["0", "unused"])
    again = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    pd.testing.assert_frame_equal(again.niches, full.niches)
    pd.testing.assert_frame_equal(again.summary, full.summary)


def test_cells_without_a_label_and_of_other_groups(cells: ad.AnnData) -> None:
    twice = ad.concat([cells, cells], index_unique="-")
    twice.obs = twice.obs.astype("category").copy()  # pandas 3 protects codes that may be shared
    twice.obs["split"] = column(["test"] * 10 + ["train"] * 5 + ["buffer"] * 4 + [None])
    twice.obs.loc[twice.obs["split"] == "train", "cell_type"] = "N"
    expected = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    result = sd.tl.composition_jsd(twice, cell_type_key="cell_type")
    assert result.cells == "test"
    pd.testing.assert_frame_equal(result.niches, expected.niches)
    assert sd.tl.composition_jsd(twice, cell_type_key="cell_type", split_key=None).summary["n_cells"].item() == 20
    twice.obs.loc[twice.obs_names[[0, 4, 8]], ["teacher_niche", "student_niche", "cell_type"]] = [
        [None, "1", "T"],
        ["b", None, "B"],
        ["c", "3", None],
    ]
    row = sd.tl.composition_jsd(twice, cell_type_key="cell_type").summary.iloc[0]
    assert (row["n_cells"], row["n_left_out"]) == (7, 3)


def test_base_and_seed(cells: ad.AnnData) -> None:
    in_bits = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    in_nats = sd.tl.composition_jsd(cells, cell_type_key="cell_type", base=np.e)
    assert in_nats.base == np.e
    assert in_nats.summary["jsd"].item() == pytest.approx(in_bits.summary["jsd"].item() * np.log(2))
    again = sd.tl.composition_jsd(cells, cell_type_key="cell_type")
    np.testing.assert_array_equal(again.random["student_niche"], in_bits.random["student_niche"])
    other = sd.tl.composition_jsd(cells, cell_type_key="cell_type", seed=1)
    assert (other.random["student_niche"] != in_bits.random["student_niche"]).any()


def test_ten_thousand_pairings_of_twenty_niches_are_fast() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(18), 20), rng.dirichlet(np.ones(18), 20)
    gc.disable()  # a collection of all that the suite holds takes a second
    try:
        start = time.perf_counter()
        matrix = jensen_shannon(p, q, 2)
        random_pairings(matrix, np.ones(20, dtype=int), 2, 10_000, 0)
        assert time.perf_counter() - start < 0.5
    finally:
        gc.enable()


def test_bad_input(cells: ad.AnnData) -> None:
    def jsd(**changed: object) -> None:
        sd.tl.composition_jsd(cells, **{"cell_type_key": "cell_type", **changed})

    with pytest.raises(KeyError, match=r"cell_type_key='group' is not a column of .obs; there is: 'cell_type'"):
        jsd(cell_type_key="group")
    with pytest.raises(KeyError, match="reference_key='nolan' is not a column"):
        jsd(reference_key="nolan")
    with pytest.raises(ValueError, match="base must be above 1, found 1"):
        jsd(base=1)
    with pytest.raises(ValueError, match="n_permutations must be at least 1, found 0"):
        jsd(n_permutations=0)
    cells.obs["score"] = np.arange(10)
    with pytest.raises(TypeError, match=r"'score'.* holds int64; expected a categorical column"):
        jsd(cell_type_key="score")
    cells.obs["none"] = pd.Categorical([None] * 10, categories=["T"])
    with pytest.raises(ValueError, match=r"'none'.* is missing for all of the 10 cells"):
        jsd(cell_type_key="none")
    cells.obs["one"] = column(["x"] * 10)
    with pytest.raises(ValueError, match=r"'one'\] \(reference_key\) has the one label 'x'"):
        jsd(reference_key="one")
    with pytest.raises(ValueError, match=r"'one'\] \(cell_type_key\) has the one label 'x'"):
        jsd(cell_type_key="one")
    cells.obs["first"] = column(["x"] + [None] * 9)
    cells.obs["last_niche"] = column([None] * 9 + ["x"])
    with pytest.raises(ValueError, match=r"None of the 10 cells \(all\) has a label in all of"):
        jsd(cell_type_key="first", keys="last_niche")
    cells.obs["split"] = column(["train"] * 10)
    with pytest.raises(ValueError, match=r"No cell is 'test' in the split, which holds \['train'\]"):
        jsd()
