"""A saved student on another slide: from its H&E, or a table with features of it, to niches and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anndata as ad
import h5py
import numpy as np
from anndata import AnnData

from stdistill import io, pl, pp, tl
from stdistill._flows.nuclei import find_nuclei
from stdistill._measures.verdict import Verdict
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Source, read_slide
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._support.checks import check_key
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.fitting.like_model import check_card, embedding_arguments, find_encoders
from stdistill._table.graph import NEIGHBORS
from stdistill._table.he.stored import write_without_images
from stdistill._table.records import read_record
from stdistill.models import NicheModel
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.model import PREDICTION_BATCH

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.encoders import Encoder


def load_student(folder: Path) -> NicheModel:
    """Load a model, and raise unless it is a student."""
    model = NicheModel.load(folder)
    if model.card.kind != "distillation":
        msg = f"{folder} holds a model of {model.card.kind}; expected a student, as sd.tl.distill returns it."
        raise ValueError(msg)
    return model


def read_bundle(run: Run, source: Source, card: ModelCard, encoder: str | None, machine: Machine) -> SpatialData:
    """Read a Xenium slide, and compute its H&E features as those of the student were."""
    encoders = find_encoders(card, encoder)
    slide = read_slide(run, source)
    # Before features of another slide would be replaced.
    run.check_input(describe_slide(slide.tables[schema.TABLE], counts=False))
    run.step(card.feature_key, lambda: _embed(run, slide, card, encoders, machine))
    return slide


class SlideFile(NamedTuple):
    """An H&E alone on disk, and where its cells are from."""

    path: Path
    mpp: float | None = None
    scene: int | str | None = None
    method: str = "unet"
    nuclei: Path | None = None
    nuclei_unit: str = "px"


def read_image(run: Run, source: SlideFile, card: ModelCard, encoder: str | None, machine: Machine) -> SpatialData:
    """Read an H&E alone, find its nuclei, and compute their features as those of the student were."""
    encoders = find_encoders(card, encoder)
    slide = pp.read_slide(source.path, mpp=source.mpp, scene=source.scene)
    options = {"method": source.method, "nuclei": source.nuclei, "nuclei_unit": source.nuclei_unit}
    find_nuclei(run, slide, device=machine.device, **options)
    cells = slide.tables[schema.TABLE]
    run.check_input(describe_slide(cells, counts=False))
    run.step(card.feature_key, lambda: _embed(run, slide, card, encoders, machine))
    return slide


def _embed(run: Run, slide: SpatialData, card: ModelCard, encoders: list[Encoder], machine: Machine) -> None:
    pp.embed_he(
        slide,
        **embedding_arguments(card, encoders, slide.tables[schema.TABLE]),
        store=None if run.kept is None else run.kept / "features",
        device=machine.device,
        devices=machine.devices,
    )


def read_table(path: Path, card: ModelCard) -> AnnData:
    """Read what is needed of a table; counts, layers and graphs stay on disk."""
    try:
        with h5py.File(path) as file:
            if not {"obs", "obsm", "uns"} <= set(file):
                msg = f"it holds {', '.join(file) or 'nothing'}, expected obs, obsm and uns."
                raise OSError(msg)
            present = list(file["obsm"])
            check_key(card.feature_key, present, "features in .obsm", argument="feature_key of the student")
            wanted = [key for key in (schema.SPATIAL, card.feature_key) if key in present]
            cells = AnnData(
                obs=ad.io.read_elem(file["obs"]),
                obsm={key: ad.io.read_elem(file["obsm"][key]) for key in wanted},
                uns=ad.io.read_elem(file["uns"]),
            )
    except OSError as error:
        msg = f"{path} is no h5ad of an AnnData: {error}"
        raise ValueError(msg) from error
    cells.uns.pop(NEIGHBORS, None)  # of a graph that stayed on disk
    if "library_key" in read_record(cells, "neighborhoods"):
        msg = (
            f"{path} holds several slides, whose cells may overlap: give each in a file of its own, or use "
            "sd.tl.predict(library_key=…) in Python."
        )
        raise ValueError(msg)
    check_card(cells, card.feature_key, card)
    return cells


def map_niches(
    run: Run,
    data: AnnData | SpatialData,
    model: NicheModel,
    machine: Machine,
    batch_size: int | None,
    *,
    strict: bool = False,
) -> tuple[AnnData, Verdict]:
    """Predict the niches of cells that have features, judge them, and write table and figures.

    The features are not in the table that is written. With `strict` cells that are not to be trusted get no niche.
    """
    cells = get_table(data, schema.TABLE)
    key = model.card.feature_key
    run.step(NEIGHBORS, lambda: pp.neighborhoods(cells, radius_um=model.radius_um))
    run.check_input({**describe_slide(cells, counts=False), **describe_inputs(cells, [key])})
    at_once = PREDICTION_BATCH if batch_size is None else batch_size
    run.step(schema.STUDENT, lambda: tl.predict(cells, model, device=machine.accelerator, batch_size=at_once))
    if cells.obs["student_niche"].isna().all():
        msg = f"No cell got a niche: .obsm[{key!r}] is NaN for all cells, or all are in the buffer of the split."
        raise ValueError(msg)
    verdict = run.step("verdict", lambda: tl.verdict(data, model))
    if strict:
        _leave_out_doubtful(cells, verdict)
    uns = {name: value for name, value in cells.uns.items() if name != NEIGHBORS}
    niches = AnnData(obs=cells.obs, obsm={schema.SPATIAL: cells.obsm[schema.SPATIAL]}, uns=uns)
    if run.folder is not None:
        _draw(niches, run.folder)
        with replacing(run.folder / "niches.h5ad") as new:
            niches.write_h5ad(new)
        with replacing(run.folder / "verdict.csv") as new:
            verdict.measures.to_csv(new)
    return niches, verdict


def _draw(niches: AnnData, folder: Path) -> None:
    """Draw niches and confidence; where no cell has any, no picture of an earlier run stays either."""
    for draw, name, column in (
        (pl.niches, "niches.png", "student_niche"),
        (pl.confidence, "confidence.png", "student_confidence"),
    ):
        if niches.obs[column].isna().all():
            (folder / name).unlink(missing_ok=True)
            continue
        with replacing(folder / name) as new:
            draw(niches, keys=column, save=new)


def _leave_out_doubtful(cells: AnnData, verdict: Verdict) -> None:
    """Make the niches of cells missing that are not to be trusted, which on a slide that is not usable none is."""
    is_trusted = "student_trusted" in cells.obs and verdict.verdict != "not"
    doubtful = ~cells.obs["student_trusted"] if is_trusted else np.ones(cells.n_obs, dtype=bool)
    for column in ("student_niche", "student_confidence"):
        cells.obs[column] = cells.obs[column].mask(doubtful)


def write_slide(run: Run, slide: SpatialData, niches: AnnData) -> None:
    """Write what is known of a slide's nuclei but the image, and their niches as QuPath's cells."""
    if run.folder is None:
        return
    slide.tables[schema.TABLE] = niches
    write_without_images(slide, run.folder / "niches.zarr")
    io.to_geojson(slide, run.folder / "niches.geojson.gz", key="student_niche", in_bounds=True)
