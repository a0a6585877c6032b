"""The kinds of niches: possible numbers, and differences that can be seen."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest

from stdistill.datasets._simulation.biology.cell_types import ARCHETYPES
from stdistill.datasets._simulation.biology.templates import ALWAYS_PRESENT, TEMPLATES, Template

NUMBERS = [field.name for field in fields(Template) if field.type == "float"]
KINDS = pytest.mark.parametrize("kind", TEMPLATES)


@KINDS
def test_shares_and_probabilities_are_possible(kind: str) -> None:
    template = TEMPLATES[kind]
    for name in ("nests", "glands", "lumen", "apical", "fat", "vessels", "loose"):
        assert 0 <= getattr(template, name) <= 1
    for name in ("density_parenchyma", "density_stroma", "gland_radius", "size", "coarseness"):
        assert getattr(template, name) > 0
    assert min(*template.parenchyma.values(), *template.stroma.values()) > 0


@KINDS
def test_cells_find_room_in_every_compartment(kind: str) -> None:
    template = TEMPLATES[kind]
    # Squares of 100 µm² are thrown at in 24 passes, so a density above 240,000 could not be met.
    assert max(template.density_parenchyma, template.density_stroma) < 240_000


@KINDS
def test_numbers_differ_from_every_other_kind(kind: str) -> None:
    """In what a slide shows, not only in the cell types."""
    for other in set(TEMPLATES) - {kind}:
        pairs = [(getattr(TEMPLATES[kind], name), getattr(TEMPLATES[other], name)) for name in NUMBERS]
        assert sum(abs(a - b) > 0.1 * max(abs(a), abs(b)) for a, b in pairs) >= 2


def test_regions_of_one_name_hold_several_niches() -> None:
    """A pathologist's regions are coarser than niches: some cannot be told from the annotation."""
    regions = [template.region for template in TEMPLATES.values()]
    by_region = {region: regions.count(region) for region in regions}
    assert by_region["Stroma"] == 3
    assert by_region["Tumor"] == by_region["Inflamed stroma"] == 2


def test_every_tissue_has_tumour_stroma_and_lymphocytes() -> None:
    first = itertools.islice(TEMPLATES.values(), ALWAYS_PRESENT)
    assert [template.region for template in first] == ["Tumor", "Stroma", "Lymphoid aggregate"]


def test_architectures_are_all_there() -> None:
    for name, fewest in (("nests", 4), ("glands", 2), ("fat", 1)):
        assert sum(getattr(template, name) > 0.1 for template in TEMPLATES.values()) >= fewest


def test_is_frozen() -> None:
    with pytest.raises(AttributeError):
        TEMPLATES["fat"].fat = 0.0  # type: ignore[misc]


def test_types_of_templates_exist() -> None:
    for template in TEMPLATES.values():
        assert set(template.parenchyma) | set(template.stroma) <= set(ARCHETYPES)
