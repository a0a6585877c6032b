"""What a slide of a cohort is compared by, read from its results: a few columns of one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import h5py
import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._measures.compositional.territories import territories
from stdistill._measures.labels import Labels
from stdistill._runs.folder import NICHES_FILE
from stdistill._support.reading import reading
from stdistill._table import schema
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.records import read_record
from stdistill.pp import neighborhoods

NO_NICHES = "is no table of niches, as `stdistill predict` writes it"
RUN_AGAIN = "run the slide again"
NICHE = f"{schema.STUDENT}{NICHE_SUFFIX}"
CONFIDENCE = f"{schema.STUDENT}{schema.CONFIDENCE_SUFFIX}"


class SlideResult(NamedTuple):
    """A slide as a row of a table."""

    niches: list[str]
    colors: list[str]
    model: str
    """Fingerprint of the student."""
    radius_um: float
    """Within which cells are neighbours."""
    counts: npt.NDArray[np.int64]
    """Cells of each niche (k,)."""
    area_um2: npt.NDArray[np.float64]
    """Of each niche (k,)."""
    adjacency: npt.NDArray[np.float64]
    """Neighbours of cells of each niche by niche (k, k)."""
    facts: dict[str, Any]
    """What else is said of it."""
    digest: str | None
    """Tells the file of its H&E from others, where it is known."""


def read_slide_result(folder: Path) -> SlideResult:
    """Read the table of one slide, and connect its cells anew: the graph is not kept."""
    cells = _read_cells(folder / NICHES_FILE)
    niche = cells.obs[NICHE]
    labels = Labels(niche.cat.codes.to_numpy(dtype=np.intp), list(map(str, niche.cat.categories)))
    record, verdict = read_record(cells, "predict"), read_record(cells, "verdict")
    slide = read_slide_record(cells)
    confidence = cells.obs[CONFIDENCE]
    return SlideResult(
        niches=labels.names,
        colors=list(map(str, cells.uns[f"{NICHE}_colors"])),
        model=str(record["model_sha256"]),
        radius_um=float(record["radius_um"]),
        counts=np.bincount(labels.codes[labels.known], minlength=len(labels.names)),
        area_um2=territories(np.asarray(cells.obsm[schema.SPATIAL], dtype=np.float64), labels),
        adjacency=_adjacency(cells, labels, float(record["radius_um"])),
        facts={
            "n_cells": cells.n_obs,
            "n_niches": int(labels.known.sum()),
            "mean_confidence": float(confidence.mean()),
            "unlike_share": float(verdict.get("unlike_share", np.nan)),
            "trusted_share": float(verdict.get("trusted_share", np.nan)),
            "verdict": verdict.get("verdict"),
        },
        digest=None if slide is None else slide.digest,
    )


def _read_cells(path: Path) -> AnnData:
    """Read the columns that are needed; logits and the like, most of the file, stay on disk."""
    with reading(path, NO_NICHES, advice=RUN_AGAIN), h5py.File(path) as file:
        obs = {name: ad.io.read_elem(file["obs"][name]) for name in (NICHE, CONFIDENCE)}
        centers = ad.io.read_elem(file["obsm"][schema.SPATIAL])
        uns = {name: ad.io.read_elem(file["uns"][name]) for name in (schema.RECORD, f"{NICHE}_colors")}
    cells = AnnData(obsm={schema.SPATIAL: centers}, uns=uns)
    for name, values in obs.items():
        cells.obs[name] = values
    return cells


def _adjacency(cells: AnnData, labels: Labels, radius_um: float) -> npt.NDArray[np.float64]:
    """Count neighbours by squidpy's interaction matrix, each pair both ways."""
    if not labels.known.any():
        return np.zeros((len(labels.names), len(labels.names)))
    import squidpy as sq

    neighborhoods(cells, radius_um=radius_um, split_key=None)
    found: npt.NDArray[np.float64] = sq.gr.interaction_matrix(cells, cluster_key=NICHE, copy=True)
    return found
