"""A saved student on another slide: from its H&E, or a table with features of it, to niches and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata as ad
import h5py
import numpy as np
from anndata import AnnData

from stdistill import io, pl, pp, tl
from stdistill._flows.nuclei import find_nuclei
from stdistill._formats.slides.listing import find_kind
from stdistill._measures.verdict import Verdict
from stdistill._runs.folder import NICHES_FILE, Run
from stdistill._runs.prepare import Machine, Source, read_slide
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._support.checks import check_key
from stdistill._support.files import digest_file, replacing
from stdistill._support.reading import NO_H5AD, reading
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.fitting.like_model import check_card, embedding_arguments, find_encoders
from stdistill._table.graph import NEIGHBORS
from stdistill._table.he.slide_record import read_slide_record, write_slide_record
from stdistill._table.he.stored import write_without_images
from stdistill._table.niches import niches_alone
from stdistill._table.records import read_record
from stdistill.models import NicheModel
from stdistill.models.niche.card import ModelCard
from stdistill.models.saved import CARD

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


class Asked(NamedTuple):
    """How the niches of a slide are to be mapped; what is said of an H&E alone or of a bundle holds for these."""

    student: Path
    he_image: Path | None = None
    he_alignment: Path | None = None
    mpp: float | None = None
    scene: int | str | None = None
    method: str = "unet"
    nuclei: Path | None = None
    nuclei_unit: str = "px"
    encoder: str | None = None
    machine: Machine = Machine()
    batch_size: int | None = None
    strict: bool = False

    def of_image(self) -> dict[str, Any]:
        """Return what tells a run on an H&E alone from one with other nuclei or another scale."""
        return {
            "mpp": self.mpp,
            "scene": None if self.scene is None else str(self.scene),
            "method": self.method,
            "nuclei_sha256": None if self.nuclei is None else digest_file(self.nuclei),
            "nuclei_unit": self.nuclei_unit,
        }


def predict(
    model: NicheModel, data: Path, out: Path, asked: Asked, *, copy: Path | None = None
) -> tuple[AnnData, Verdict]:
    """Map the niches of one slide, and write them to a folder, or go on there.

    Parameters
    ----------
    model
        What `load_student` made of ``asked.student``.
    data
        An H&E alone, a Xenium bundle, or an h5ad with features.
    out
        The folder.
    asked
        How.
    copy
        Of `data` on a nearer disk, to be read in its place; `data` is what is recorded.
    """
    kind = find_kind(data)
    names = ("student", "he_image", "he_alignment", "nuclei", "encoder", "batch_size", "strict")
    run = Run(
        out,
        command="predict",
        parameters={
            "student_sha256": digest_file(asked.student / CARD),
            **(asked.of_image() if kind == "slide" else {}),
        },
        asked={"data": data, **{name: getattr(asked, name) for name in names}, **asked.machine._asdict()},
    )
    with run:
        if kind == "table":
            cells = read_table(copy or data, model.card)
            return map_niches(run, cells, model, asked)
        read = read_image if kind == "slide" else read_bundle
        slide = read(run, data, model.card, asked, copy)
        niches, verdict = map_niches(run, slide, model, asked)
        if kind == "slide":
            write_slide(run, slide, niches)
    return niches, verdict


def read_bundle(run: Run, path: Path, card: ModelCard, asked: Asked, copy: Path | None) -> SpatialData:
    """Read a Xenium slide, or a copy of it, and compute its H&E features as those of the student were."""
    encoders = find_encoders(card, asked.encoder)
    slide = read_slide(run, Source(copy or path, asked.he_image, asked.he_alignment))
    cells = slide.tables[schema.TABLE]
    if copy is not None:
        _record_origin(cells, copy, path)
    run.check_input(describe_slide(cells, counts=False))  # before features of another slide would be replaced
    run.step(card.feature_key, lambda: _embed(run, slide, card, encoders, asked.machine))
    return slide


def read_image(run: Run, path: Path, card: ModelCard, asked: Asked, copy: Path | None) -> SpatialData:
    """Read an H&E alone, or a copy of it, find its nuclei, and compute their features as those of the student were."""
    encoders = find_encoders(card, asked.encoder)
    slide = pp.read_slide(copy or path, mpp=asked.mpp, scene=asked.scene)
    if copy is not None:
        _record_origin(slide, copy, path)
    options = {"method": asked.method, "nuclei": asked.nuclei, "nuclei_unit": asked.nuclei_unit}
    find_nuclei(run, slide, device=asked.machine.device, **options)
    cells = slide.tables[schema.TABLE]
    run.check_input(describe_slide(cells, counts=False))
    run.step(card.feature_key, lambda: _embed(run, slide, card, encoders, asked.machine))
    return slide


def _record_origin(data: AnnData | SpatialData, copy: Path, origin: Path) -> None:
    """Record where a slide is from that was read from a copy: its image, or what is in its folder."""
    record = read_slide_record(data)
    if record is not None and record.path is not None and Path(record.path).is_relative_to(copy):
        path = origin.absolute() / Path(record.path).relative_to(copy)
        write_slide_record(data, replace(record, path=str(path)))


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
    with reading(path, NO_H5AD), h5py.File(path) as file:
        if not {"obs", "obsm", "uns"} <= set(file):
            msg = f"it holds {', '.join(file) or 'nothing'}, expected obs, obsm and uns"
            raise ValueError(msg)
        present = list(file["obsm"])
        cells = AnnData(
            obs=ad.io.read_elem(file["obs"]),
            obsm={
                key: ad.io.read_elem(file["obsm"][key]) for key in (schema.SPATIAL, card.feature_key) if key in present
            },
            uns=ad.io.read_elem(file["uns"]),
        )
    check_key(card.feature_key, present, "features in .obsm", argument="feature_key of the student")
    cells.uns.pop(NEIGHBORS, None)  # of a graph that stayed on disk
    if "library_key" in read_record(cells, "neighborhoods"):
        msg = (
            f"{path} holds several slides, whose cells may overlap: give each in a file of its own, or use "
            "sd.tl.predict(library_key=…) in Python."
        )
        raise ValueError(msg)
    check_card(cells, card.feature_key, card)
    return cells


def map_niches(run: Run, data: AnnData | SpatialData, model: NicheModel, asked: Asked) -> tuple[AnnData, Verdict]:
    """Predict the niches of cells that have features, judge them, and write table and figures.

    The features are not in the table that is written. If so asked, cells that are not to be trusted get no niche.
    """
    cells = get_table(data, schema.TABLE)
    key = model.card.feature_key
    run.step(NEIGHBORS, lambda: pp.neighborhoods(cells, radius_um=model.radius_um))
    run.check_input({**describe_slide(cells, counts=False), **describe_inputs(cells, [key])})
    using: dict[str, Any] = {"device": asked.machine.accelerator, "batch_size": asked.batch_size}
    run.step(schema.STUDENT, lambda: tl.predict(cells, model, **using))
    if cells.obs["student_niche"].isna().all():
        msg = f"No cell got a niche: .obsm[{key!r}] is NaN for all cells, or all are in the buffer of the split."
        raise ValueError(msg)
    verdict = run.step("verdict", lambda: tl.verdict(data, model))
    if asked.strict:
        _leave_out_doubtful(cells, verdict)
    niches = niches_alone(cells)
    if run.folder is not None:
        _draw(niches, run.folder)
        with replacing(run.folder / NICHES_FILE) as new:
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
