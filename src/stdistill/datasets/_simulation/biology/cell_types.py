"""Cell types of human tissue: what they look like in H&E, and the genes they are known by."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Look:
    """How a cell appears in H&E; types that share a look cannot be told apart by eye.

    Lengths are in µm, areas in µm², stains in optical-density units of the pure stain.
    """

    nucleus_area: float
    aspect: float
    """Long over short axis of the nucleus."""
    irregularity: float
    """Relative amplitude of the bumps of the nuclear outline."""
    haematoxylin: float
    chromatin: float
    """Contrast of the chromatin texture, 0 (smooth) to 1 (clumped)."""
    vesicular: float
    """How much paler the middle of the nucleus is than its rim, 0 to 1."""
    nucleolus: float
    """Radius of the nucleolus, 0 where none is seen."""
    cytoplasm: float
    """How far the cell reaches beyond its nucleus."""
    cytoplasm_eosin: float
    cytoplasm_haematoxylin: float
    eccentricity: float
    """How far the nucleus sits to one side, 0 to 1."""
    area_cv: float
    """Coefficient of variation of the nucleus area."""


LOOKS = {
    "tumour": Look(58, 1.30, 0.06, 1.00, 0.75, 0.55, 0.95, 4.0, 0.30, 0.14, 0.15, 0.34),
    "columnar": Look(40, 1.75, 0.03, 0.85, 0.45, 0.25, 0.45, 4.6, 0.42, 0.06, 0.35, 0.18),
    "basal": Look(38, 1.55, 0.05, 1.10, 0.55, 0.10, 0.00, 2.6, 0.34, 0.12, 0.00, 0.22),
    "lymphocyte": Look(24, 1.10, 0.03, 1.45, 0.70, 0.00, 0.00, 0.9, 0.12, 0.12, 0.00, 0.16),
    "plasma": Look(27, 1.12, 0.03, 1.30, 0.95, 0.15, 0.00, 3.0, 0.28, 0.30, 0.85, 0.15),
    "histiocyte": Look(36, 1.50, 0.06, 0.85, 0.45, 0.40, 0.40, 4.6, 0.26, 0.05, 0.30, 0.25),
    "granulocyte": Look(19, 1.30, 0.16, 1.40, 0.60, 0.00, 0.00, 2.2, 0.42, 0.00, 0.10, 0.15),
    "mast": Look(26, 1.15, 0.03, 1.00, 0.40, 0.10, 0.00, 3.2, 0.25, 0.40, 0.10, 0.18),
    "fibroblast": Look(32, 3.40, 0.04, 0.90, 0.45, 0.20, 0.00, 1.3, 0.34, 0.02, 0.00, 0.28),
    "smooth muscle": Look(36, 4.20, 0.02, 0.80, 0.35, 0.20, 0.00, 3.0, 0.62, 0.00, 0.00, 0.22),
    "endothelial": Look(24, 3.00, 0.03, 1.10, 0.40, 0.00, 0.00, 0.9, 0.36, 0.02, 0.00, 0.22),
    "adipocyte": Look(16, 3.60, 0.03, 1.25, 0.20, 0.00, 0.00, 0.8, 0.26, 0.00, 0.00, 0.20),
}
"""Looks before a seed has varied them, by name."""

LOOK_FIELDS = tuple(field.name for field in fields(Look))
"""The columns of a table of looks."""
_BOUNDED = [LOOK_FIELDS.index(name) for name in ("chromatin", "vesicular", "eccentricity")]
"""Columns that are shares."""
_ASPECT = LOOK_FIELDS.index("aspect")


@dataclass(frozen=True)
class Archetype:
    """A cell type before a seed has varied it."""

    look: str
    """Name in :data:`LOOKS`."""
    molecules: float
    """Mean number of molecules relative to the other types."""
    markers: tuple[str, ...]


def _archetype(look: str, molecules: float, markers: str) -> Archetype:
    """Split the markers, which are easier to read in one string."""
    return Archetype(look, molecules, tuple(markers.split()))


ARCHETYPES = {
    "Tumor A": _archetype("tumour", 1.6, "EPCAM KRT8 KRT18 KRT19 CDH1 CLDN4 MUC1 ERBB2 TACSTD2 ELF3"),
    "Fibroblast": _archetype("fibroblast", 0.9, "COL1A1 COL1A2 COL3A1 DCN LUM PDGFRA FBLN1 MMP2 SFRP2 C7"),
    "CD4 T cell": _archetype("lymphocyte", 0.55, "CD3D CD3E CD4 IL7R TRAC CCR7 LTB TCF7 CD40LG"),
    "B cell": _archetype("lymphocyte", 0.6, "MS4A1 CD79A CD79B CD19 BANK1 CD37 TNFRSF13C PAX5"),
    "Macrophage": _archetype("histiocyte", 1.2, "CD68 CD163 CSF1R C1QA C1QB MSR1 APOE CD14 MRC1"),
    "Endothelial": _archetype("endothelial", 0.8, "PECAM1 VWF CDH5 CLDN5 KDR PLVAP EGFL7 AQP1"),
    "Smooth muscle": _archetype("smooth muscle", 0.9, "ACTA2 MYH11 TAGLN DES CNN1 MYLK ACTG2 LMOD1"),
    "Tumor B": _archetype("tumour", 1.5, "EPCAM KRT8 KRT7 CEACAM6 AGR2 TFF3 GATA3 ESR1 SOX9 CD24"),
    "CD8 T cell": _archetype("lymphocyte", 0.55, "CD3D CD3E CD8A CD8B GZMK GZMB NKG7 PRF1 CCL5"),
    "Plasma cell": _archetype("plasma", 1.0, "MZB1 JCHAIN SDC1 XBP1 DERL3 TNFRSF17 PRDM1 IRF4"),
    "Epithelial": _archetype("columnar", 1.3, "EPCAM KRT20 CDX2 VIL1 FABP1 CA2 SLC26A3 GUCA2A CDHR5"),
    "Myofibroblast": _archetype("fibroblast", 1.1, "FAP POSTN ACTA2 COL11A1 CTHRC1 INHBA MMP11 THBS2 COL5A1"),
    "Basal": _archetype("basal", 1.2, "KRT5 KRT14 KRT17 TP63 ITGB4 DSG3 LAMC2 COL17A1"),
    "Adipocyte": _archetype("adipocyte", 0.6, "ADIPOQ PLIN1 PLIN4 LPL FABP4 CIDEC LEP"),
    "Pericyte": _archetype("endothelial", 0.7, "RGS5 PDGFRB MCAM NOTCH3 CSPG4 KCNJ8 ABCC9"),
    "Mast cell": _archetype("mast", 0.8, "TPSAB1 CPA3 KIT MS4A2 HDC GATA2 HPGDS"),
    "Dendritic cell": _archetype("histiocyte", 0.9, "CD1C CLEC10A FCER1A CLEC9A CD1A LAMP3 CCR7 FLT3"),
    "Neutrophil": _archetype("granulocyte", 0.35, "S100A8 S100A9 CSF3R FCGR3B CXCR2 CXCL8 FPR1"),
    "Treg": _archetype("lymphocyte", 0.55, "CD3D CD4 FOXP3 IL2RA CTLA4 TIGIT IKZF2 TNFRSF4"),
    "NK cell": _archetype("lymphocyte", 0.5, "NCAM1 KLRD1 GNLY NKG7 FGFBP2 FCGR3A KLRF1"),
    "Cycling tumor": _archetype("tumour", 1.9, "EPCAM KRT8 MKI67 TOP2A CENPF UBE2C BIRC5 CDK1 PCNA"),
    "Schwann cell": _archetype("fibroblast", 0.8, "S100B PLP1 MPZ SOX10 CDH19 NGFR"),
}
"""Cell types by name, in order of how sure a tissue is to have them."""
ALWAYS_PRESENT = 6
"""Every tissue has the first so many cell types."""

_COMMON_GENES = (
    "ACTB ANXA1 AREG ATF3 BCL2 CCND1 CD44 CD47 CD74 CD9 CDKN1A CEBPB CLU CTNNB1 CXCL12 CXCL14 CXCR4 DDIT4 DUSP1 "
    "EGFR EGR1 FKBP5 FN1 FOS FOXO1 GADD45B GAPDH GPX3 GSN HIF1A HLA-A HLA-B HLA-DRA HSPA1A ICAM1 ID1 IER3 IFI6 "
    "IFIT1 IGFBP5 ISG15 ITGA6 JUN JUNB KLF4 KLF6 LAMB1 LGALS1 LGALS3 MALAT1 MCL1 MET MIF MYC NFKBIA NOTCH1 NR4A1 "
    "PDK4 PTEN RB1 S100A6 SAT1 SERPINE1 SLC2A1 SOD2 SPARC SPP1 SQSTM1 STAT1 STAT3 TGFB1 TGFBI THBS1 TIMP1 TIMP3 "
    "TNFAIP3 TP53 TXNIP VEGFA VIM WNT5A YAP1 ZEB1 ZEB2 ZFP36"
)
COMMON_GENES = tuple(_COMMON_GENES.split())
"""Genes that mark no type."""

_MARKERS_PER_TYPE = 7
"""How many of the markers of a type a panel measures."""
_COMMON_PER_PANEL = 75
"""How many of the common genes a panel measures."""


@dataclass(frozen=True)
class CellTypes:
    """The cell types of one tissue, in the order of their codes."""

    names: tuple[str, ...]
    looks: npt.NDArray[np.float32]
    """One row a type, the columns are the fields of :class:`Look`."""
    molecules: npt.NDArray[np.float64]
    """Mean number relative to the other types, one value a type."""
    genes: tuple[str, ...]
    markers: npt.NDArray[np.bool_]
    """Type by gene: whether the gene is a marker of the type."""

    def look(self, field: str) -> npt.NDArray[np.float32]:
        """Return one property of the looks, one value a type."""
        return self.looks[:, LOOK_FIELDS.index(field)]


def draw_cell_types(rng: np.random.Generator, n_cell_types: int) -> CellTypes:
    """Draw which types a tissue has, how they look in it, and which of their genes the panel measures."""
    available = list(ARCHETYPES)
    optional = rng.permutation(len(available) - ALWAYS_PRESENT)[: n_cell_types - ALWAYS_PRESENT] + ALWAYS_PRESENT
    names = tuple(available[i] for i in [*range(ALWAYS_PRESENT), *sorted(optional)])

    # A look varies as a whole, so that types which share one stay indistinguishable.
    varied = {look: _vary(rng, look) for look in LOOKS}
    looks = np.stack([varied[ARCHETYPES[name].look] for name in names]).astype(np.float32)

    panel: set[str] = set()
    chosen: list[set[str]] = []
    for archetype in ARCHETYPES.values():
        n_markers = min(_MARKERS_PER_TYPE, len(archetype.markers))
        chosen.append(set(rng.choice(archetype.markers, n_markers, replace=False).tolist()))
        panel |= chosen[-1]
    panel |= set(rng.choice(COMMON_GENES, _COMMON_PER_PANEL, replace=False).tolist())
    genes = tuple(sorted(panel))
    of_type = dict(zip(ARCHETYPES, chosen, strict=True))
    markers = np.array([[gene in of_type[name] for gene in genes] for name in names])
    molecules = np.array([ARCHETYPES[name].molecules for name in names]) * rng.lognormal(0, 0.15, len(names))
    return CellTypes(names, looks, molecules, genes, markers)


def _vary(rng: np.random.Generator, look: str) -> npt.NDArray[np.float64]:
    """Draw how a look appears in one tissue; tumours vary most."""
    values = np.array([getattr(LOOKS[look], name) for name in LOOK_FIELDS], dtype=float)
    spread = 0.20 if look == "tumour" else 0.10
    values *= np.exp(spread * rng.standard_normal(len(values)))
    values[_BOUNDED] = np.clip(values[_BOUNDED], 0.0, 1.0)
    values[_ASPECT] = max(values[_ASPECT], 1.03)
    return values
