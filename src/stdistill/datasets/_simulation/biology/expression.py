"""Molecules: how many of each gene a cell holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stdistill.datasets._simulation.biology.cell_types import CellTypes
from stdistill.datasets._simulation.biology.niches import Niches

_MEAN_MOLECULES = 150.0
"""In a cell of average size and type."""
_AMBIENT_SHARE = 0.05
"""Of the molecules of a cell, those that come from elsewhere."""
_CONTROL_RATE = 0.004
"""Molecules of one control feature in a cell."""
GENE_EXPRESSION = "Gene Expression"
"""Feature type of the genes."""
CONTROLS = {
    "Negative Control Probe": tuple(f"NegControlProbe_{i:05d}" for i in range(1, 11)),
    "Negative Control Codeword": tuple(f"NegControlCodeword_{i:04d}" for i in range(500, 512)),
    "Unassigned Codeword": tuple(f"UnassignedCodeword_{i:04d}" for i in range(1, 21)),
}
"""Features that measure noise, by feature type."""


@dataclass(frozen=True)
class Expression:
    """Negative-binomial counts: a mean for every cell type, shifted by the niche, with ambient molecules on top."""

    type_mean: npt.NDArray[np.float64]
    """Cell type by gene, molecules in a cell of average size."""
    niche_fold: npt.NDArray[np.float64]
    """Niche by gene, fold change."""
    dispersion: npt.NDArray[np.float64]
    """Shape of the gamma by gene: small for bursty genes."""
    ambient: npt.NDArray[np.float64]
    """Mean by gene, the same for every cell."""
    control: npt.NDArray[np.float64]
    """Mean by control feature."""


def draw_expression(rng: np.random.Generator, cell_types: CellTypes, niches: Niches) -> Expression:
    """Draw which genes make the types and niches of a tissue differ, and by how much."""
    n_types, n_genes = cell_types.markers.shape
    # Panels are designed so that most markers are low where they mark nothing.
    baseline = rng.lognormal(-2.6, 1.1, n_genes) * np.where(cell_types.markers.any(axis=0), 0.35, 1.0)
    weights = baseline * rng.lognormal(0, 0.35, (n_types, n_genes))
    # Besides its markers each type has other genes, shared with no particular type, that are high or low.
    other = rng.random((n_types, n_genes)) < 0.06
    weights *= np.where(other, rng.lognormal(1.0, 0.6, (n_types, n_genes)), 1.0)
    strength = rng.lognormal(0.1, 0.6, n_genes) * rng.lognormal(0, 0.4, (n_types, n_genes))
    weights += np.where(cell_types.markers, strength, 0.0)
    # Relative type sizes are kept, whatever the number of genes.
    type_mean = _MEAN_MOLECULES * weights / weights.sum(axis=1).mean()
    type_mean *= (cell_types.molecules * weights.sum(axis=1).mean() / weights.sum(axis=1))[:, None]
    shifted = rng.random((len(niches.names), n_genes)) < 0.15
    niche_fold = np.exp(np.where(shifted, 0.45 * rng.standard_normal(shifted.shape), 0.0))
    n_controls = sum(len(names) for names in CONTROLS.values())
    return Expression(
        type_mean=type_mean,
        niche_fold=niche_fold,
        dispersion=np.asarray(0.3 + rng.gamma(4.0, 0.6, n_genes)),
        ambient=_AMBIENT_SHARE * type_mean.mean(axis=0) * rng.lognormal(0, 0.5, n_genes),
        control=_CONTROL_RATE * rng.lognormal(0, 0.8, n_controls),
    )


def draw_counts(
    rng: np.random.Generator,
    expression: Expression,
    cell_type: npt.NDArray[np.uint8],
    niche: npt.NDArray[np.uint8],
    relative_size: npt.NDArray[np.float64],
) -> sparse.csr_matrix:
    """Draw the counts of some cells: genes first, control features after them."""
    size = (relative_size**0.7 * rng.lognormal(0, 0.3, len(cell_type)))[:, None]
    mean = size * expression.type_mean[cell_type] * expression.niche_fold[niche]
    rate = mean * rng.standard_gamma(expression.dispersion, mean.shape) / expression.dispersion
    genes = rng.poisson(rate + expression.ambient)
    controls = rng.poisson(expression.control, (len(cell_type), len(expression.control)))
    return sparse.csr_matrix(np.hstack([genes, controls]).astype(np.int32))
