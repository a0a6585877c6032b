"""What a model needs of a slide and is not there yet: cells or tiles, and their features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anndata import AnnData

from stdistill._features.inputs import DEVICES
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_table, is_spatialdata, share_elements
from stdistill._table.fitting.like_model import embedding_arguments, find_encoders, find_tile_encoders
from stdistill._table.he.place import find_place
from stdistill.pp._detect_nuclei import detect_nuclei
from stdistill.pp._embed_he import embed_he
from stdistill.pp._embed_tiles import embed_tiles
from stdistill.pp._find_tissue import find_tissue
from stdistill.pp._tiles import tiles as lay_tiles

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import AlignmentModel
    from stdistill.models.composition.card import FeatureCard
    from stdistill.models.niche.card import ModelCard

logger = logging.getLogger("stdistill")


def complete_cells(
    data: AnnData | SpatialData,
    sources: Sequence[ModelCard | FeatureCard],
    table_key: str,
    device: str | None,
    *,
    copy: bool,
) -> AnnData | SpatialData:
    """Find the cells and compute the features of `sources` that an H&E lacks; return what was given, or a copy."""
    if not is_spatialdata(data):
        return copy_table(data, table_key) if copy else data
    has_table = table_key in data.tables
    missing = [one for one in sources if not has_table or one.feature_key not in data.tables[table_key].obsm]
    if not missing:
        return copy_table(data, table_key) if copy else data
    _check_device(device)
    encoders = [find_encoders(source) for source in missing]
    if copy:
        data = copy_table(data, table_key) if has_table else share_elements(data)
    if not has_table:
        logger.info("There is no table %r: finding the nuclei of the H&E (sd.pp.detect_nuclei).", table_key)
        if schema.TISSUE not in data.shapes and find_place(data, schema.HE_IMAGE) is not None:
            find_tissue(data)
        detect_nuclei(data, table_key=table_key, device=device)
    cells = get_table(data, table_key)
    for source, own in zip(missing, encoders, strict=True):
        key = source.feature_key
        logger.info('There is no .obsm["%s"]: computing it as the model\'s was (sd.pp.embed_he).', key)
        embed_he(data, **embedding_arguments(source, own, cells), table_key=table_key, device=device)
    return data


def complete_tiles(
    data: SpatialData,
    model: AlignmentModel,
    *,
    split_key: str | None,
    tiles_key: str,
    table_key: str,
    device: str | None,
    copy: bool,
) -> SpatialData:
    """Lay the tiles, and compute the features of the model (of each scale), that a slide lacks.

    Return what was given, or a copy.
    """
    sources = model.card.inputs
    has_tiles = tiles_key in data.tables
    missing = [one for one in sources.values() if not has_tiles or one.feature_key not in data.tables[tiles_key].obsm]
    if missing:
        _check_device(device)
        encoders = find_tile_encoders(model)
    if copy:
        data = share_elements(data, **{name: table.copy() for name, table in data.tables.items()})
    if not missing:
        return data
    source = missing[0]
    if not has_tiles:
        logger.info("There is no table %r of tiles: laying them as the model's were (sd.pp.tiles).", tiles_key)
        size = {"tile_px": source.crop_px, "mpp": source.mpp}  # known, or no encoder was found
        lay_tiles(data, **size, split_key=split_key, tiles_key=tiles_key, table_key=table_key)  # type: ignore[arg-type]
    scale = next(scale for scale, one in sources.items() if one is source)
    key_added = source.feature_key.removesuffix(f"_{scale}")
    logger.info('There is no .obsm["%s"]: computing it as the model\'s was (sd.pp.embed_tiles).', source.feature_key)
    embed_tiles(data, encoder=encoders, key_added=key_added, tiles_key=tiles_key, device=device)
    return data


def _check_device(device: str | None) -> None:
    if device not in DEVICES:
        msg = f"device must be one of {['auto', *DEVICES[1:]]} where features are yet to be computed, found {device!r}."
        raise ValueError(msg)
