from __future__ import annotations

import numpy as np
import pytest

from stdistill.models.seen import mark_cells, recall, remember, to_tensors

RNG = np.random.default_rng(0)
CENTERS = RNG.uniform(0, 5000, (3000, 2))
FEATURES = RNG.normal(size=(3000, 7)).astype(np.float16)


def test_a_cell_has_its_mark_in_any_table() -> None:
    marks = mark_cells(FEATURES, CENTERS)
    assert len(np.unique(marks)) == 3000
    order = RNG.permutation(3000)[:500]
    np.testing.assert_array_equal(mark_cells(FEATURES[order], CENTERS[order]), marks[order])
    np.testing.assert_array_equal(mark_cells(FEATURES.astype(np.float64), CENTERS.astype(np.float32)), marks)
    np.testing.assert_array_equal(mark_cells(np.asfortranarray(FEATURES), np.asfortranarray(CENTERS)), marks)


def test_features_and_places_both_count() -> None:
    marks = mark_cells(FEATURES, CENTERS)
    assert not (mark_cells(FEATURES, CENTERS + 0.01) == marks).any()
    other = FEATURES.copy()
    other[:, 3] = np.nextafter(other[:, 3], np.float16(np.inf))
    assert not (mark_cells(other, CENTERS) == marks).any()
    swapped = FEATURES[:, ::-1]
    assert not (mark_cells(swapped, CENTERS) == marks).any()
    same = np.ones_like(FEATURES)
    assert len(np.unique(mark_cells(same, CENTERS))) == 3000


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mark_cells(FEATURES, CENTERS)
    monkeypatch.setattr("stdistill.models.seen.CHUNK", 40)
    np.testing.assert_array_equal(mark_cells(FEATURES, CENTERS), whole)


def test_what_a_model_keeps() -> None:
    marks = mark_cells(FEATURES, CENTERS)
    fitted = np.arange(3000) % 3 == 0
    seen = remember(marks, fitted)
    np.testing.assert_array_equal(np.isin(marks, seen), fitted)
    again = recall(to_tensors(seen))
    assert again is not None
    np.testing.assert_array_equal(again, seen)
    assert recall(to_tensors(None)) is None
