"""What a model needs of a slide and is not there yet: cells or tiles, their features, neighbourhoods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from stdistill._features.inputs import DEVICES
from stdistill._graph.radius import neighborhood_radius
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_split, get_table, is_spatialdata, share_elements
from stdistill._table.fitting.inputs import training_cells
from stdistill._table.fitting.like_model import embedding_arguments, find_encoders, find_tile_encoders
from stdistill._table.graph import graph_radius, has_graph
from stdistill._table.he.place import find_place
from stdistill.pp._detect_nuclei import detect_nuclei
from stdistill.pp._embed_expression import embed_expression
from stdistill.pp._embed_he import embed_he
from stdistill.pp._embed_tiles import embed_tiles
from stdistill.pp._find_tissue import find_tissue
from stdistill.pp._neighborhoods import N_NEIGHBORS, neighborhoods
from stdistill.pp._tiles import tiles as lay_tiles

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import AlignmentModel
    from stdistill.models.feature_card import FeatureCard
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


def complete_neighborhoods(
    tables: Sequence[AnnData], *, library_key: str | None, split_key: str | None, radius_um: float | None = None
) -> None:
    """Connect the cells of the tables that have no graph yet; one radius serves all tables."""
    without = [table for table in tables if not has_graph(table)]
    if not without:
        return
    logger.info("There are no neighbourhoods: making them with sd.pp.neighborhoods.")
    if radius_um is None and len(tables) > 1:
        found = [graph_radius(table) for table in tables if has_graph(table)]
        radius_um = found[0] if found else _common_radius(tables, split_key)
    for table in without:
        neighborhoods(table, radius_um=radius_um, library_key=library_key, split_key=split_key)


def complete_expression(
    tables: Sequence[AnnData], *, split_key: str | None, library_key: str | None, seed: int, accelerator: str
) -> None:
    """Compute the expression latent of a table that has none."""
    if all(schema.EXPRESSION_LATENT in table.obsm for table in tables):
        return
    if len(tables) > 1:
        msg = (
            f'Not all tables have .obsm["{schema.EXPRESSION_LATENT}"], and latents made slide by slide would not be '
            "comparable: compute them in one go on the concatenated tables with "
            "sd.pp.embed_expression(library_key=...)."
        )
        raise KeyError(msg)
    logger.info("There is no expression latent: computing it with sd.pp.embed_expression.")
    embed_expression(tables[0], split_key=split_key, library_key=library_key, seed=seed, accelerator=accelerator)


def _common_radius(tables: Sequence[AnnData], split_key: str | None) -> float:
    training = [training_cells(table, get_split(table, split_key)) for table in tables]
    centers = [get_centers(table)[chosen] for table, chosen in zip(tables, training, strict=True)]
    codes = np.repeat(np.arange(len(tables)), [len(part) for part in centers])
    return neighborhood_radius(np.concatenate(centers), codes, N_NEIGHBORS, seed=0)


def _check_device(device: str | None) -> None:
    if device not in DEVICES:
        msg = f"device must be one of {['auto', *DEVICES[1:]]} where features are yet to be computed, found {device!r}."
        raise ValueError(msg)
