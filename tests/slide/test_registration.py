"""Cells on nuclei are told from cells that are elsewhere on the tissue."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.registration import MIN_CELLS, share_on_nuclei

SIDE, RADIUS, MPP = 1200, 7, 0.5


@pytest.fixture(scope="module")
def tissue() -> tuple[list[SlideLevel], np.ndarray]:
    """Nuclei of 7 µm on eosin, 25 µm apart or so."""
    rng = np.random.default_rng(0)
    grid = np.arange(40, SIDE - 40, 50)
    px = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2) + rng.uniform(-15, 15, (len(grid) ** 2, 2))
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    pixels = np.empty((3, SIDE, SIDE), dtype=np.uint8)
    pixels[:] = np.array([225, 150, 190])[:, None, None]
    for left, top in px:
        pixels[:, (x - left) ** 2 + (y - top) ** 2 < RADIUS**2] = np.array([90, 60, 140])[:, None]
    return [SlideLevel(da.from_array(pixels), np.ones(2))], px


def test_nuclei_where_they_are_and_elsewhere(tissue: tuple[list[SlideLevel], np.ndarray]) -> None:
    levels, px = tissue
    assert share_on_nuclei(levels, px, MPP) == 1
    moved = share_on_nuclei(levels, SIDE - px, MPP)
    assert moved is not None
    assert moved < 0.55


def test_what_does_not_tell(tissue: tuple[list[SlideLevel], np.ndarray]) -> None:
    levels, px = tissue
    assert share_on_nuclei(levels, px[: MIN_CELLS - 1], MPP) is None
    assert share_on_nuclei(levels, px, 2.0) is None  # nuclei of three pixels
    flat = [SlideLevel(da.full((3, SIDE, SIDE), 150, dtype=np.uint8), np.ones(2))]
    assert share_on_nuclei(flat, px, MPP) is None
