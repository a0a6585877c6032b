"""A saved student on another slide: from its H&E, or a table with features of it, to niches and figures."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
from anndata import AnnData

from stdistill import pl, pp, tl
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Source, read_slide
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._slide.scale import is_same_mpp
from stdistill._support.checks import check_key
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.fitting.origin import find_difference, known_origin, origin_of_card
from stdistill._table.graph import NEIGHBORS
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.records import read_record
from stdistill.encoders import Encoder
from stdistill.encoders._encoder import UNKNOWN_REVISION
from stdistill.encoders._registry import resolve
from stdistill.models import NicheModel
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.model import PREDICTION_BATCH
from stdistill.tl._predict import check_card


def load_student(folder: Path) -> NicheModel:
    """Load a model, and raise unless it is a student."""
    model = NicheModel.load(folder)
    if model.card.kind != "distillation":
        msg = f"{folder} holds a model of {model.card.kind}; expected a student, as sd.tl.distill returns it."
        raise ValueError(msg)
    return model


def read_bundle(run: Run, source: Source, card: ModelCard, encoder: str | None, machine: Machine) -> AnnData:
    """Read a Xenium slide, and compute its H&E features as those of the student were."""
    encoders = _find_encoders(card, encoder)
    slide = read_slide(run, source)
    cells: AnnData = slide.tables[schema.TABLE]
    run.check_input(describe_slide(cells, counts=False))  # before features of another slide would be replaced
    run.step(
        card.feature_key,
        lambda: pp.embed_he(
            slide,
            encoder=encoders,
            crop_px=card.crop_px or 0,  # known, as is the next: `_find_encoders`
            mpp=_find_mpp(_native_mpp(cells), card.mpp or 0),
            key_added=card.feature_key,
            store=None if run.kept is None else run.kept / "features",
            device=machine.device,
            devices=machine.devices,
        ),
    )
    return cells


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


def map_niches(run: Run, cells: AnnData, model: NicheModel, machine: Machine, batch_size: int | None) -> AnnData:
    """Predict the niches of cells that have features, and write table and figures; the features are not among them."""
    key = model.card.feature_key
    run.step(NEIGHBORS, lambda: pp.neighborhoods(cells, radius_um=model.radius_um))
    run.check_input({**describe_slide(cells, counts=False), **describe_inputs(cells, [key])})
    at_once = PREDICTION_BATCH if batch_size is None else batch_size
    run.step(schema.STUDENT, lambda: tl.predict(cells, model, device=machine.accelerator, batch_size=at_once))
    if cells.obs["student_niche"].isna().all():
        msg = f"No cell got a niche: .obsm[{key!r}] is NaN for all cells, or all are in the buffer of the split."
        raise ValueError(msg)
    uns = {name: value for name, value in cells.uns.items() if name != NEIGHBORS}
    niches = AnnData(obs=cells.obs, obsm={schema.SPATIAL: cells.obsm[schema.SPATIAL]}, uns=uns)
    if run.folder is not None:
        with replacing(run.folder / "niches.png") as new:
            pl.niches(niches, keys="student_niche", save=new)
        with replacing(run.folder / "confidence.png") as new:
            pl.confidence(niches, keys="student_confidence", save=new)
        with replacing(run.folder / "niches.h5ad") as new:
            niches.write_h5ad(new)
    return niches


def _find_encoders(card: ModelCard, name: str | None) -> list[Encoder]:
    """Return the encoder of the student's features; that it is at hand and the same is known before the slide is read.

    Several encoders are joined by ``+`` in the card.
    """
    if card.encoder is None or card.crop_px is None or card.mpp is None:
        msg = (
            f"The student does not know how its features {card.feature_key!r} were computed (encoder {card.encoder}, "
            f"crops of {card.crop_px} px, {card.mpp} µm per pixel). Compute those of the slide as you did then, and "
            "give the h5ad."
        )
        raise ValueError(msg)
    if card.stain_normalization is not None:
        msg = (
            "The student's H&E was stain-normalised: compute the features of the slide with "
            "sd.pp.embed_he(stain_normalization=…) as you did then, and give the h5ad."
        )
        raise ValueError(msg)
    try:
        encoders = resolve((name or card.encoder).split("+"))
    except KeyError as error:
        msg = f"{error.args[0]} Give the name under which the student's features were computed with --encoder."
        raise KeyError(msg) from error
    found = "+".join(one.name for one in encoders)
    revision = "+".join(one.revision or UNKNOWN_REVISION for one in encoders)
    difference = find_difference(known_origin({"encoder": found, "encoder_revision": revision}), origin_of_card(card))
    if difference == "encoder":
        msg = f"The encoder is {found!r}; the student was trained on features of {card.encoder!r}."
        raise ValueError(msg)
    if difference == "encoder_revision":
        msg = (
            f"The weights of {found!r} are of revision {revision!r}; the student was trained on features of "
            f"{card.encoder_revision!r}."
        )
        raise ValueError(msg)
    return encoders


def _native_mpp(cells: AnnData) -> float | None:
    slide = read_slide_record(cells)
    return None if slide is None else slide.mpp


def _find_mpp(native: float | None, trained: float) -> float | None:
    """Return the µm per pixel to resample to; `None`, the image's own pixels, where they are as large."""
    return None if native is not None and is_same_mpp(native, trained) else trained
