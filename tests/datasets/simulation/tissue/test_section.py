"""Tissue, microanatomy, and the cells in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree
from shapely import Polygon

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import APICAL, BLOOD, GLAND, NEST, STROMA, VOID, Niches, draw_niches
from stdistill.datasets._simulation.biology.templates import TEMPLATES
from stdistill.datasets._simulation.tissue import anatomy as anatomy_module
from stdistill.datasets._simulation.tissue import section as section_module
from stdistill.datasets._simulation.tissue.anatomy import (
    CLEARANCE_UNIT_UM,
    STEP_UM,
    Anatomy,
    cut_to_outline,
    draw_anatomy,
)
from stdistill.datasets._simulation.tissue.cells import MAX_REACH_UM, N_ANGLES, outline_radius, spatial_bins
from stdistill.datasets._simulation.tissue.placement import CORE, ZONE, X, Y, place_cells
from stdistill.datasets._simulation.tissue.section import Section, draw_section
from stdistill.datasets._simulation.tissue.tissue import ACROSS, Tissue, draw_tissue

AREA_UM2 = 900.0**2


def niches_of(seed: int = 0, n: int = 8) -> Niches:
    return draw_niches(np.random.default_rng(seed), n, draw_cell_types(np.random.default_rng(seed), 16))


def only(kind: str) -> tuple[Niches, Tissue, Anatomy]:
    """A slide on which all niches are of one kind."""
    niches = niches_of(n=len(TEMPLATES))
    index = np.full(len(niches.names), niches.names.index(kind))
    niches = dataclasses.replace(
        niches,
        density=niches.density[index],
        composition=niches.composition[index],
        structure={name: values[index] for name, values in niches.structure.items()},
    )
    tissue = draw_tissue(np.random.default_rng(0), niches, AREA_UM2)
    return niches, tissue, draw_anatomy(np.random.default_rng(1), tissue, niches)


class TestTissue:
    def test_covers_the_area(self) -> None:
        tissue = draw_tissue(np.random.default_rng(0), niches_of(), AREA_UM2)
        assert tissue.width_um * tissue.height_um == pytest.approx(AREA_UM2)
        rows, columns = tissue.outline.shape
        assert rows * tissue.step_um >= tissue.height_um
        assert columns * tissue.step_um >= tissue.width_um
        assert tissue.fields.shape[:2] == tissue.fibre_angle.shape == tissue.domains.shape[:2] == (rows, columns)

    @pytest.mark.parametrize("seed", range(4))
    def test_domains_have_the_shares_that_were_drawn(self, seed: int) -> None:
        niches = niches_of(seed)
        tissue = draw_tissue(np.random.default_rng(seed), niches, 4 * AREA_UM2)
        share = np.bincount(tissue.niche().ravel(), minlength=8) / tissue.niche().size
        np.testing.assert_allclose(share, niches.share, atol=0.06)

    def test_domains_are_cumulative_probabilities(self) -> None:
        domains = draw_tissue(np.random.default_rng(0), niches_of(), AREA_UM2).domains
        assert (np.diff(domains.astype(int), axis=2) >= 0).all()
        assert (domains[..., -1] == 255).all()

    def test_borders_are_sharp_here_and_gradual_there(self) -> None:
        tissue = draw_tissue(np.random.default_rng(0), niches_of(), 4 * AREA_UM2)
        certainty = np.diff(tissue.domains.astype(int), axis=2, prepend=0).max(axis=2) / 255
        niche = tissue.niche()
        at_border = (niche[:, 1:] != niche[:, :-1]) & (certainty[:, 1:] > 0.4)
        # Certainty some 20 µm beside a border is high where the border is sharp.
        shift = int(20 / tissue.step_um)
        rows, columns = np.nonzero(at_border[:, shift:-shift])
        beside = certainty[rows, columns + 2 * shift]
        assert np.quantile(beside, 0.9) > 0.95
        assert np.quantile(beside, 0.1) < 0.75

    def test_fibres_run_along_their_angle(self) -> None:
        tissue = draw_tissue(np.random.default_rng(0), niches_of(), AREA_UM2)
        across = tissue.fields[..., ACROSS]
        grad_y, grad_x = np.gradient(across, tissue.step_um)
        along = np.cos(tissue.fibre_angle) * grad_x + np.sin(tissue.fibre_angle) * grad_y
        assert np.abs(along).max() < 0.05 * np.hypot(grad_x, grad_y).mean()

    def test_outline_is_low_along_the_edges(self) -> None:
        for seed in range(6):
            outline = draw_tissue(np.random.default_rng(seed), niches_of(seed), AREA_UM2).outline
            level = np.quantile(outline, 0.4)
            edge = np.concatenate([outline[0], outline[-1], outline[:, 0], outline[:, -1]])
            assert np.mean(edge < level) > 0.97


class TestAnatomy:
    def test_fat_is_mostly_vacuoles_with_thin_walls(self) -> None:
        _, _, anatomy = only("fat")
        assert 0.5 < np.mean(anatomy.zone == VOID) < 0.95

    def test_glands_have_lumen_cytoplasm_and_nuclei(self) -> None:
        _, _, anatomy = only("glands")
        for zone in (VOID, APICAL, GLAND, STROMA):
            assert np.mean(anatomy.zone == zone) > 0.02
        # Nuclei of a gland keep off its lumen.
        assert anatomy.clearance[anatomy.zone == GLAND].min() > 0

    def test_stroma_has_no_epithelium(self) -> None:
        _, _, anatomy = only("fibrous stroma")
        assert not np.isin(anatomy.zone, (GLAND, APICAL)).any()
        assert np.mean(anatomy.zone == STROMA) > 0.85

    def test_holes_are_where_clearance_is_negative(self, section: Section) -> None:
        anatomy = section.anatomy
        hole = np.isin(anatomy.zone, (VOID, BLOOD))
        assert np.mean(hole == (anatomy.clearance < 0)) > 0.985

    def test_clearance_is_a_distance(self) -> None:
        """Away from where shapes meet, it changes by at most a step from pixel to pixel."""
        _, _, anatomy = only("glands")
        change = np.abs(np.diff(anatomy.clearance.astype(int), axis=1)) * CLEARANCE_UNIT_UM / STEP_UM
        assert np.quantile(change, 0.99) < 2

    def test_cut_takes_away_what_lies_below(self) -> None:
        niches = niches_of()
        tissue = draw_tissue(np.random.default_rng(0), niches, AREA_UM2)
        anatomy = draw_anatomy(np.random.default_rng(0), tissue, niches)
        level = float(np.quantile(tissue.outline, 0.5))
        cut_to_outline(anatomy, tissue, level)
        rows, columns = anatomy.zone.shape
        y, x = ((np.indices((rows, columns)) + 0.5) * STEP_UM / tissue.step_um).astype(int)
        y, x = np.minimum(y, tissue.outline.shape[0] - 1), np.minimum(x, tissue.outline.shape[1] - 1)
        below = tissue.outline[y, x] < np.quantile(tissue.outline, 0.4)
        assert np.mean(anatomy.zone[below] == VOID) > 0.97
        assert np.mean(anatomy.zone[tissue.outline[y, x] > level] == VOID) < 0.5

    def test_vacuoles_do_not_run_into_each_other(self) -> None:
        lattice = np.zeros((3, 3, 7))
        lattice[1, 1] = [150, 150, 60, 1, 0, 0, 2]
        lattice[1, 2] = [210, 150, 60, 1, 0, 0, 2]
        depth = anatomy_module._depth_in_vacuole
        assert depth((lattice, 100.0), 150.0, 150.0) > 0
        assert depth((lattice, 100.0), 210.0, 150.0) > 0
        assert depth((lattice, 100.0), 180.0, 150.0) < 0
        assert depth((lattice, 100.0), 150.0, 280.0) < 0


class TestPlacement:
    def test_cores_never_overlap(self) -> None:
        niches, types = niches_of(), draw_cell_types(np.random.default_rng(0), 16)
        rng = np.random.default_rng(0)
        tissue = draw_tissue(rng, niches, AREA_UM2)
        anatomy = draw_anatomy(rng, tissue, niches)
        placed = place_cells(rng, tissue, anatomy, niches, types)
        pairs = cKDTree(placed[:, [X, Y]]).query_pairs(2 * placed[:, CORE].max(), output_type="ndarray")
        distance = np.hypot(*(placed[pairs[:, 0]][:, [X, Y]] - placed[pairs[:, 1]][:, [X, Y]]).T)
        assert (distance > placed[pairs, CORE].sum(axis=1)).all()

    def test_no_cell_in_a_hole(self, section: Section) -> None:
        cells, anatomy = section.cells, section.anatomy
        row, column = (cells.y / STEP_UM).astype(int), (cells.x / STEP_UM).astype(int)
        assert not np.isin(anatomy.zone[row, column], (VOID, BLOOD, APICAL)).any()

    def test_zones_are_those_of_the_anatomy(self) -> None:
        types = draw_cell_types(np.random.default_rng(0), 16)
        niches, tissue, anatomy = only("solid tumor")
        placed = place_cells(np.random.default_rng(0), tissue, anatomy, niches, types)
        zone = anatomy.zone[(placed[:, Y] / STEP_UM).astype(int), (placed[:, X] / STEP_UM).astype(int)]
        np.testing.assert_array_equal(zone, placed[:, ZONE])
        assert np.mean(zone == NEST) > 0.5


class TestSection:
    @pytest.mark.parametrize("n_cells", [100, 333, 1500])
    def test_has_exactly_as_many_cells_as_asked_for(self, n_cells: int) -> None:
        niches, types = niches_of(), draw_cell_types(np.random.default_rng(0), 16)
        section = draw_section(np.random.SeedSequence(1), n_cells, niches, types, one_nucleus=True)
        assert len(section.cells) == len(section.cells.nuclei) == n_cells

    def test_every_seed_ends_with_a_fair_amount_of_tissue(self) -> None:
        densities = []
        for seed in range(25):
            niches, types = niches_of(seed), draw_cell_types(np.random.default_rng(seed), 16)
            section = draw_section(np.random.SeedSequence(seed), 300, niches, types, one_nucleus=True)
            covered = np.mean(section.tissue.outline > section.outline_level)
            assert 0.3 < covered < 0.95
            densities.append(300 / (np.sum(section.anatomy.clearance >= 0) * (STEP_UM / 1000) ** 2))
        assert 3000 < np.median(densities) < 6000

    @pytest.mark.parametrize("crowd", [0, 100_000])
    def test_gives_up_when_no_slide_fits(self, monkeypatch: pytest.MonkeyPatch, crowd: int) -> None:
        """Rather than draw slides for ever, smaller and smaller or larger and larger."""
        areas = []

        def place(_: object, tissue: Tissue, *__: object) -> np.ndarray:
            areas.append(tissue.width_um * tissue.height_um)
            return np.zeros((crowd, 6))

        def draw(_: object, __: object, area: float) -> Tissue:
            return dataclasses.replace(real, width_um=area, height_um=1.0)

        types, niches = draw_cell_types(np.random.default_rng(0), 16), niches_of()
        real = draw_tissue(np.random.default_rng(0), niches, 200.0**2)
        monkeypatch.setattr(section_module, "draw_tissue", draw)
        monkeypatch.setattr(section_module, "draw_anatomy", lambda *_: None)
        monkeypatch.setattr(section_module, "place_cells", place)
        with pytest.raises(
            RuntimeError, match=f"No slide for 300 cells was found in 20 tries.*holds {crowd}.*another seed"
        ):
            draw_section(np.random.SeedSequence(0), 300, niches, types, one_nucleus=True)
        assert len(areas) == 20
        assert (areas[1] > areas[0]) == (crowd == 0)

    def test_niches_differ_in_density(self, section: Section) -> None:
        cells = section.cells
        nearest = cKDTree(np.c_[cells.x, cells.y]).query(np.c_[cells.x, cells.y], k=6)[0][:, 5]
        by_niche = [np.median(nearest[cells.niche == n]) for n in range(8) if (cells.niche == n).sum() > 30]
        assert max(by_niche) > 1.4 * min(by_niche)

    def test_neighbours_in_space_are_neighbours_in_the_arrays(self, section: Section) -> None:
        cells = section.cells
        step = np.hypot(np.diff(cells.x), np.diff(cells.y))
        assert np.median(step) < 200

    def test_twice_the_same(self, section: Section, make_section: Callable[..., Section]) -> None:
        again = make_section(3)
        for field in ("x", "y", "niche", "cell_type", "outline", "n_nuclei"):
            np.testing.assert_array_equal(getattr(section.cells, field), getattr(again.cells, field))


class TestShapes:
    def test_outlines_are_bounded(self, section: Section) -> None:
        outline = section.cells.outline
        assert outline.shape == (len(section.cells), N_ANGLES)
        assert outline.min() > 0
        assert outline.max() <= MAX_REACH_UM

    def test_cells_stop_at_holes(self, section: Section) -> None:
        cells = section.cells
        theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
        x = cells.x[:, None] + 0.9 * cells.outline * np.cos(theta)
        y = cells.y[:, None] + 0.9 * cells.outline * np.sin(theta)
        clearance = section.anatomy.clearance[(y / STEP_UM).astype(int), (x / STEP_UM).astype(int)]
        assert np.mean(clearance * CLEARANCE_UNIT_UM < -2.0) < 0.002

    def test_types_keep_their_size_and_shape(self, section: Section) -> None:
        nuclei, cells, types = section.cells.nuclei, section.cells, section.cell_types
        area = 0.5 * np.sin(2 * np.pi / N_ANGLES) * (nuclei.outline * np.roll(nuclei.outline, -1, 1)).sum(axis=1)
        single = cells.n_nuclei[nuclei.cell] == 1
        for name in ("Fibroblast", "CD4 T cell", "Macrophage"):
            code = types.names.index(name)
            measured = np.median(area[single & (cells.cell_type[nuclei.cell] == code)])
            # Crowding cuts some of them.
            assert 0.6 < measured / types.look("nucleus_area")[code] < 1.2
        aspect = nuclei.outline.max(axis=1) / nuclei.outline.min(axis=1)
        long, round_ = (types.names.index(name) for name in ("Fibroblast", "CD4 T cell"))
        of_type = cells.cell_type[nuclei.cell]
        assert np.median(aspect[of_type == long]) > 1.5 * np.median(aspect[of_type == round_])

    def test_two_nuclei_are_apart(self, section: Section) -> None:
        nuclei = section.cells.nuclei
        theta = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
        pairs = np.flatnonzero(np.diff(nuclei.cell) == 0)
        assert len(pairs)
        for first in pairs:
            x = nuclei.x[first : first + 2, None] + nuclei.outline[first : first + 2] * np.cos(theta)
            y = nuclei.y[first : first + 2, None] + nuclei.outline[first : first + 2] * np.sin(theta)
            a, b = (Polygon(np.c_[x[n], y[n]]) for n in (0, 1))
            assert not a.intersects(b)


class TestLookup:
    def test_bins_hold_every_place_once(self) -> None:
        rng = np.random.default_rng(0)
        x, y = rng.uniform(0, 300, (2, 500))
        order, starts, columns = spatial_bins(x, y)
        assert sorted(order) == list(range(500))
        for index in range(len(starts) - 1):
            members = order[starts[index] : starts[index + 1]]
            assert ((y[members] // 16).astype(int) == index // columns).all()
            assert ((x[members] // 16).astype(int) == index % columns).all()

    def test_radius_is_that_of_the_direction(self) -> None:
        outline = np.arange(1, N_ANGLES + 1, dtype=np.float32)
        for a in range(N_ANGLES):
            angle = a * 2 * np.pi / N_ANGLES + 1e-6
            assert outline_radius(outline, np.cos(angle), np.sin(angle)) == pytest.approx(a + 1, abs=1e-3)
        between = 2.5 * 2 * np.pi / N_ANGLES
        assert outline_radius(outline, np.cos(between), np.sin(between)) == pytest.approx(3.5)
