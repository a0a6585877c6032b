"""Domains, fibres and outline of a section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import norm
from skimage.morphology import convex_hull_image

from stdistill.datasets._simulation.biology.cell_types import draw_cell_types
from stdistill.datasets._simulation.biology.niches import TEXTURE_FIELDS, Niches, draw_niches
from stdistill.datasets._simulation.tissue import tissue as tissue_module
from stdistill.datasets._simulation.tissue.section import Section, draw_section
from stdistill.datasets._simulation.tissue.tissue import ACROSS, NEST_LEVEL, Tissue, draw_tissue

AREA_UM2, SMALL_UM2 = 1500.0**2, 900.0**2


def niches_of(seed: int = 0) -> Niches:
    return draw_niches(np.random.default_rng(seed), 8, draw_cell_types(np.random.default_rng(seed), 16))


@pytest.fixture(scope="module")
def niches() -> Niches:
    return niches_of()


@pytest.fixture(scope="module")
def tissue(niches: Niches) -> Tissue:
    return draw_tissue(np.random.default_rng(0), niches, AREA_UM2)


def probabilities(tissue: Tissue) -> np.ndarray:
    return np.diff(tissue.domains.astype(int), axis=2, prepend=0) / 255


def test_tissue_covers_the_area() -> None:
    tissue = draw_tissue(np.random.default_rng(0), niches_of(), SMALL_UM2)
    assert tissue.width_um * tissue.height_um == pytest.approx(SMALL_UM2)
    rows, columns = tissue.outline.shape
    assert rows * tissue.step_um >= tissue.height_um
    assert columns * tissue.step_um >= tissue.width_um
    assert tissue.fields.shape[:2] == tissue.fibre_angle.shape == tissue.domains.shape[:2] == (rows, columns)


@pytest.mark.parametrize("seed", range(4))
def test_domains_have_the_shares_that_were_drawn(seed: int) -> None:
    niches = niches_of(seed)
    tissue = draw_tissue(np.random.default_rng(seed), niches, 4 * SMALL_UM2)
    share = np.bincount(tissue.niche().ravel(), minlength=8) / tissue.niche().size
    np.testing.assert_allclose(share, niches.share, atol=0.06)


def test_domains_are_cumulative_probabilities() -> None:
    domains = draw_tissue(np.random.default_rng(0), niches_of(), SMALL_UM2).domains
    assert (np.diff(domains.astype(int), axis=2) >= 0).all()
    assert (domains[..., -1] == 255).all()


def test_borders_are_sharp_here_and_gradual_there() -> None:
    tissue = draw_tissue(np.random.default_rng(0), niches_of(), 4 * SMALL_UM2)
    certainty = np.diff(tissue.domains.astype(int), axis=2, prepend=0).max(axis=2) / 255
    niche = tissue.niche()
    at_border = (niche[:, 1:] != niche[:, :-1]) & (certainty[:, 1:] > 0.4)
    # Certainty some 20 µm beside a border is high where the border is sharp.
    shift = int(20 / tissue.step_um)
    rows, columns = np.nonzero(at_border[:, shift:-shift])
    beside = certainty[rows, columns + 2 * shift]
    assert np.quantile(beside, 0.9) > 0.95
    assert np.quantile(beside, 0.1) < 0.75


def test_fibres_run_along_their_angle() -> None:
    tissue = draw_tissue(np.random.default_rng(0), niches_of(), SMALL_UM2)
    across = tissue.fields[..., ACROSS]
    grad_y, grad_x = np.gradient(across, tissue.step_um)
    along = np.cos(tissue.fibre_angle) * grad_x + np.sin(tissue.fibre_angle) * grad_y
    assert np.abs(along).max() < 0.05 * np.hypot(grad_x, grad_y).mean()


def test_outline_is_low_along_the_edges() -> None:
    for seed in range(6):
        outline = draw_tissue(np.random.default_rng(seed), niches_of(seed), SMALL_UM2).outline
        level = np.quantile(outline, 0.4)
        edge = np.concatenate([outline[0], outline[-1], outline[:, 0], outline[:, -1]])
        assert np.mean(edge < level) > 0.97


def test_probabilities_are_a_distribution(tissue: Tissue) -> None:
    probability = probabilities(tissue)
    assert probability.min() >= 0
    np.testing.assert_allclose(probability.sum(axis=2), 1)


def test_the_niche_is_the_most_probable_one(tissue: Tissue) -> None:
    np.testing.assert_array_equal(tissue.niche(), probabilities(tissue).argmax(axis=2))


def test_every_niche_is_somewhere(niches: Niches) -> None:
    for seed in range(4):
        found = np.unique(draw_tissue(np.random.default_rng(seed), niches, AREA_UM2).niche())
        assert found.tolist() == list(range(8))


def test_shares_do_not_depend_on_the_layering(niches: Niches) -> None:
    """Averaged over tissues, each niche covers what it was given."""
    shares = [
        np.bincount(draw_tissue(np.random.default_rng(seed), niches, 700.0**2).niche().ravel(), minlength=8)
        for seed in range(12)
    ]
    mean = np.mean([share / share.sum() for share in shares], axis=0)
    np.testing.assert_allclose(mean, niches.share, atol=0.02)


def test_domains_are_wide_patches_not_speckles(tissue: Tissue) -> None:
    niche = tissue.niche()
    border = (niche[1:, 1:] != niche[:-1, 1:]) | (niche[1:, 1:] != niche[1:, :-1])
    assert border.mean() < 0.12
    for code in range(8):
        pieces, _ = ndimage.label(niche == code)
        sizes = np.bincount(pieces.ravel())[1:]
        # Half of a niche lies in pieces of more than 60 µm across.
        assert sizes[sizes * tissue.step_um**2 > 60.0**2].sum() > 0.5 * sizes.sum()


def test_seeds_draw_other_domains(niches: Niches, tissue: Tissue) -> None:
    other = draw_tissue(np.random.default_rng(1), niches, AREA_UM2)
    rows, columns = (min(a, b) for a, b in zip(tissue.outline.shape, other.outline.shape, strict=True))
    same = np.mean(tissue.niche()[:rows, :columns] == other.niche()[:rows, :columns])
    assert same < 0.5
    assert tissue.width_um / tissue.height_um != pytest.approx(other.width_um / other.height_um, rel=1e-3)


def test_same_seed_draws_the_same(niches: Niches, tissue: Tissue) -> None:
    again = draw_tissue(np.random.default_rng(0), niches, AREA_UM2)
    for name in ("fields", "domains", "fibre_angle", "outline"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tissue, name))


def test_stroma_is_the_mixture_of_the_niches(niches: Niches, tissue: Tissue) -> None:
    probability = probabilities(tissue)
    for channel, name in enumerate(TEXTURE_FIELDS):
        expected = probability @ niches.structure[name]
        # Probabilities are stored in steps of 1/255.
        tolerance = 8 / 255 * niches.structure[name].max()
        np.testing.assert_allclose(tissue.fields[..., channel], expected, atol=tolerance)


def test_nests_cover_their_share_of_a_niche(niches: Niches, tissue: Tissue) -> None:
    """A standard normal noise exceeds the level as often as the niche has nests."""
    certain = probabilities(tissue).max(axis=2) > 0.999
    covered = norm.sf(tissue.fields[..., NEST_LEVEL][certain])
    np.testing.assert_allclose(covered, niches.structure["nests"][tissue.niche()[certain]], atol=0.01)


def test_fibres_bend_slowly(tissue: Tissue) -> None:
    # Fibres have no direction, only an axis: doubled angles tell how well neighbours agree.
    axis = np.exp(2j * tissue.fibre_angle)
    near = int(20 / tissue.step_um)
    assert np.mean((axis[near:] * axis[:-near].conj()).real) > 0.9
    assert abs(axis.mean()) < 0.98


def test_large_slides_get_a_coarser_raster(niches: Niches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue_module, "_MAX_RASTER", 150)
    small = draw_tissue(np.random.default_rng(0), niches, 400.0**2)
    large = draw_tissue(np.random.default_rng(0), niches, 40_000.0**2)
    assert small.step_um == 4
    assert max(large.outline.shape) <= 152
    assert large.step_um == pytest.approx(max(large.width_um, large.height_um) / 150)
    assert large.domains.shape[:2] == large.fields.shape[:2] == large.fibre_angle.shape == large.outline.shape


def test_the_cap_of_the_raster_bounds_memory() -> None:
    # Nine channels of four bytes, and a byte a niche: well under 150 MB even with all 26 niches.
    assert tissue_module._MAX_RASTER**2 * (9 * 4 + 26 + 8) < 150e6


def test_outline_never_touches_the_edge_of_the_slide(section: Section, make_section: Callable[[int], Section]) -> None:
    types = draw_cell_types(np.random.default_rng(0), 16)
    sections = [section, make_section(1)]
    for seed in range(12):
        niches = draw_niches(np.random.default_rng(seed), 8, types)
        sections.append(draw_section(np.random.SeedSequence(seed), 300, niches, types, one_nucleus=True))
    for drawn in sections:
        inside = drawn.tissue.outline > drawn.outline_level
        assert not np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).any()


def test_outline_is_mostly_one_piece_with_a_ragged_border(section: Section) -> None:
    inside = section.tissue.outline > section.outline_level
    pieces, _ = ndimage.label(inside)
    assert np.bincount(pieces.ravel())[1:].max() > 0.9 * inside.sum()
    # Bays and bumps: neither a disc nor a rectangle fills its convex hull as badly.
    assert 0.8 < inside.sum() / convex_hull_image(inside).sum() < 0.985
