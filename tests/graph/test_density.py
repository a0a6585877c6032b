from __future__ import annotations

import numpy as np
import pytest

from stdistill._graph.density import cells_per_mm2


def test_a_cell_alone_is_one_in_its_disc() -> None:
    centers = np.array([[0.0, 0], [500, 0], [510, 0]])
    found = cells_per_mm2(centers, np.zeros(3, dtype=int), np.arange(3), 50)
    disc_mm2 = np.pi * 0.05**2
    np.testing.assert_allclose(found, np.array([1, 2, 2]) / disc_mm2)


def test_within_a_lattice_it_is_that_of_the_lattice() -> None:
    x, y = np.meshgrid(np.arange(60) * 10.0, np.arange(60) * 10.0)
    centers = np.c_[x.ravel(), y.ravel()]
    middle = np.flatnonzero((np.abs(centers - 300) < 100).all(axis=1))
    found = cells_per_mm2(centers, np.zeros(len(centers), dtype=int), middle, 50)
    assert found.mean() == pytest.approx(10_000, rel=0.05)
    corner = cells_per_mm2(centers, np.zeros(len(centers), dtype=int), np.array([0]), 50)
    assert corner[0] < 4000  # the disc reaches beyond the tissue


def test_slides_do_not_see_each_other() -> None:
    centers = np.zeros((4, 2))
    libraries = np.array([0, 0, 0, 1])
    found = cells_per_mm2(centers, libraries, np.array([3, 0]), 50)
    assert found[1] == pytest.approx(3 * found[0])
