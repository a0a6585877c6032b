"""What a page says beside its pictures: what was run, the verdict, sizes of niches, tables and figures of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stdistill import tl
from stdistill._measures.verdict import WORDS
from stdistill._report.source import Slide
from stdistill._table import schema
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.niches import niches_alone
from stdistill._table.provenance.results import fitted_cells
from stdistill._table.records import read_record

SHOWN_VERSIONS = ("stdistill", "python", "torch", "timm", "anndata", "spatialdata")
TABLES = {
    "agreement.csv": "Agreement with the teacher",
    "composition_jsd.csv": "Divergence of cell-type compositions from the teacher's",
    "pathology_probe.csv": "Annotations predicted from niches",
    "verdict.csv": "What the verdict is based on",
}
FIGURES = {
    "training.png": "Training curves of the student",
    "niches.png": "Niches of teacher and student",
}
MAX_ROWS = 60
"""Rows of a table that are shown."""


def describe_run(slide: Slide) -> dict[str, str]:
    """Say what was run, in the words of people: names and values."""
    manifest, cells = slide.manifest, slide.cells
    asked = {**manifest.get("parameters", {}), **manifest.get("asked", {})}
    predicted = read_record(cells, "predict") or read_record(cells, "distill")
    embedded = read_record(cells, "embed_he")
    record = read_slide_record(cells)
    mpp = None if record is None else record.mpp
    n_fitted = int(fitted_cells(cells, schema.STUDENT).sum())
    scale = embedded.get("mpp") if not embedded.get("native", True) else mpp
    facts: dict[str, Any] = {
        "Command": f"stdistill {manifest.get('command', '')}",
        "Slide": asked.get("data") or asked.get("bundle"),
        "H&E": None if record is None else record.path,
        "µm per pixel": None if mpp is None else f"{mpp:.4g}{_source(record.mpp_source if record else None)}",
        "Student": asked.get("student"),
        "SHA-256 of the student": predicted.get("model_sha256"),
        "Teacher of the student": predicted.get("teacher_key"),
        "Encoder": embedded.get("encoder") or predicted.get("encoder") or asked.get("encoder"),
        "Crops": f"{embedded['crop_px']} px" if "crop_px" in embedded else None,
        "µm per pixel of the crops": None if scale is None or not embedded else f"{scale:.4g}",
        "Neighbourhood": _with_unit(read_record(cells, "neighborhoods").get("radius_um"), "µm"),
        "Cells": f"{cells.n_obs:,}",
        "Cells that the student was fitted on": f"{n_fitted:,}: no test of it" if n_fitted else None,
        "Begun": manifest.get("started"),
        "Device": manifest.get("device"),
        "Versions": _versions(manifest.get("versions", {})),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def read_verdict(slide: Slide) -> dict[str, Any] | None:
    """Return the verdict and its reasons; `None` where there is none."""
    found = read_record(slide.cells, "verdict")
    if "verdict" not in found:
        return None
    kind = str(found["verdict"])
    reasons = [str(reason) for reason in np.atleast_1d(found.get("reasons", []))]
    unseen = [str(name) for name in np.atleast_1d(found.get("niches_unseen", []))]
    return {"kind": kind, "words": WORDS.get(kind, kind), "reasons": reasons, "unseen": unseen}


def read_tables(folder: Path) -> list[dict[str, Any]]:
    """Read the tables of a run, as they are shown."""
    tables = []
    for name, title in TABLES.items():
        if not (folder / name).is_file():
            continue
        frame = pd.read_csv(folder / name, keep_default_na=False, na_values=[""])  # a niche may be called NA
        rows = [[_format(value) for value in row] for row in frame.head(MAX_ROWS).itertuples(index=False)]
        heads = [str(column).replace("_", " ") for column in frame.columns]
        numeric = [bool(pd.api.types.is_numeric_dtype(frame[column])) for column in frame.columns]
        tables.append({"title": title, "heads": heads, "numeric": numeric, "rows": rows})
    return tables


def find_figures(folder: Path, command: str) -> list[tuple[str, str, Path]]:
    """List the pictures of a run that show more than the viewer does: name, caption, file."""
    named = {name: caption for name, caption in FIGURES.items() if (folder / name).is_file()}
    if command == "predict":
        named.pop("niches.png", None)
    for path in sorted(folder.glob("niches_k*.png")):
        named[path.name] = f"Niches of all methods, {path.stem.removeprefix('niches_k')} of them"
    return [(name, caption, folder / name) for name, caption in named.items()]


def read_composition(slide: Slide, key: str) -> dict[str, Any] | None:
    """Return the shares of the cell types in each niche, the commonest first, and names for the niches made of these.

    `None` where types are not known.
    """
    obs = slide.cells.obs
    column = obs.get(schema.CELL_TYPE)
    if (
        column is None
        or not isinstance(column.dtype, pd.CategoricalDtype)
        or not (column.notna() & obs[key].notna()).any()
    ):
        return None
    shares = tl.composition(slide.cells, niche_key=key, cell_type_key=schema.CELL_TYPE).dropna()
    types = shares.mean().sort_values(ascending=False, kind="stable").index
    rows = [(str(name), row) for name, row in zip(shares.index, shares[types].to_numpy().tolist(), strict=True)]
    profile = tl.niche_profile(niches_alone(slide.cells), niche_key=key, n_cells=0, split_key=None)
    found = {"title": "Cell types in each niche", "types": list(map(str, types)), "rows": rows}
    return found | {"names": profile.names}


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions)


def _source(source: str | None) -> str:
    return "" if source is None else f" ({source.rstrip('=')})"


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.3g} {unit}"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)
