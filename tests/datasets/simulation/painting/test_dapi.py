"""The DAPI image: the same in every tiling, dark where there is nothing."""

from __future__ import annotations

import numpy as np

from stdistill.datasets._simulation.painting.dapi import DapiPainter
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM
from stdistill.datasets._simulation.tissue.section import Section


def test_tiles_fit_together(section: Section) -> None:
    painter = DapiPainter(np.random.default_rng(0), section, PIXEL_SIZE_UM)
    x, y = int(section.cells.x[700] / PIXEL_SIZE_UM), int(section.cells.y[700] / PIXEL_SIZE_UM)
    whole = painter.paint(x, y, 200, 120)
    assert whole.max() > 500
    parts = np.hstack([painter.paint(x, y, 90, 120), painter.paint(x + 90, y, 110, 120)])
    np.testing.assert_array_equal(parts, whole)


def test_empty_slide_is_dark(section: Section) -> None:
    painter = DapiPainter(np.random.default_rng(0), section, PIXEL_SIZE_UM)
    assert painter.paint(0, 0, 40, 40).mean() < 60
