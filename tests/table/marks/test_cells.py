from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stdistill._table.marks.cells import fingerprint_rows, mark_cells, mark_counts

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
    monkeypatch.setattr("stdistill._table.marks.cells.CHUNK", 40)
    np.testing.assert_array_equal(mark_cells(FEATURES, CENTERS), whole)


def test_counts() -> None:
    counts = RNG.poisson(0.5, (3000, 40)).astype(np.float32)
    marks = mark_counts(counts, CENTERS)
    np.testing.assert_array_equal(mark_counts(csr_matrix(counts), CENTERS), marks)
    np.testing.assert_array_equal(mark_counts(counts.astype(np.int32), CENTERS), marks)
    assert len(np.unique(marks)) == 3000
    assert not (mark_counts(counts[:, ::-1], CENTERS) == marks)[counts[:, 0] != counts[:, -1]].any()
    np.testing.assert_array_equal(mark_counts(counts, None), mark_counts(csr_matrix(counts), None))


def test_features_are_told_apart_in_any_order() -> None:
    whole = fingerprint_rows(FEATURES)
    assert fingerprint_rows(FEATURES[RNG.permutation(3000)].astype(np.float64)) == whole
    column = FEATURES.copy()
    column[:, 2] = RNG.permutation(column[:, 2])
    assert len({whole, fingerprint_rows(column), fingerprint_rows(FEATURES[1:]), fingerprint_rows(-FEATURES)}) == 4
