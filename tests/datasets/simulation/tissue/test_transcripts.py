"""Places of molecules, against the polygons that users read."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import sparse

from stdistill.datasets._simulation.tissue.cells import N_ANGLES
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.tissue.transcripts import _in_polygon, _is_inside, place_molecules
from stdistill.datasets._simulation.writing.tables import vertices

Molecules = dict[str, np.ndarray]
PER_CELL = 30
FIRST, LAST = 200, 1200


@pytest.fixture(scope="module")
def molecules(section: Section) -> Molecules:
    """Thirty molecules of two features in each of a thousand cells in the middle."""
    counts = sparse.csr_matrix(np.tile([[10, 0, 20]], (LAST - FIRST, 1)).astype(np.int32))
    return place_molecules(np.random.default_rng(0), section.cells, FIRST, counts)


@pytest.fixture(scope="module")
def points(molecules: Molecules) -> np.ndarray:
    return shapely.points(molecules["x_location"].astype(float), molecules["y_location"].astype(float))


@pytest.fixture(scope="module")
def nuclei(section: Section) -> np.ndarray:
    """All nuclei of a cell as one shape, empty where it has none."""
    drawn = section.cells.nuclei
    single = shapely.polygons(vertices(drawn.x, drawn.y, drawn.outline).astype(float))
    ends = np.cumsum(section.cells.n_nuclei, dtype=int)
    return np.array([shapely.multipolygons(part) for part in np.split(single, ends[:-1])])


@pytest.fixture(scope="module")
def cells(section: Section) -> np.ndarray:
    drawn = section.cells
    return shapely.polygons(vertices(drawn.x, drawn.y, drawn.outline).astype(float))


def test_z_is_within_the_section(molecules: Molecules) -> None:
    z = molecules["z_location"]
    assert 9 <= z.min() < z.max() <= 24
    assert z.mean() == pytest.approx(16, abs=0.1)
    assert z.std() == pytest.approx(2.2, abs=0.1)


def test_quality_is_between_20_and_40_and_often_the_best(molecules: Molecules) -> None:
    quality = molecules["qv"]
    assert 20 <= quality.min() < quality.max() == 40
    # A gamma of shape 4 and scale 6 exceeds 20 with probability e^-λ(1 + λ + λ²/2 + λ³/6), λ = 20/6.
    assert np.mean(quality == 40) == pytest.approx(0.573, abs=0.015)


def test_quality_does_not_depend_on_place_or_feature(molecules: Molecules) -> None:
    for other in ("feature", "overlaps_nucleus", "z_location"):
        assert abs(np.corrcoef(molecules["qv"], molecules[other])[0, 1]) < 0.025


def test_counts_are_kept_and_cells_are_those_of_the_block(molecules: Molecules) -> None:
    tally = np.zeros((LAST, 3), int)
    np.add.at(tally, (molecules["cell"], molecules["feature"]), 1)
    assert (tally[:FIRST] == 0).all()
    assert (tally[FIRST:] == [10, 0, 20]).all()


def test_data_types_are_small(molecules: Molecules) -> None:
    for name in ("x_location", "y_location", "z_location", "qv"):
        assert molecules[name].dtype == np.float32
    assert molecules["overlaps_nucleus"].dtype == np.uint8


def test_cells_without_counts_have_no_molecules(section: Section) -> None:
    empty = place_molecules(np.random.default_rng(0), section.cells, 0, sparse.csr_matrix((20, 4), dtype=np.int32))
    assert {len(values) for values in empty.values()} == {0}


def test_molecules_lie_in_the_polygon_of_their_cell(
    molecules: Molecules, points: np.ndarray, cells: np.ndarray
) -> None:
    assert shapely.contains(cells[molecules["cell"]], points).all()


def test_overlaps_nucleus_agrees_with_the_polygon_of_the_nucleus(
    molecules: Molecules, points: np.ndarray, nuclei: np.ndarray
) -> None:
    expected = shapely.contains(nuclei[molecules["cell"]], points)
    assert 0.3 < expected.mean() < 0.9
    # Rounding decides on an edge.
    assert np.mean(molecules["overlaps_nucleus"].astype(bool) != expected) < 5e-4


def test_two_in_five_are_nuclear_beyond_what_area_alone_gives(
    molecules: Molecules, cells: np.ndarray, nuclei: np.ndarray, section: Section
) -> None:
    measured = np.bincount(molecules["cell"], molecules["overlaps_nucleus"], LAST)[FIRST:] / PER_CELL
    by_area = (shapely.area(nuclei) / shapely.area(cells))[FIRST:LAST]
    with_nucleus = section.cells.n_nuclei[FIRST:LAST] > 0
    expected = np.where(with_nucleus, 0.4 + 0.6 * by_area, 0)
    assert (measured - expected).mean() == pytest.approx(0, abs=0.01)
    # Binomial scatter and nothing else.
    scatter = np.sqrt(np.mean(expected * (1 - expected)) / PER_CELL)
    assert (measured - expected).std() == pytest.approx(scatter, rel=0.1)


def test_both_nuclei_of_a_cell_hold_molecules(section: Section) -> None:
    cells, drawn = section.cells, section.cells.nuclei
    counts = sparse.csr_matrix(np.full((len(cells), 1), 200, np.int32))
    placed = place_molecules(np.random.default_rng(1), cells, 0, counts)
    pairs = np.flatnonzero(np.diff(drawn.cell) == 0)
    assert len(pairs)
    share = []
    for first in pairs:
        mine = placed["cell"] == drawn.cell[first]
        at = np.c_[placed["x_location"], placed["y_location"]][mine]
        radius = drawn.outline[first].max()
        near = [np.hypot(*(at - [drawn.x[n], drawn.y[n]]).T) < radius for n in (first, first + 1)]
        share.append([n.mean() for n in near])
    np.testing.assert_allclose(np.mean(share, axis=0)[0], np.mean(share, axis=0)[1], rtol=0.15)
    assert np.min(share) > 0.15


def test_same_seed_same_places(section: Section) -> None:
    counts = sparse.csr_matrix(np.full((50, 2), 3, np.int32))
    first, again, other = (place_molecules(np.random.default_rng(s), section.cells, 0, counts) for s in (1, 1, 2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert not np.isin(first["x_location"], other["x_location"]).any()


def test_places_spread_evenly_over_the_outline() -> None:
    rng = np.random.default_rng(0)
    outline = np.full(N_ANGLES, 5, np.float32)
    places = np.array([_in_polygon(10.0, 20.0, outline, u) for u in rng.random((4000, 4), dtype=np.float32)])
    np.testing.assert_allclose(places.mean(axis=0), [10, 20], atol=0.2)
    # Half of the area of a disc lies within 1/sqrt(2) of its radius.
    inner = np.hypot(*(places - [10, 20]).T) < 5 / np.sqrt(2)
    assert inner.mean() == pytest.approx(0.5, abs=0.04)


def test_places_are_inside_even_a_bent_outline() -> None:
    rng = np.random.default_rng(1)
    outline = rng.uniform(1, 9, N_ANGLES).astype(np.float32)
    for u in rng.random((2000, 4), dtype=np.float32):
        assert _is_inside(*_in_polygon(0.0, 0.0, outline, u), outline)


@pytest.mark.parametrize(("x", "y", "expected"), [(0, 0, True), (4.9, 0, True), (5.1, 0, False), (-3, -3.9, True)])
def test_inside_and_outside(x: float, y: float, expected: bool) -> None:
    assert _is_inside(float(x), float(y), np.full(N_ANGLES, 5, np.float32)) == expected


def test_each_count_becomes_as_many_molecules(section: Section) -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(0.4, (40, 25)).astype(np.int32))
    molecules = place_molecules(rng, section.cells, 100, counts)
    tally = np.zeros((40, 25), int)
    np.add.at(tally, (molecules["cell"] - 100, molecules["feature"]), 1)
    np.testing.assert_array_equal(tally, counts.toarray())
    offset = np.hypot(
        molecules["x_location"] - section.cells.x[molecules["cell"]],
        molecules["y_location"] - section.cells.y[molecules["cell"]],
    )
    assert (offset < section.cells.outline.max(axis=1)[molecules["cell"]]).all()


def test_a_cell_without_a_nucleus_has_no_nuclear_molecules(section: Section) -> None:
    cells = section.cells
    counts = sparse.csr_matrix(np.full((len(cells), 1), 5, np.int32))
    molecules = place_molecules(np.random.default_rng(0), cells, 0, counts)
    share = np.bincount(molecules["cell"], molecules["overlaps_nucleus"]) / 5
    assert (share[cells.n_nuclei == 0] == 0).all()
    assert share[cells.n_nuclei == 1].mean() > 0.5
    assert share[cells.n_nuclei == 2].mean() > 0.35
