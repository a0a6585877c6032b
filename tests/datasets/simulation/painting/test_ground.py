"""What lies between the cells: the same in every tiling, and nothing in holes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import minimum_filter

from stdistill.datasets._simulation.biology.niches import BLOOD, NEST, STROMA, VOID, WALL
from stdistill.datasets._simulation.painting.ground import _red_cells, _share_of, paint_ground
from stdistill.datasets._simulation.painting.stain import BASOPHILIA, E, H, R
from stdistill.datasets._simulation.tissue.anatomy import STEP_UM
from stdistill.datasets._simulation.tissue.noise import FloatImage, periodic_texture
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.tissue import EOSIN, GRAIN, HAZE

MPP = 0.5
TO_UM = np.array([[MPP, 0, 0], [0, MPP, 0.0]])


@pytest.fixture(scope="module")
def textures() -> tuple[FloatImage, FloatImage]:
    rng = np.random.default_rng(0)
    return periodic_texture(rng, 4, 14), periodic_texture(rng, 4, 12)


def even(
    textures: tuple[FloatImage, FloatImage], zone: int, clearance: int, to_um: np.ndarray = TO_UM, **fields: float
) -> tuple[np.ndarray, bool]:
    """Paint a slide of 200 µm that is of one zone, smooth but for what is given."""
    raster = np.zeros((60, 60, 9), np.float32)
    for name, value in fields.items():
        raster[..., {"eosin": EOSIN, "grain": GRAIN, "haze": HAZE}[name]] = value
    shape = (int(200 / STEP_UM), int(200 / STEP_UM))
    stains = np.zeros((120, 120, 3), np.float32)
    touched = paint_ground(
        stains,
        (100, 100),
        to_um,
        raster,
        4.0,
        np.full(shape, zone, np.uint8),
        np.full(shape, clearance, np.int8),
        *textures,
    )
    return stains, touched


def paint_tile(
    section: Section, textures: tuple[FloatImage, FloatImage], x: int, y: int, width: int, height: int
) -> np.ndarray:
    tissue, anatomy = section.tissue, section.anatomy
    stains = np.zeros((height, width, 3), np.float32)
    paint_ground(stains, (x, y), TO_UM, tissue.fields, tissue.step_um, anatomy.zone, anatomy.clearance, *textures)
    return stains


def test_four_tiles_are_the_large_one(section: Section, textures: tuple[FloatImage, FloatImage]) -> None:
    x, y = int(section.cells.x[700] / MPP), int(section.cells.y[700] / MPP)
    whole = paint_tile(section, textures, x, y, 300, 260)
    assert whole[..., E].max() > 0.2
    rows = [
        np.hstack([paint_tile(section, textures, x, top, 143, h), paint_tile(section, textures, x + 143, top, 157, h)])
        for top, h in ((y, 91), (y + 91, 169))
    ]
    np.testing.assert_allclose(np.vstack(rows), whole, atol=1e-5)


def test_amounts_are_never_negative(section: Section, textures: tuple[FloatImage, FloatImage]) -> None:
    stains = paint_tile(section, textures, 0, 0, *(int(s / MPP) for s in (900, 800)))
    assert stains.min() >= 0
    assert np.isfinite(stains).all()


def test_a_hole_stays_empty(textures: tuple[FloatImage, FloatImage]) -> None:
    stains, touched = even(textures, VOID, -100, eosin=0.5)
    assert not touched
    assert not stains.any()


@pytest.mark.parametrize("shift", [-300.0, 300.0])
def test_off_the_slide_there_is_nothing(textures: tuple[FloatImage, FloatImage], shift: float) -> None:
    off = np.array([[MPP, 0, shift], [0, MPP, 0.0]])
    stains, touched = even(textures, STROMA, 100, off, eosin=0.5)
    assert not touched
    assert not stains.any()


@pytest.mark.parametrize(("eosin", "haze"), [(0.3, 0.02), (0.6, 0.1)])
def test_stroma_has_the_stain_of_its_niche(textures: tuple[FloatImage, FloatImage], eosin: float, haze: float) -> None:
    stains, _ = even(textures, STROMA, 100, eosin=eosin, haze=haze)
    assert stains[..., E].mean() == pytest.approx(eosin, rel=0.05)
    assert stains[..., H].mean() == pytest.approx(haze + BASOPHILIA, rel=0.1)
    assert not stains[..., R].any()


def test_necrosis_is_granular(textures: tuple[FloatImage, FloatImage]) -> None:
    smooth, granular = (even(textures, STROMA, 100, eosin=0.5, grain=g)[0][..., E].std() for g in (0.0, 0.3))
    assert granular == pytest.approx(np.hypot(smooth, 0.5 * 0.3), rel=0.2)


def test_epithelium_hides_the_stroma(textures: tuple[FloatImage, FloatImage]) -> None:
    pale, dark = (even(textures, NEST, 100, eosin=eosin, haze=0.2)[0] for eosin in (0.2, 0.7))
    np.testing.assert_allclose(pale, dark, atol=1e-5)
    assert pale[..., E].mean() == pytest.approx(0.29, rel=0.1)
    assert pale[..., H].mean() == pytest.approx(0.09 + BASOPHILIA, rel=0.1)


def test_blood_is_red_and_nothing_else(textures: tuple[FloatImage, FloatImage]) -> None:
    stains, touched = even(textures, BLOOD, -100, eosin=0.5)
    assert touched
    assert not stains[..., [H, E]].any()
    covered = stains[..., R] > 0.3
    assert 0.4 < covered.mean() < 0.85
    assert stains.max() <= 0.72 + 1e-6


def test_share_of_zones_by_hand() -> None:
    zone = np.array([[STROMA, NEST, NEST], [STROMA, WALL, NEST], [VOID, WALL, NEST]], np.uint8)
    # In the middle between four pixels, two of which are nests.
    assert _share_of(zone, NEST, NEST, 2.0, 1.0) == pytest.approx(0.75)
    assert _share_of(zone, NEST, NEST, 1.5, 0.5) == pytest.approx(1)
    # A quarter on the way from stroma to nest.
    assert _share_of(zone, NEST, NEST, 0.75, 0.5) == pytest.approx(0.25)
    assert _share_of(zone, WALL, NEST, 2.0, 2.0) == pytest.approx(1)


def test_red_cells_are_paler_in_their_middle() -> None:
    x, y = np.meshgrid(np.arange(0, 60, 0.2), np.arange(0, 60, 0.2))
    density = np.vectorize(_red_cells)(x, y)
    # 0.42 in the middle of a disc, 0.42 + 0.30·2.3/3 where its rim of 0.7 µm begins.
    assert density.min() == 0
    assert density.max() == pytest.approx(0.65, abs=0.005)
    middle = (density == minimum_filter(density, 5)) & (density > 0.4)
    assert np.median(density[middle]) == pytest.approx(0.42, abs=0.01)
