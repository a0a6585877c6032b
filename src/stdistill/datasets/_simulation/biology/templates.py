"""Kinds of tissue niches, before a seed has varied them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """A niche before a seed has varied it. Lengths in µm, densities in cells per mm² of the compartment."""

    region: str
    """What a pathologist would call it."""
    parenchyma: dict[str, float]
    """Weights of the cell types within nests and glands."""
    stroma: dict[str, float]
    density_parenchyma: float = 6000
    density_stroma: float = 3000
    nests: float = 0.0
    """Share of the area outside glands that is cell nests."""
    glands: float = 0.0
    """Probability that a place of the gland lattice holds a gland."""
    gland_radius: float = 50
    lumen: float = 0.45
    """Radius of the lumen over that of the gland."""
    apical: float = 0.3
    """Share of the gland wall, next to the lumen, that holds cytoplasm but no nuclei."""
    fat: float = 0.0
    """Probability that a place of the fat lattice holds a fat vacuole."""
    vessels: float = 0.4
    eosin: float = 0.42
    fibre: float = 0.5
    """Contrast of the fibre texture."""
    coarseness: float = 1.0
    """Thickness of the fibres relative to loose connective tissue."""
    grain: float = 0.1
    """Contrast of the granular texture, high in necrosis."""
    loose: float = 0.2
    """How far the fibres come apart and let the slide shine through, 0 to 1."""
    haze: float = 0.03
    """Diffuse haematoxylin: ground substance, nuclear debris."""
    size: float = 1.0
    """Extent of a domain relative to the others."""


_TUMOR = {"Tumor A": 6.0, "Tumor B": 6.0, "Cycling tumor": 1.0, "CD8 T cell": 0.15, "Macrophage": 0.25}
"""Cell types of a tumour, with the few that wander into it."""
_STROMAL = {"Fibroblast": 5.0, "Macrophage": 1.0, "CD4 T cell": 0.5, "Mast cell": 0.2, "Schwann cell": 0.25}
"""Cell types of connective tissue."""

TEMPLATES = {
    "solid tumor": Template(
        "Tumor",
        _TUMOR,
        {**_STROMAL, "Myofibroblast": 3.0, "CD8 T cell": 0.5},
        density_parenchyma=16000,
        density_stroma=4200,
        nests=0.8,
        vessels=0.4,
        fibre=0.5,
    ),
    "fibrous stroma": Template(
        "Stroma",
        {"Fibroblast": 1.0},
        {**_STROMAL, "Pericyte": 0.3},
        density_parenchyma=2500,
        density_stroma=2700,
        vessels=0.6,
        eosin=0.47,
        fibre=0.75,
        coarseness=1.7,
        loose=0.35,
        size=1.2,
    ),
    "lymphoid aggregate": Template(
        "Lymphoid aggregate",
        {"B cell": 6.0, "CD4 T cell": 2.5, "Dendritic cell": 0.5},
        {"CD4 T cell": 3.0, "B cell": 2.0, "Treg": 0.8, "CD8 T cell": 0.8, "Dendritic cell": 0.5},
        density_parenchyma=60000,
        density_stroma=45000,
        nests=0.55,
        vessels=0.35,
        eosin=0.33,
        fibre=0.25,
        loose=0.1,
        haze=0.08,
        size=0.45,
    ),
    "glandular tumor": Template(
        "Tumor",
        _TUMOR,
        {**_STROMAL, "Myofibroblast": 4.0, "Neutrophil": 0.4},
        density_parenchyma=22000,
        density_stroma=3600,
        glands=0.95,
        gland_radius=66,
        lumen=0.38,
        vessels=0.4,
        eosin=0.42,
        fibre=0.55,
    ),
    "inflamed stroma": Template(
        "Inflamed stroma",
        {"CD4 T cell": 1.0},
        {
            "CD4 T cell": 3.0,
            "CD8 T cell": 3.0,
            "Macrophage": 2.5,
            "Plasma cell": 1.5,
            "Fibroblast": 2.0,
            "NK cell": 0.5,
            "Neutrophil": 0.6,
            "Treg": 0.6,
        },
        density_parenchyma=7000,
        density_stroma=9000,
        vessels=0.7,
        eosin=0.39,
        loose=0.45,
        haze=0.05,
        size=0.7,
    ),
    "glands": Template(
        "Benign glands",
        {"Epithelial": 9.0, "Basal": 1.0},
        {**_STROMAL, "Plasma cell": 3.0, "CD4 T cell": 1.5, "Mast cell": 0.4},
        density_parenchyma=30000,
        density_stroma=5200,
        glands=1.0,
        gland_radius=56,
        lumen=0.34,
        apical=0.5,
        vessels=0.4,
        eosin=0.39,
        loose=0.4,
    ),
    "smooth muscle": Template(
        "Muscle",
        {"Smooth muscle": 1.0},
        {"Smooth muscle": 12.0, "Fibroblast": 1.0, "Endothelial": 0.4, "Schwann cell": 0.3},
        density_parenchyma=3000,
        density_stroma=3000,
        vessels=0.35,
        eosin=0.55,
        fibre=0.4,
        coarseness=2.6,
        loose=0.12,
        size=1.1,
    ),
    "fat": Template(
        "Adipose tissue",
        {"Adipocyte": 1.0},
        {"Adipocyte": 4.0, "Macrophage": 1.0, "Endothelial": 1.0, "Fibroblast": 1.0},
        density_parenchyma=2500,
        density_stroma=5200,
        fat=0.97,
        vessels=0.35,
        eosin=0.35,
        fibre=0.3,
        loose=0.1,
        size=1.1,
    ),
    "desmoplastic stroma": Template(
        "Stroma",
        {"Tumor A": 1.0, "Tumor B": 1.0},
        {"Myofibroblast": 6.0, "Fibroblast": 2.0, "Macrophage": 1.2, "CD8 T cell": 0.5},
        density_parenchyma=12000,
        density_stroma=3900,
        nests=0.12,
        vessels=0.4,
        eosin=0.44,
        fibre=0.6,
        coarseness=1.2,
        loose=0.2,
        haze=0.06,
    ),
    "necrosis": Template(
        "Necrosis",
        {"Neutrophil": 1.0},
        {"Neutrophil": 4.0, "Macrophage": 3.0, "Tumor A": 0.6, "Tumor B": 0.6},
        density_parenchyma=2000,
        density_stroma=1700,
        vessels=0.05,
        eosin=0.45,
        fibre=0.1,
        grain=0.28,
        loose=0.25,
        haze=0.12,
        size=0.6,
    ),
    "plasma cell zone": Template(
        "Inflamed stroma",
        {"Plasma cell": 1.0},
        {"Plasma cell": 7.0, "CD4 T cell": 1.5, "B cell": 0.8, "Fibroblast": 1.5, "Macrophage": 0.8},
        density_parenchyma=7000,
        density_stroma=10000,
        vessels=0.6,
        eosin=0.38,
        loose=0.35,
        haze=0.05,
        size=0.55,
    ),
    "myxoid stroma": Template(
        "Stroma",
        {"Fibroblast": 1.0},
        {"Fibroblast": 5.0, "Macrophage": 1.5, "Mast cell": 0.6, "Dendritic cell": 0.3},
        density_parenchyma=1500,
        density_stroma=1500,
        vessels=0.6,
        eosin=0.27,
        fibre=0.35,
        coarseness=0.7,
        loose=0.75,
        haze=0.10,
        size=0.7,
    ),
    "squamous nests": Template(
        "Squamous epithelium",
        {"Basal": 8.0, "Tumor B": 1.0, "Dendritic cell": 0.2},
        {**_STROMAL, "CD4 T cell": 1.5},
        density_parenchyma=18000,
        density_stroma=4000,
        nests=0.65,
        vessels=0.4,
        eosin=0.43,
    ),
}
"""Kinds of niches by name."""
ALWAYS_PRESENT = 3
"""Every tissue has the first so many kinds."""
