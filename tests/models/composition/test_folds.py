from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stdistill.models.composition.folds import Tissue, hold_out


def make_tissue(n: int, side: float = 1000.0, radius: float = 40.0, seed: int = 0) -> Callable[[], Tissue]:
    centers = np.random.default_rng(seed).uniform(0, side, (n, 2))
    return lambda: Tissue(
        centers, np.zeros(n, dtype=int), np.zeros(n + 1, dtype=int), np.zeros(0, dtype=int), radius, radius / 4
    )


def test_each_group_is_held_out() -> None:
    groups = np.repeat([3, 5, 9], [24, 18, 18])
    training = np.ones(60, dtype=bool)
    training[:4] = False
    folds = hold_out(training, [groups], make_tissue(60), n=5, seed=0)
    assert sorted(np.unique(groups[fold.held_out]).tolist() for fold in folds) == [[3], [5], [9]]
    for fold in folds:
        assert sorted([*fold.fitting, *fold.held_out]) == list(range(4, 60))


def test_many_groups_are_joined_to_parts_of_the_same_size() -> None:
    groups = np.repeat(np.arange(10), 12)
    folds = hold_out(np.ones(120, dtype=bool), [groups], make_tissue(120), n=5, seed=0)
    assert [len(fold.held_out) for fold in folds] == [24] * 5
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(120))
    for fold in folds:
        assert not set(groups[fold.held_out]) & set(groups[fold.fitting])
    others = hold_out(np.ones(120, dtype=bool), [groups], make_tissue(120), n=5, seed=1)
    assert any((a.held_out != b.held_out).any() for a, b in zip(folds, others, strict=True))


@pytest.mark.parametrize("n", [1, 5])
def test_a_large_group_is_not_held_out_to_learn_from_a_small_one(n: int) -> None:
    for sizes, expected in (([10, 10, 10], {20}), ([200, 10], {200}), ([4, 90, 4], {94})):
        groups = np.repeat(np.arange(len(sizes)), sizes)
        folds = hold_out(np.ones(len(groups), dtype=bool), [groups], make_tissue(len(groups)), n=n, seed=0)
        assert {len(fold.fitting) for fold in folds} == expected
        for fold in folds:
            assert not set(groups[fold.held_out]) & set(groups[fold.fitting])


def test_the_first_grouping_with_several_groups() -> None:
    patients, sections = np.zeros(40, dtype=int), np.repeat([0, 1], 20)
    folds = hold_out(np.ones(40, dtype=bool), [patients, sections], make_tissue(40), n=5, seed=0)
    assert [sections[fold.held_out][0] for fold in folds] == [0, 1]


def test_a_group_of_one_row() -> None:
    (fold,) = hold_out(np.ones(21, dtype=bool), [np.r_[0, np.ones(20, dtype=int)]], make_tissue(21), n=5, seed=0)
    assert fold.held_out.tolist() == [0]


def test_blocks_of_one_slide() -> None:
    """Nothing is learned from what shows the same tissue as the blocks that are held out."""
    tissue, training = make_tissue(3000), np.ones(3000, dtype=bool)
    centers = tissue().centers
    folds = hold_out(training, [tissue().libraries], tissue, n=3, seed=0)
    assert len(folds) == 3
    for fold in folds:
        assert 0.05 < len(fold.held_out) / 3000 < 0.25
        apart = np.abs(centers[fold.fitting][:, None] - centers[fold.held_out][None]).max(axis=2)
        assert apart.min() >= 40
        assert len(fold.fitting) > 1000
    assert len({tuple(fold.held_out) for fold in folds}) == 3


def test_a_slide_that_is_too_small_for_blocks_apart() -> None:
    with pytest.warns(UserWarning, match="too small to hold out blocks with nothing around them within 40 µm"):
        folds = hold_out(np.ones(500, dtype=bool), [], make_tissue(500, side=200.0), n=2, seed=0)
    assert all(len(part) for fold in folds for part in fold)


def test_too_little_tissue() -> None:
    with pytest.raises(ValueError, match="10 training rows are of one slide, which is too small"):
        hold_out(np.ones(10, dtype=bool), [], make_tissue(10, side=10.0), n=5, seed=0)
