"""Whether cells lie on their H&E as if it were aligned: what readers check, for slides that came another way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from stdistill._slide.affine import affine_scale, apply_affine
from stdistill._slide.glass import check_colors, share_on_tissue
from stdistill._slide.registration import warn_of_chance
from stdistill._support.arrays import Floats, Mask
from stdistill._support.warn import warn
from stdistill._table.checks import get_centers, get_table, is_spatialdata
from stdistill._table.he.images import slide_levels
from stdistill._table.he.placement import SAME_PX, HEFrame
from stdistill._table.he.slide_record import SlideRecord, read_slide_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

MIN_SHARE_ON_IMAGE = 0.9
MIN_SHARE_ON_TISSUE = 0.5
"""Smaller shares of the cells, or of those on the image, show that an image is not aligned. As of `pp.read_xenium`."""
OVERVIEW_PX = 2048
"""Tissue is told from glass on a level no larger than this; an image without one is not looked at."""
MORPHOLOGY_UM = 0.2125
"""µm per pixel of the morphology image of every Xenium slide so far."""


def check_placement(data: AnnData | SpatialData, frames: Sequence[HEFrame], table_key: str) -> None:
    """Look whether the cells lie on the images, and on tissue; slides that were read with these checks are known.

    Raises
    ------
    ValueError
        When the image lies over the cells by the identity, as `spatialdata_io.xenium` leaves it when it finds no
        alignment, and cells do not lie on it; when it is a picture in grey.

    Warns
    -----
    UserWarning
        When it lies there by the identity, few cells lie on the image or on tissue, or no more than by
        chance on nuclei.
    """
    if not is_spatialdata(data):
        return
    table = get_table(data, table_key)
    for frame in frames:
        if not _was_checked(table, frame):
            _check_frame(data, frame, frame.to_px(get_centers(table)[frame.cells]))


def _check_frame(sdata: SpatialData, frame: HEFrame, px: Floats) -> None:
    on_image = frame.contains(px)
    share = float(on_image.mean())
    found = f"{share:.1%} of the {len(px)} cells lie on the image {frame.image_key!r}"
    low = share < MIN_SHARE_ON_IMAGE
    on_tissue = _share_on_tissue(sdata, frame, px[on_image]) if on_image.any() else None
    if on_tissue is not None:
        found += f", and {on_tissue:.1%} of these on stained tissue"
        low = low or on_tissue < MIN_SHARE_ON_TISSUE
    advice = (
        "sd.pp.read_xenium reads both image and alignment (he_alignment=np.eye(3) says that there is none to make); or "
        "set the alignment with spatialdata.transformations.set_transformation."
    )
    if _is_identity(frame, px):
        msg = (
            f"Pixels of {frame.image_key!r} are taken for pixels of the morphology image ({MORPHOLOGY_UM} µm): its "
            f"transformation is the identity, as when spatialdata_io.xenium finds no alignment of it. {found}. "
        )
        if low:
            msg += f"It is not aligned: {advice}"
            raise ValueError(msg)
        warn(f"{msg}Unless it was brought into that frame, it is not aligned: {advice}")
    elif low:
        warn(f"Only {found}: the alignment seems to be off. Look with sd.pl.niches(image_key=...); {advice}")
    else:
        warn_of_chance(slide_levels(sdata.images[frame.image_key], frame.image_key), px[on_image], frame.mpp)


def record_of_larger(table: AnnData, frame: HEFrame) -> SlideRecord | None:
    """Return the record of the image that was read when the one that is there is not all of it, or turned."""
    record = read_slide_record(table)
    if record is None or record.um_to_px is None or record.shape is None or record.image_key != frame.image_key:
        return None
    return None if record.shape == frame.shape else record


def warn_of_cut_crops(table: AnnData, frames: Sequence[HEFrame], crop_px: int, mpp: float | None) -> None:
    """Warn of crops that reach over the edge of a part of an image, where the whole image would show tissue.

    The parameters are those of :func:`stdistill._table.he.plans.plan_slides`.
    """
    centers, n_cut = get_centers(table), 0
    for frame in frames:
        record = record_of_larger(table, frame)
        if record is None or record.um_to_px is None or record.shape is None:
            continue
        half = (frame.native_crop_px(crop_px, mpp) - SAME_PX) / 2  # what is left out of sight by rounding is not cut
        um = centers[frame.cells]
        px, px_of_all = frame.to_px(um), apply_affine(record.um_to_px, um)
        half_of_all = half * frame.mpp * affine_scale(record.um_to_px)
        within = frame.contains(px) & _is_within(px_of_all, record.shape, half_of_all)
        n_cut += int((within & ~_is_within(px, frame.shape, half)).sum())
    if n_cut:
        names = ", ".join(dict.fromkeys(repr(frame.image_key) for frame in frames))
        warn(
            f"The crops of {n_cut} cells reach over the edge of {names}, which is a part of the image that was read, "
            "as by spatialdata.bounding_box_query: they show glass where there is tissue. Compute features before the "
            "part is cut out, with which they go, or cut out a part that is wider by half a crop, "
            f"{max(frame.native_crop_px(crop_px, mpp) * frame.mpp for frame in frames) / 2:.0f} µm."
        )


def _is_within(px: Floats, shape: tuple[int, int], margin: float) -> Mask:
    """Whether squares around pixels (n, 2), which reach so far, lie within an image of height and width."""
    middle = np.array(shape[::-1]) / 2
    within: Mask = np.all(np.abs(px - middle) <= middle - margin, axis=1)
    return within


def _was_checked(table: AnnData, frame: HEFrame) -> bool:
    """Whether a reader placed this image, and it lies where it did."""
    record = read_slide_record(table)
    if record is None or record.um_to_px is None or record.share_on_image is None:
        return False
    if (record.image_key, record.shape) != (frame.image_key, frame.shape):
        return False
    height, width = frame.shape
    corners = frame.to_um(np.array([(0.0, 0.0), (width, 0), (0, height), (width, height)]))
    apart = np.linalg.norm(frame.to_px(corners) - apply_affine(record.um_to_px, corners), axis=1)
    return bool(apart.max() < SAME_PX)


def _is_identity(frame: HEFrame, px: Floats) -> bool:
    """Whether the map is that of µm to pixels of the morphology image."""
    as_morphology = frame.to_um(px) / MORPHOLOGY_UM
    return bool(np.abs(as_morphology - px).max() < SAME_PX)


def _share_on_tissue(sdata: SpatialData, frame: HEFrame, px: Floats) -> float | None:
    levels = slide_levels(sdata.images[frame.image_key], frame.image_key)
    small = [level for level in levels if max(level.shape) <= OVERVIEW_PX]
    if not small:
        return None
    pixels = small[0].pixels.compute()
    check_colors(pixels.reshape(3, -1), f"The image {frame.image_key!r}")
    return share_on_tissue(pixels, px / frame.shape[::-1])
