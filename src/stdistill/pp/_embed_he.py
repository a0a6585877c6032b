"""H&E features: what an image encoder sees around each cell."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stdistill._features.inputs import check_run, check_sides, describe_encoders, find_encoders
from stdistill._features.spread import warn_of_lost_spread
from stdistill._slide.plan import CROP_PX
from stdistill._support.checks import check_integer, check_name, check_positive
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_sdata, get_table
from stdistill._table.he.images import mark_images
from stdistill._table.he.placement import he_frames
from stdistill._table.he.placement_checks import check_placement, warn_of_cut_crops
from stdistill._table.he.plans import check_crop_scale, plan_slides
from stdistill._table.he.stain import describe_stain
from stdistill._table.marks.rows import write_features
from stdistill._table.provenance.results import kind_of_features, write_kind
from stdistill._table.records import augmented_keys, read_record, write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.encoders import Encoder
    from stdistill.encoders._encoder import Precision

logger = logging.getLogger("stdistill")

MIN_CROP_PX = 8


def embed_he(
    data: SpatialData,
    *,
    encoder: str | Encoder | Sequence[str | Encoder] = "auto",
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    crop_px: int = CROP_PX,
    mpp: float | None = None,
    context: float | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    devices: int | Sequence[int] = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: Precision | None = None,
    stain_normalization: Any = None,
    n_augmented: int = 0,
    key_added: str = schema.HE_FEATURES,
    store: str | Path | None = None,
    resume: bool = True,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> SpatialData | None:
    """Describe the H&E around each cell by an image encoder.

    The image is read window by window, each of its tiles once. Crops are cut, resampled and normalised on the device.
    Features go to a store on disk as they come: a run that was killed goes on where it stopped.

    Parameters
    ----------
    data
        SpatialData with an H&E.
    encoder
        A name of :func:`stdistill.encoders.list` or of timm, an :class:`stdistill.encoders.Encoder`, or several of
        them, whose features are concatenated. ``"auto"``: UNI2-h, the encoder of the paper, where its weights are at
        hand, else the built-in ``"texture"``, with a warning.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    crop_px
        Side of the crops in pixels; of an encoder's :meth:`~stdistill.encoders.Encoder.dense` features, width of the
        disc around the cell over which they are averaged.
    mpp
        µm per pixel of the crops; the image is resampled, once, from the pyramid level that is just finer. `None`:
        the image's own pixels, as in the paper; of several images these must be of one size.
    context
        How many times as wide the tissue is that is described beside the crop, in as many pixels; its features follow
        those of the crop. `None`: the crop alone. Give :func:`stdistill.pp.split_strips` as wide crops.
    batch_size
        Crops that are encoded at once; `None`: 256 on a GPU, 32 on a CPU.
    device
        ``"cpu"``, ``"cuda"`` or ``"mps"``; `None`: the fastest there is.
    devices, num_nodes, strategy
        Devices per machine (a number, or which ones), machines, and how they work together, as of
        ``lightning.Trainer``. More than one need a `store` that all of them reach.
    precision
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; `None`: the encoder's own on a GPU, float32 on a CPU.
    stain_normalization
        ``squidpy.experimental.im.StainReference`` to whose stain each slide is brought before it is encoded
        (Macenko, Vahadane or Reinhard). Within ``labels["<image>_tissue"]``, which is detected if absent.
    n_augmented
        How many times to compute the features once more, of the slide as other laboratories and scanners would show it:
        in another stain and light, coarser or less sharp, compressed. Students learn from these too: with 4 of
        ``"texture"`` they see nearly half as much again on slides of another stain, scanner or scale, and less on their
        own; with ``tl.distill(standardize="slide")`` they need none (docs: Other slides, from H&E alone). Each takes as
        long as the features of the slide as it is, and as much memory; a slide that is only to be predicted needs none.
    key_added
        Key of ``.obsm``.
    store
        Folder for the features, which stays, one row a cell; it can be mapped into memory. Those of augmented slides go
        beside it. `None`: one in the user's cache, removed when the features are in the table; equal runs at the same
        time have one each.
    resume
        Go on where an equal run stopped, on whatever device and with whatever version it was begun; a store that is
        complete is read. `False` deletes what is in `store` and computes it afresh.
    table_key
        Name of the table.
    copy
        Return a copy, whose table has the features, instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obsm[key_added]``
        (n, d) float16; NaN for cells off the image.
    ``.obsm["{key_added}_augmented_1"]`` …
        The same of each augmented slide.
    ``.obs["{key_added}_model"]``, ``.obs["{key_added}_mpp"]``
        Fingerprint of encoder, weights, crops and stain, and µm per pixel: by these, tables that are concatenated still
        tell features apart that are not alike.
    ``.obs["{key_added}_mark"]``
        uint32, a number for each cell's features: it tells when rows of ``.obs`` or ``.obsm`` were moved by themselves.
    ``.uns["stdistill"]["embed_he"]``
        Encoder with revision and licence, µm per pixel, and the parameters.

    Raises
    ------
    TypeError
        When `data` is an AnnData, which holds no image.
    KeyError
        When the image, the table or the encoder is not there.
    ValueError
        When no cell lies on the image, coordinate systems disagree on where they lie or the image is not aligned, crops
        are smaller than an encoder takes, `mpp` is asked of an image that has none, several images differ in theirs by
        more than 2 % and none is asked for, the encoder returns NaN or another shape than it should, or `store` is of
        another image, other cells, another encoder or other parameters.
    PermissionError
        When the weights of the named encoder are gated and access was not granted.
    FileExistsError
        When `store` holds something else.
    OSError
        When the disk is full; what was computed is kept. When another process writes to `store`.
    MemoryError
        When the device has no room for so many crops at once.

    Warns
    -----
    UserWarning
        When nearly all features are the same for all cells, or differ by less than float16 resolves; or the image is
        a part of the one that was read, and crops reach over its edge, where they show glass in place of tissue.

    Notes
    -----
    Crops of 224 px at native resolution, centred on the cell: Hizmi et al. 2026, sections 4.2 and 5.2. What the paper
    leaves open is our choice: crops that reach over the edge of the image are padded with the colour of its glass;
    resampling is antialiased, and a crop shows nothing of what lies outside it. On a CPU the features of an
    interrupted run are bit-identical to those of an undisturbed one.

    From crops of 160 px on, ``"texture"`` looks at each pixel once for all crops that show it. Its features are nearly
    those of the crops one by one, which ``encoder=stdistill.encoders.get("texture").by_crops()`` gives, and are
    recorded as another revision. Those of :meth:`stdistill.encoders.Encoder.dense` depend on what lies up to a tile
    beyond: for them give :func:`stdistill.pp.split_strips` ``crop_px=encoder.seen_px(crop_px)``.

    Memory is needed for the windows at work, one row of the image's tiles, and the features of `data` at the end.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=200))
    >>> sd.pp.embed_he(sdata, encoder="texture", crop_px=64)
    >>> sdata["table"].obsm["X_he"].shape
    (200, 276)
    """
    check_integer(crop_px, "crop_px", minimum=MIN_CROP_PX)
    if mpp is not None:
        check_positive(mpp, "mpp")
    if context is not None:
        _check_context(context)
    check_integer(n_augmented, "n_augmented", minimum=0)
    check_name(key_added, "key_added")
    check_run(
        batch_size=batch_size, precision=precision, device=device, devices=devices, num_nodes=num_nodes, store=store
    )
    data = get_sdata(data, table_key)
    sdata = copy_table(data, table_key) if copy else data
    table = get_table(sdata, table_key)
    frames = he_frames(sdata, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(sdata, frames, table_key)
    check_crop_scale(frames, mpp)
    scale = float(np.mean([frame.mpp for frame in frames])) if mpp is None else mpp
    scales = [mpp] if context is None else [mpp, context * scale]
    warn_of_cut_crops(table, frames, crop_px, scales[-1])
    encoders = find_encoders(encoder, store)
    check_sides(encoders, crop_px, "Give crop_px={} or more.")
    from stdistill._features.compute import compute_features
    from stdistill._training.devices import torch_device

    stain = describe_stain(stain_normalization)
    seen_px = max(one.seen_px(crop_px) for one in encoders)
    how: dict[str, Any] = {
        "crop_px": crop_px,
        "batch_size": batch_size,
        "precision": precision,
        "stain": stain,
        "resume": resume,
        "device": torch_device(device or "auto"),
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
    }
    plan = {"stain_reference": stain_normalization, "margin_px": (seen_px - crop_px) // 2}
    keys = [key_added, *augmented_keys(key_added, n_augmented)]
    computed: dict[str, npt.NDArray[np.float16]] = {}
    for look, key in enumerate(keys):
        if look:
            logger.info("As other laboratories would show it, %d of %d:", look, n_augmented)
        parts: list[npt.NDArray[np.float16]] = []
        for own_mpp in scales:
            slides = plan_slides(sdata, frames, get_centers(table), crop_px, own_mpp, look=look, **plan)
            own_store = None if store is None else _store_of(Path(store), look, is_context=len(parts) > 0)
            part, used = compute_features(
                slides, encoders, table.obs_names.to_numpy(), mpp=own_mpp, store=own_store, **how
            )
            parts.append(part)
        computed[key] = parts[0] if context is None else np.hstack(parts)
        warn_of_lost_spread(computed[key], key, " and ".join(one.name for one in encoders))
    for key in augmented_keys(key_added, int(read_record(table, "embed_he", key_added).get("n_augmented", 0))):
        table.obsm.pop(key, None)  # of the features that are replaced
    for key in keys[1:]:
        table.obsm[key] = computed[key]
    features = computed[key_added]
    widest_px = math.ceil(seen_px * (context or 1))
    made = write_features(table, key_added, features)
    n_embedded = sum(len(slide.plan.order) for slide in slides)
    described = describe_encoders(encoders, used)
    kind = kind_of_features(described["encoder"], described["revision"], crop_px, stain, context)
    write_kind(table, key_added, kind, scale)
    write_record(
        table,
        "embed_he",
        crop_px=crop_px,
        context=context,
        seen_px=widest_px,
        mpp=scale,
        native=mpp is None,
        precision=precision,
        stain_normalization=stain,
        image_key=", ".join(dict.fromkeys(frame.image_key for frame in frames)),
        coordinate_system=coordinate_system,
        crop_um=max(frame.native_crop_px(widest_px, mpp) * frame.mpp for frame in frames),
        n_cells=table.n_obs,
        share_embedded=n_embedded / table.n_obs,
        key_added=key_added,
        n_augmented=n_augmented,
        fingerprint=made,
        images=mark_images(sdata, (frame.image_key for frame in frames)),
        **described,
    )
    logger.info('Wrote .obsm["%s"] %s: %d cells on the H&E.', key_added, features.shape, n_embedded)
    return sdata if copy else None


def _check_context(context: float) -> None:
    """Raise unless the tissue around a crop is wider than the crop."""
    check_positive(context, "context")
    if context <= 1:
        msg = f"context must be above 1, as 3 for tissue three times as wide as the crop, found {context}."
        raise ValueError(msg)


def _store_of(store: Path, look: int, *, is_context: bool) -> Path:
    """Return the folder of a look at the crops or at the tissue around them: the user's own, or one beside it."""
    suffixes = [f"_augmented_{look}" if look else "", "_context" if is_context else ""]
    return store.with_name("".join([store.name, *suffixes]))
