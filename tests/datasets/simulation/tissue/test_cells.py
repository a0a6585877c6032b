"""Outlines around centres, and the bins that find them."""

from __future__ import annotations

import numpy as np
import pytest

from stdistill.datasets._simulation.tissue.cells import N_ANGLES, Cells, Nuclei, outline_radius, spatial_bins


def test_bins_hold_every_place_once() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 300, (2, 500))
    order, starts, columns = spatial_bins(x, y)
    assert sorted(order) == list(range(500))
    for index in range(len(starts) - 1):
        members = order[starts[index] : starts[index + 1]]
        assert ((y[members] // 16).astype(int) == index // columns).all()
        assert ((x[members] // 16).astype(int) == index % columns).all()


def test_radius_is_that_of_the_direction() -> None:
    outline = np.arange(1, N_ANGLES + 1, dtype=np.float32)
    for a in range(N_ANGLES):
        angle = a * 2 * np.pi / N_ANGLES + 1e-6
        assert outline_radius(outline, np.cos(angle), np.sin(angle)) == pytest.approx(a + 1, abs=1e-3)
    between = 2.5 * 2 * np.pi / N_ANGLES
    assert outline_radius(outline, np.cos(between), np.sin(between)) == pytest.approx(3.5)


def test_first_nucleus_by_hand() -> None:
    """Cells of one, no, two and one nucleus."""
    n_nuclei = np.array([1, 0, 2, 1], np.uint8)
    empty = np.empty(0)
    cells = Cells(empty, empty, empty, empty, empty, n_nuclei, Nuclei(empty, empty, empty, empty))
    assert cells.first_nucleus.tolist() == [0, 1, 1, 3, 4]
