"""Unevenness: its size, its scale, and what it does to a tile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from stdistill.datasets._simulation.painting.stain import E, H, R
from stdistill.datasets._simulation.painting.unevenness import MAX_SIDE, draw_unevenness, make_uneven
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.tissue import Tissue


@pytest.fixture(scope="module")
def wide(section: Section) -> Section:
    """A section of 5 cm², of which only the size is asked."""
    tissue = dataclasses.replace(section.tissue, width_um=25_000.0, height_um=20_000.0)
    return dataclasses.replace(section, tissue=tissue)


def test_both_dyes_share_the_thickness(wide: Section) -> None:
    uneven = draw_unevenness(np.random.default_rng(0), wide)
    haematoxylin, eosin = np.log(uneven.haematoxylin), np.log(uneven.eosin)
    assert haematoxylin.std() == pytest.approx(0.2, abs=0.03)  # √(.18² + .08²)
    assert eosin.std() == pytest.approx(0.31, abs=0.04)  # √(.18² + .16² + .2²)
    assert 0.3 < np.corrcoef(haematoxylin.ravel(), eosin.ravel())[0, 1] < 0.75
    assert abs(haematoxylin.mean()) < 0.05


def test_haematoxylin_drifts_slowly_and_eosin_also_within_a_niche(wide: Section) -> None:
    uneven = draw_unevenness(np.random.default_rng(1), wide)
    step = round(200 / uneven.step_um)
    for name, least, most in (("haematoxylin", 0.0, 0.1), ("eosin", 0.2, 0.8)):
        logs = np.log(getattr(uneven, name))
        change = (logs[:, step:] - logs[:, :-step]).var() / (2 * logs.var())
        assert least < change < most


def test_rasters_cover_the_slide_and_stay_small(make_section: Callable[[int], Section], wide: Section) -> None:
    for section in (make_section(3), wide, dataclasses.replace(wide, tissue=_scaled(wide, 10))):
        uneven = draw_unevenness(np.random.default_rng(0), section)
        rows, columns = uneven.eosin.shape
        assert rows * uneven.step_um >= section.tissue.height_um
        assert columns * uneven.step_um >= section.tissue.width_um
        assert max(rows, columns) <= MAX_SIDE + 2


def _scaled(section: Section, factor: float) -> Tissue:
    tissue = section.tissue
    return dataclasses.replace(tissue, width_um=factor * tissue.width_um, height_um=factor * tissue.height_um)


def test_a_seed_is_a_slide(section: Section) -> None:
    first, again, other = (draw_unevenness(np.random.default_rng(seed), section) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.eosin, again.eosin)
    assert not np.array_equal(first.eosin, other.eosin)


def test_stains_are_multiplied_where_they_lie() -> None:
    """A raster of 10 µm, seen in pixels of 2 µm from 10 µm on: by hand."""
    eosin = np.array([[1.0, 2, 4]] * 2, np.float32)
    haematoxylin = np.full((2, 3), 3.0, np.float32)
    stains = np.ones((1, 10, 3), np.float32)
    make_uneven(stains, (5, 0), np.array([[2.0, 0, 0], [0, 2, 0]]), haematoxylin, eosin, 10.0)
    # Raster pixels have their centres at 5, 15 and 25 µm, pixels at 11, 13 ... 29 µm.
    expected = [1.6, 1.8, 2, 2.4, 2.8, 3.2, 3.6, 4, 4, 4]
    np.testing.assert_allclose(stains[0, :, E], expected, atol=0.01)
    np.testing.assert_allclose(stains[0, :, R], stains[0, :, E])
    np.testing.assert_allclose(stains[0, :, H], 3)
