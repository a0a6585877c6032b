"""Features of the crops of slides: what they are computed from, and where they are kept meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from stdistill._features.store import CODE, MADE_WITH, FeatureStore, find_finished, locked_store, reserve_folder
from stdistill._slide.looks import LOOKS
from stdistill._slide.plan import CropPlan, Slide
from stdistill._slide.windows import sample_squares
from stdistill._support.files import digest
from stdistill.encoders._encoder import UNKNOWN_REVISION

if TYPE_CHECKING:
    from stdistill.encoders import Encoder
    from stdistill.encoders._encoder import Precision

N_SAMPLED = 16
"""Places of an image by which it is told from another."""


def compute_features(
    slides: list[Slide],
    encoders: list[Encoder],
    cell_ids: npt.NDArray[Any],
    *,
    crop_px: int,
    mpp: float | None,
    batch_size: int | None,
    precision: Precision | None,
    stain: str | None,
    store: str | Path | None,
    resume: bool,
    device: str,
    devices: Any,
    num_nodes: int,
    strategy: str,
    crops_per_side: Sequence[int] = (),
) -> tuple[npt.NDArray[np.float16], dict[str, Any]]:
    """Run the encoders, and bring the features (n, d) from the store into the order of the table.

    With `crops_per_side` what is planned are tiles: each is cut into so many crops along a side, at each scale, and the
    mean features of the scales are side by side, for one encoder after the other.
    """
    from stdistill._features.embedder import EmbeddingRun, embed  # loads torch
    from stdistill._features.tiles import of_tiles

    order = np.concatenate([slide.plan.order for slide in slides])
    fingerprint = {
        "image": _hash_images(slides),
        "cells": _hash_cells(slides, cell_ids),
        "encoders": [_describe(one.by_crops() if crops_per_side else one, crop_px) for one in encoders],
        "crop_px": crop_px,
        "mpp": mpp,
        "precision": precision,
        "stain_normalization": stain,
        "code": CODE,
        "windows": _hash_windows(slides),
    }
    if crops_per_side:
        fingerprint["crops_per_side"] = list(crops_per_side)
        encoders, batch_size = of_tiles(encoders, crops_per_side, batch_size, device)
    cache = user_cache_path("stdistill") / "features"
    held = reserve_folder(cache, _hash(fingerprint)) if store is None else locked_store(Path(store).expanduser())
    with held as folder:
        written = find_finished(folder, fingerprint, cell_ids[order]) if resume else None
        if written is None:
            fingerprint[MADE_WITH] = {"device": device, "stdistill": version("stdistill"), "torch": version("torch")}
            run = EmbeddingRun(
                slides, encoders, crop_px, precision, batch_size, folder, fingerprint, cell_ids[order], resume
            )
            embed(run, accelerator=device, devices=devices, num_nodes=num_nodes, strategy=strategy)
            written = FeatureStore(folder)
        used = _used(written)
        features = np.full((len(cell_ids), written.shape[1]), np.nan, dtype=np.float16)
        # Mapped no longer than this: NFS keeps a folder with an open file.
        features[order] = written.features(cell_ids[order])
        if store is None:
            shutil.rmtree(folder)
    return features, used


def _used(store: FeatureStore) -> dict[str, Any]:
    """Tell on what the features were computed, also those of an earlier version's store."""
    found = store.fingerprint
    made = found.get(MADE_WITH, found)
    revisions = [one.get("revision") or UNKNOWN_REVISION for one in found["encoders"]]
    used = {"device": made.get("device"), "torch_version": made.get("torch"), "revision": "+".join(revisions)}
    return {name: value for name, value in used.items() if value is not None}


def _describe(encoder: Encoder, crop_px: int) -> dict[str, Any]:
    """All of an encoder that its features depend on."""
    fields = ("name", "revision", "input_px", "resize_px", "interpolation", "precision", "mean", "std")
    described = {name: list(v) if isinstance(v := getattr(encoder, name), tuple) else v for name in fields}
    way = encoder.computed_by(crop_px)
    if way is None:
        return described
    return described | {"revision": encoder.revision_of_features(crop_px), "windows": way}


def _hash_images(slides: Sequence[Slide]) -> str:
    """Tell images apart by their sizes, the glass, and what is around some of the cells; and with which look.

    Not by pixels with the look, which is given chunk by chunk: the slide is the same however it is chunked.
    """
    parts: list[str | npt.NDArray[Any]] = []
    for slide in slides:
        level = slide.source or slide.plan.level
        parts.append(repr((level.shape, level.factor.tolist(), slide.background.tolist())))
        if slide.look:
            parts.append(f"look {slide.look} of {LOOKS}")
        parts += sample_squares(level, _in_table_order(slide.plan), N_SAMPLED)
    return digest(*parts)[:16]


def _hash_cells(slides: Sequence[Slide], cell_ids: npt.NDArray[Any]) -> str:
    """Tell cells apart by their names and crops, in the order of the table."""
    names = ["\n".join(map(str, cell_ids[np.sort(slide.plan.order)])) for slide in slides]
    crops = [part for slide in slides for part in (_in_table_order(slide.plan), slide.plan.box_side)]
    return digest(*names, *crops)[:16]


def _hash_windows(slides: Sequence[Slide]) -> str:
    """Tell apart in which order and in which windows crops are read."""
    return digest(*(part for slide in slides for part in (slide.plan.order, repr(slide.plan.windows))))[:16]


def _in_table_order(plan: CropPlan) -> npt.NDArray[np.float64]:
    return plan.boxes[np.argsort(plan.order)]


def _hash(fingerprint: dict[str, Any]) -> str:
    return digest(json.dumps(fingerprint, sort_keys=True))[:16]
