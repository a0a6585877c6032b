"""What is read of each H&E: the crops of the cells that lie on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from stdistill._slide.glass import background_color
from stdistill._slide.looks import with_look
from stdistill._slide.plan import CROP_PX, Slide, crop_origins, plan_crops
from stdistill._slide.pyramid import is_same_mpp, level_for
from stdistill._support.arrays import Floats
from stdistill._table.he.images import slide_levels
from stdistill._table.he.placement import HEFrame
from stdistill._table.records import read_record

if TYPE_CHECKING:
    from spatialdata import SpatialData


def plan_slides(
    sdata: SpatialData,
    frames: Sequence[HEFrame],
    centers: Floats,
    crop_px: int,
    mpp: float | None,
    stain_reference: Any = None,
    look: int = 0,
    margin_px: int = 0,
) -> list[Slide]:
    """Plan what to read of each image, for the cells that lie on it.

    Parameters
    ----------
    sdata
        Holds the images.
    frames
        Where the cells lie on them.
    centers
        Centres (n, 2) in µm of all cells of the table.
    crop_px, mpp
        Side of the crops in pixels, and their µm per pixel; `None`: those of the image.
    stain_reference
        Stain to bring the images to, as :func:`stdistill._table.he.stain.normalize_stains` takes it.
    look
        With which look the images are seen (:func:`stdistill._slide.looks.with_look`); 0: as they are.
    margin_px
        What is read beyond the crops, in pixels of theirs.

    Raises
    ------
    ValueError
        When an image shows no cell.
    """
    slides = []
    for frame in frames:
        px = frame.to_px(centers[frame.cells])
        on_image = frame.contains(px)
        if not on_image.any():
            msg = (
                f"None of the {len(px)} cells lies on the image {frame.image_key!r}: check its alignment with "
                "sd.get.he_pixels."
            )
            raise ValueError(msg)
        native_px = frame.native_crop_px(crop_px, mpp)
        levels = slide_levels(sdata.images[frame.image_key], frame.image_key)
        background = background_color(levels)
        if stain_reference is not None:
            from stdistill._table.he.stain import normalize_stains

            levels = slide_levels(normalize_stains(sdata, frame.image_key, stain_reference), frame.image_key)
        source = level = level_for(levels, native_px / crop_px)
        if look:
            level = with_look(level, px[on_image] / level.factor, background, frame.mpp, look)
        origins = crop_origins(px[on_image], native_px)
        margin = math.ceil(margin_px * native_px / crop_px)
        plan = plan_crops(level, frame.cells[on_image], origins, native_px, margin)
        slides.append(Slide(plan, background, look, source))
    return slides


def crops_of(table: AnnData, use_rep: str, crop_px: int | None, mpp: float | None) -> tuple[int, float | None]:
    """Return side and µm per pixel of crops: those given, else of tiles or features, else of the image's pixels."""
    tiles = read_record(table, "tiles")
    if tiles:
        return int(tiles["tile_px"]) if crop_px is None else crop_px, float(tiles["mpp"]) if mpp is None else mpp
    record = read_record(table, "embed_he", use_rep)
    if crop_px is None:
        crop_px = int(record.get("crop_px", CROP_PX))
    if mpp is None and not record.get("native", True):
        mpp = float(record["mpp"])
    return crop_px, mpp


def check_crop_scale(frames: Sequence[HEFrame], mpp: float | None) -> None:
    """Raise when crops would show tissue at different scales, or a scale is asked of an image that has none."""
    if mpp is None:
        sizes = {frame.image_key: frame.mpp for frame in frames}
        if not is_same_mpp(min(sizes.values()), max(sizes.values())):
            found = ", ".join(f"{name!r} {size:.4g}" for name, size in sizes.items())
            msg = (
                f"The images differ in µm per pixel ({found}): crops of their own pixels would show tissue at "
                "different scales. Give mpp=, to which all of them are resampled."
            )
            raise ValueError(msg)
        return
    for frame in frames:
        if np.array_equal(frame.um_to_px, np.eye(3)):
            msg = (
                f"mpp={mpp} was asked for, but {frame.image_key!r} has no µm per pixel: its pixels are the unit of the "
                'centres. Give the centres in .obsm["spatial"] in µm and a transformation to the image\'s pixels, or '
                "leave mpp= out to take the image's own pixels."
            )
            raise ValueError(msg)
