"""H&E features of tiles at three scales: what an image encoder sees in a tile, in its quarters, in its sixteenths."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdistill._features.inputs import check_run, check_sides, describe_encoders, find_encoders
from stdistill._features.spread import warn_of_lost_spread
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_sdata
from stdistill._table.he.images import mark_images
from stdistill._table.he.placement import he_frames
from stdistill._table.he.plans import plan_slides
from stdistill._table.he.stain import describe_stain
from stdistill._table.marks.cells import fingerprint_rows
from stdistill._table.marks.rows import write_features
from stdistill._table.provenance.results import kind_of_features, write_kind
from stdistill._table.records import read_record, write_record
from stdistill._table.tiles import STEP as TILES
from stdistill._table.tiles import get_tiles

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.encoders import Encoder
    from stdistill.encoders._encoder import Precision

logger = logging.getLogger("stdistill")


def embed_tiles(
    data: SpatialData,
    *,
    encoder: str | Encoder | Sequence[str | Encoder] = "auto",
    batch_size: int | None = None,
    device: str | None = None,
    devices: int | Sequence[int] = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: Precision | None = None,
    stain_normalization: Any = None,
    key_added: str = schema.HE_FEATURES,
    store: str | Path | None = None,
    resume: bool = True,
    tiles_key: str = schema.TILES,
    copy: bool = False,
) -> SpatialData | None:
    """Describe the H&E of each tile at three scales by an image encoder.

    A tile is encoded as a whole, as its 2 × 2 and as its 4 × 4 crops; the features of the crops of a scale are
    averaged. The image is read window by window, each pixel once for all scales; features go to a store on disk as they
    come, and a run that was killed goes on where it stopped, as of :func:`stdistill.pp.embed_he`.

    Parameters
    ----------
    data
        SpatialData with an H&E and tiles, as :func:`stdistill.pp.tiles` lays them.
    encoder
        A name of :func:`stdistill.encoders.list` or of timm, an :class:`stdistill.encoders.Encoder`, or several of
        them, whose features are concatenated at each scale. ``"auto"`` as of :func:`stdistill.pp.embed_he`.
    batch_size
        Crops that are encoded at once; `None`: 256 on a GPU, 32 on a CPU.
    device, devices, num_nodes, strategy, precision, stain_normalization
        As of :func:`stdistill.pp.embed_he`.
    key_added
        Beginning of the keys of ``.obsm``.
    store
        Folder for the features, which stays, one row a tile; `None`: one in the user's cache, removed when the features
        are in the table.
    resume
        Go on where an equal run stopped; `False` deletes what is in `store` and computes it afresh.
    tiles_key
        Name of the table of tiles.
    copy
        Return a copy, whose table of tiles has the features, instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written to the table of tiles:

    ``.obsm["{key_added}_micro"]``, ``.obsm["{key_added}_meso"]``, ``.obsm["{key_added}_macro"]``
        (m, d) float16: the mean over 16 crops, over 4, and the tile as a whole.
    ``.obs["{key_added}_micro_model"]``, ``.obs["{key_added}_micro_mpp"]`` …
        Of each of these, fingerprint of encoder, weights, tiles and stain, and µm per pixel.
    ``.obs["{key_added}_micro_mark"]`` …
        uint32, a number for each tile's features, as of :func:`stdistill.pp.embed_he`.
    ``.uns["stdistill"]["embed_tiles"]``
        Encoder with revision and licence, and the parameters. Under another `key_added` it is
        ``"embed_tiles_<key_added>"``.

    Raises
    ------
    TypeError
        When `data` is an AnnData, which holds no image.
    KeyError
        When tiles, their image or the encoder are not there.
    ValueError
        When the table is not one of tiles, an encoder takes no crops as small as theirs, returns NaN or another shape
        than it should, other numbers of features for crops of other sides, or `store` is of another image, other tiles,
        another encoder or other parameters.
    PermissionError, FileExistsError, OSError, MemoryError
        As of :func:`stdistill.pp.embed_he`.

    Warns
    -----
    UserWarning
        When nearly all features are the same for all tiles, or differ by less than float16 resolves.

    See Also
    --------
    tiles : lay the tiles.

    Notes
    -----
    Jeong et al. 2025, section 3 (SIGMMA): crops of 1, 1/2 and 1/4 of the side of a tile, each resized to the encoder's
    input, and mean-pooled. The tile is resampled once from the image, antialiased; crops are resized as a whole, by the
    encoder's own interpolation, without the cut of their centre that some encoders make. An encoder that takes any
    size, such as ``"texture"``, gets them as they are.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> sd.pp.tiles(sdata, tile_px=128)
    >>> sd.pp.embed_tiles(sdata, encoder="texture")
    >>> sdata["tiles"].obsm["X_he_macro"].shape[1]
    276
    """
    check_name(key_added, "key_added")
    check_run(
        batch_size=batch_size, precision=precision, device=device, devices=devices, num_nodes=num_nodes, store=store
    )
    data = get_sdata(data, tiles_key)
    get_tiles(data, tiles_key)  # raises when there are none
    sdata = copy_table(data, tiles_key) if copy else data
    table = get_tiles(sdata, tiles_key)
    laid = read_record(table, TILES)
    tile_px, mpp = int(laid["tile_px"]), float(laid["mpp"])
    frames = he_frames(sdata, image_key=str(laid["image_key"]), table_key=tiles_key)
    encoders = find_encoders(encoder, store)
    for one in encoders:
        if one.seen_px(tile_px) != tile_px:
            msg = (
                f"The encoder {one.name!r} is dense, which is for cells, in sd.pp.embed_he: tiles are cut into "
                "crops. Give encoder.by_crops()."
            )
            raise ValueError(msg)
    advice = f"The tiles have {tile_px} px: lay larger ones, sd.pp.tiles(tile_px={{}})."
    check_sides(encoders, tile_px, advice, n_along=max(schema.SCALES.values()))
    from stdistill._features.compute import compute_features
    from stdistill._features.tiles import split_scales
    from stdistill._training.devices import torch_device

    stain = describe_stain(stain_normalization)
    computed, used = compute_features(
        plan_slides(sdata, frames, get_centers(table), tile_px, mpp, stain_normalization),
        encoders,
        table.obs_names.to_numpy(),
        crop_px=tile_px,
        mpp=mpp,
        batch_size=batch_size,
        precision=precision,
        stain=stain,
        store=store,
        resume=resume,
        device=torch_device(device or "auto"),
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        crops_per_side=tuple(schema.SCALES.values()),
    )
    described = describe_encoders(encoders, used)
    kind = kind_of_features(described["encoder"], described["revision"], tile_px, stain, context=None)
    marks = {}
    for scale, features in zip(
        schema.SCALES, split_scales(computed, encoders, len(schema.SCALES), tile_px), strict=True
    ):
        key = f"{key_added}_{scale}"
        warn_of_lost_spread(features, key, described["encoder"].replace("+", " and "))
        write_kind(table, key, kind, mpp)
        marks[f"fingerprint_{scale}"] = write_features(table, key, features)
    write_record(
        table,
        "embed_tiles",
        crop_px=tile_px,
        mpp=mpp,
        precision=precision,
        stain_normalization=stain,
        image_key=laid["image_key"],
        crop_um=laid["tile_um"],
        n_tiles=table.n_obs,
        key_added=key_added,
        fingerprint=fingerprint_rows(computed),
        images=mark_images(sdata, (frame.image_key for frame in frames)),
        **marks,
        **described,
    )
    logger.info('Wrote .obsm["%s_micro"], …: %d tiles, %d features each.', key_added, table.n_obs, features.shape[1])
    return sdata if copy else None
