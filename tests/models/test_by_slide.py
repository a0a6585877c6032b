from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from stdistill.models.by_slide import SlideFeatures, as_seen, parts_as_seen

N, D = 150, 4


def two_slides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of two slides whose cells alternate; the third cell of the first has none."""
    rng = np.random.default_rng(0)
    slides = np.tile([7, 3], N)
    features = (rng.normal(size=(2 * N, D)) * 2 + 5 * (slides == 7)[:, None]).astype(np.float16)
    features[4] = np.nan
    return features, slides, ~np.isnan(features).any(axis=1)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_each_slide_has_mean_0_and_spread_1(kind: str) -> None:
    features, slides, known = two_slides()
    seen = SlideFeatures(features if kind == "array" else torch.from_numpy(features), slides, known)
    assert seen.shape == (2 * N, D)
    rows = np.flatnonzero(known)
    for slide in (3, 7):
        own = np.flatnonzero(known & (slides == slide))
        expected = (features[own] - features[own].mean(axis=0, dtype=float)) / features[own].std(axis=0, dtype=float)
        np.testing.assert_allclose(seen[own].numpy(), expected, atol=1e-4)
    assert torch.equal(seen[rows[[9, 2]]], seen[rows][[9, 2]])
    assert torch.equal(seen[:10][5:], seen[np.arange(5, 10)])
    assert seen[np.array([4])].isnan().all()


def test_what_a_stain_does_to_all_cells_alike_is_not_seen() -> None:
    features, slides, known = two_slides()
    stained = features.astype(np.float32)
    stained[slides == 7] = stained[slides == 7] * [0.5, 2, 1, 3] + [1, -4, 0, 9]
    seen, other = (SlideFeatures(each, slides, known)[np.flatnonzero(known)] for each in (features, stained))
    torch.testing.assert_close(other, seen, atol=1e-4, rtol=1e-4)


def test_a_feature_that_does_not_vary_on_a_slide() -> None:
    features, slides, known = two_slides()
    features[slides == 3, 1] = 2
    seen = SlideFeatures(features, slides, known)
    assert not seen[np.flatnonzero(slides == 3)][:, 1].any()
    features[slides == 3] = 2
    assert not SlideFeatures(features, slides, known)[np.flatnonzero(slides == 3)].any()


def test_few_cells_do_not_tell_a_slide() -> None:
    features, slides, known = two_slides()
    known &= (slides == 7) | (np.arange(2 * N) < 20)
    with pytest.warns(UserWarning, match="1 of 2 slides have fewer than 100 rows with features, the fewest 10"):
        as_seen(features, slides, known, "slide")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_seen(features, slides, known & (slides == 7), "slide")  # the other is not there
    assert SlideFeatures(features, slides, known & (slides == 7))[np.flatnonzero(slides == 3)].isfinite().all()


def test_by_the_training_they_stay_as_they_are() -> None:
    features, slides, known = two_slides()
    assert as_seen(features, slides, known, "training") is features
    assert isinstance(as_seen(features, slides, known, "slide"), SlideFeatures)


def corners(per_corner: int, at: float = 0.0) -> np.ndarray:
    """Places in the corners of a square, as many in each, one corner after the other: x, then y."""
    where = np.repeat([[0, 0], [9, 0], [0, 9], [9, 9]], per_corner, axis=0)
    return at + where + np.random.default_rng(1).uniform(size=where.shape)


def test_parts_are_seen_as_slides() -> None:
    """Halves left and right, halves below and above, and quarters: in each the mean is 0 and the spread 1."""
    features = np.random.default_rng(0).normal(size=(400, D)) + np.repeat([0, 3, 50, 80], 100)[:, None]
    corner = np.repeat(range(4), 100)
    looks = parts_as_seen(features, np.zeros(400, dtype=int), np.ones(400, dtype=bool), corners(100))
    assert len(looks) == 3
    for look, parts in zip(looks, (corner % 2, corner // 2, corner), strict=True):
        for part in np.unique(parts):
            own = np.flatnonzero(parts == part)
            expected = (features[own] - features[own].mean(axis=0)) / features[own].std(axis=0)
            np.testing.assert_allclose(look[own], expected, atol=1e-4)


def test_what_is_too_small_to_be_cut_stays_whole() -> None:
    """Of the second slide halves have cells enough, quarters do not; of the third neither, for want of features."""
    features = np.random.default_rng(0).normal(size=(1200, D)) * 3 + 1
    places = np.concatenate([corners(100), corners(60), corners(100, at=50), corners(40)])
    slides = np.repeat([0, 1, 2, 3], [400, 240, 400, 160])
    known = (slides != 2) | (np.arange(1200) % 3 == 0)
    whole = SlideFeatures(features, slides, known)
    left, below, quarters = (look[np.arange(1200)] for look in parts_as_seen(features, slides, known, places))
    for number, cut in enumerate([(True, True, True), (True, True, False), (False,) * 3, (False,) * 3]):
        cells = np.flatnonzero(slides == number)
        found = tuple(not torch.equal(look[cells], whole[cells]) for look in (left, below, quarters))
        assert found == cut
    few = slides == 3
    assert parts_as_seen(features[few], slides[few], known[few], places[few]) == []
