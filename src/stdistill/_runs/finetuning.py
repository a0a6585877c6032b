"""How an encoder learns on the tiles of slides: which it is, what pixels it sees, and the features that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from anndata import AnnData

from stdistill._support.arrays import Mask
from stdistill._table import schema
from stdistill._table.checks import get_centers
from stdistill._table.fitting.alignment import AlignmentInputs
from stdistill._table.fitting.like_model import find_encoders
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.he.plans import plan_slides
from stdistill._table.records import read_record
from stdistill._table.tiles import STEP as TILES
from stdistill.encoders._blocks import with_blocks
from stdistill.pp._embed_tiles import embed_tiles

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from torch import Tensor

    from stdistill._slide.plan import Slide
    from stdistill.encoders import Encoder
    from stdistill.models.alignment.arguments import FittingArguments
    from stdistill.models.alignment.fit import FittedAlignment
    from stdistill.models.feature_card import FeatureCard


class Finetuned(NamedTuple):
    """An alignment, and what became of the encoder that learned with it."""

    fitted: FittedAlignment
    blocks: dict[str, Tensor]
    """Of the encoder, by their names in its module."""
    described: dict[str, Any]
    """What the card of a model says of it."""
    inputs: AlignmentInputs
    """With the features of the encoder that learned."""
    he_keys: dict[str, str]
    """Of these features, for each scale."""


def find_encoder(source: FeatureCard, encoder: str | Encoder | None) -> Encoder:
    """Return the encoder that made the features that are there, and whose blocks are to learn.

    Parameters
    ----------
    source
        What is known of the features.
    encoder
        The encoder, where it has another name here, or none.

    Raises
    ------
    KeyError
        When there is no encoder of the name.
    ValueError
        When the features are of no known encoder, of several, of another one, or of a normalised stain.
    """
    if source.encoder is None or "+" in source.encoder or source.stain_normalization is not None:
        stain = "" if source.stain_normalization is None else ", and of a normalised stain"
        msg = (
            f"An encoder learns from where its features stand, and .obsm[{source.feature_key!r}] is of the encoder "
            f"{source.encoder!r}{stain}; expected one encoder, and the stain of the slide. Compute the features with "
            "sd.pp.embed_tiles(encoder=…), or leave out finetune_blocks."
        )
        raise ValueError(msg)
    (found,) = find_encoders(source, encoder)
    return found


def finetune(
    slides: Sequence[SpatialData],
    inputs: AlignmentInputs,
    training: Mask,
    encoder: Encoder,
    arguments: FittingArguments,
    *,
    key_added: str,
    tiles_key: str,
) -> Finetuned:
    """Fit an alignment together with the last blocks of its encoder, and embed all tiles by what became of it.

    Parameters
    ----------
    slides
        With tiles that the encoder embedded; the new features are written to their tables.
    inputs, training
        Their tiles, and which of them (n_tiles,) to train on.
    encoder
        What `find_encoder` found.
    arguments
        How to fit, complete.
    key_added
        Beginning of the keys of the new features.
    tiles_key
        Name of the tables of tiles.
    """
    from stdistill._features.pixels import tile_pixels
    from stdistill._features.tuning import TunedTiles
    from stdistill._training.devices import torch_device
    from stdistill.models.alignment.fit import Tuning, fit_alignment

    device = torch_device(arguments["accelerator"])
    crops: dict[str, int] = {scale: schema.SCALES[scale] for scale in arguments["scales"]}
    module = TunedTiles(encoder, crops, arguments["finetune_blocks"], device)
    parts = zip(slides, inputs.tiles, inputs.divide(training), strict=True)
    plans = [_plan(slide, tiles, own, tiles_key) for slide, tiles, own in parts]
    n_tiles = [table.n_obs for table in inputs.tiles]
    side = int(read_record(inputs.tiles[0], TILES)["tile_px"])
    with tile_pixels(plans, n_tiles, side, encoder.interpolation, arguments["checkpoint_dir"]) as pixels:
        fitted = fit_alignment(inputs.data, training, arguments, Tuning(module, pixels))
    blocks = module.blocks()
    for slide in slides:
        embed_tiles(
            slide, encoder=with_blocks(encoder, blocks), key_added=key_added, tiles_key=tiles_key, device=device
        )
    he_keys = {scale: f"{key_added}_{scale}" for scale in crops}
    described = {"blocks": arguments["finetune_blocks"], "encoder": encoder.name, "revision": encoder.revision}
    return Finetuned(fitted, blocks, described, inputs.with_features(he_keys), he_keys)


def _plan(slide: SpatialData, tiles: AnnData, training: Mask, tiles_key: str) -> list[Slide]:
    """Plan to read the training tiles of a slide as they were read for their features."""
    laid = read_record(tiles, TILES)
    frames: list[HEFrame] = []
    for frame in he_frames(slide, image_key=str(laid["image_key"]), table_key=tiles_key):
        rows = frame.cells[training[frame.cells]]
        if len(rows):
            frames.append(replace(frame, cells=rows))
    return plan_slides(slide, frames, get_centers(tiles), int(laid["tile_px"]), float(laid["mpp"]))
