"""Tissue niches: architecture, stroma, cell densities and cell-type mixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stdistill.datasets._simulation.biology.cell_types import CellTypes
from stdistill.datasets._simulation.biology.templates import ALWAYS_PRESENT, TEMPLATES

VOID, STROMA, WALL, BLOOD, NEST, GLAND, APICAL = range(7)
"""Zones: empty slide, connective tissue, vessel wall, vessel lumen, solid epithelium, gland nuclei, gland cytoplasm."""
N_ZONES = 7

_WALL_CELLS = {"Endothelial": 6.0, "Pericyte": 2.0, "Smooth muscle": 2.0}
"""Weights of the cell types in a vessel wall."""
_WALL_DENSITY = 16000.0
"""Cells per mm² of vessel wall."""
_PERTURBED = ("gland_radius", "lumen", "eosin", "fibre", "coarseness", "grain", "loose", "haze")
"""Properties of a template that a seed varies."""

TEXTURE_FIELDS = ("eosin", "fibre", "coarseness", "grain", "loose", "haze")
"""Properties of the stroma that are blended where niches grade into each other."""


@dataclass(frozen=True)
class Niches:
    """The niches of one tissue, in the order of their codes; every array has one row a niche."""

    names: tuple[str, ...]
    regions: tuple[str, ...]
    """What a pathologist would call them; several niches may share a name."""
    share: npt.NDArray[np.float64]
    """Share of the tissue area."""
    size: npt.NDArray[np.float64]
    """Extent of a domain relative to the others."""
    density: npt.NDArray[np.float64]
    """Niche by zone, cells per mm² before crowding."""
    composition: npt.NDArray[np.float64]
    """Niche by zone by cell type, rows sum to 1."""
    structure: dict[str, npt.NDArray[np.float64]]
    """The other numbers of :class:`Template`, by name."""


def draw_niches(rng: np.random.Generator, n_niches: int, cell_types: CellTypes) -> Niches:
    """Draw the niches of a tissue: which templates, in which variant, with which mixtures of cell types."""
    available = list(TEMPLATES)
    rest = list(rng.permutation(available[ALWAYS_PRESENT:]))
    order = [*available[:ALWAYS_PRESENT], *rest]
    names: list[str] = []
    structure: dict[str, list[float]] = {
        name: [] for name in (*_PERTURBED, "nests", "glands", "apical", "fat", "vessels")
    }
    density = np.zeros((n_niches, N_ZONES))
    composition = np.zeros((n_niches, N_ZONES, len(cell_types.names)))
    templates = []
    for niche in range(n_niches):
        kind = order[niche % len(order)]
        template = TEMPLATES[kind]
        repeat = niche // len(order)
        names.append(kind if repeat == 0 else f"{kind} {repeat + 1}")
        templates.append(template)
        for name, values in structure.items():
            jitter = np.exp(0.15 * rng.standard_normal()) if name in _PERTURBED else 1.0
            values.append(float(getattr(template, name)) * jitter)
        # One clone dominates a tumour domain, and some domains are a mixture of both.
        clones = dict(zip(("Tumor A", "Tumor B"), rng.dirichlet([0.25, 0.25]), strict=True))
        parenchyma, stroma = (
            {name: weight * clones.get(name, 1.0) for name, weight in weights.items()}
            for weights in (template.parenchyma, template.stroma)
        )
        crowding = np.exp(0.12 * rng.standard_normal())
        density[niche, [STROMA, NEST, GLAND, WALL]] = crowding * np.array(
            [template.density_stroma, template.density_parenchyma, template.density_parenchyma, _WALL_DENSITY]
        )
        for zone, weights in ((STROMA, stroma), (NEST, parenchyma), (GLAND, parenchyma), (WALL, _WALL_CELLS)):
            composition[niche, zone] = _mixture(rng, weights, cell_types.names)
        composition[niche, GLAND] = composition[niche, NEST]
    share = rng.dirichlet(np.full(n_niches, 2.5) * np.array([t.size for t in templates]))
    share = np.maximum(share, 0.25 / n_niches)
    return Niches(
        names=tuple(names),
        regions=tuple(t.region for t in templates),
        share=share / share.sum(),
        size=np.array([t.size for t in templates]),
        density=density,
        composition=composition,
        structure={name: np.array(values) for name, values in structure.items()},
    )


def _mixture(
    rng: np.random.Generator, weights: dict[str, float], cell_types: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    """Draw shares of the cell types about the weights of a template."""
    base = np.array([weights.get(name, 0.0) for name in cell_types])
    # Templates name more types than a small catalogue holds; immune and stromal cells wander everywhere.
    if base.sum() == 0:
        base[: len(base) // 2] = 1.0
    base = base / base.sum() + 0.004
    return rng.dirichlet(30 * base)
