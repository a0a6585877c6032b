"""How much of the H&E around each cell or spot is tissue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from stdistill._slide.glass import background_shares, glass_of_image, small_image
from stdistill._support.checks import check_integer, check_key, check_name, check_positive
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_sdata, get_table
from stdistill._table.he.images import slide_levels
from stdistill._table.he.placement import he_frames
from stdistill._table.he.placement_checks import check_placement, warn_of_cut_crops
from stdistill._table.he.plans import check_crop_scale, crops_of, plan_slides
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

STEP = "tissue_share"
BRIGHTEST = 255


def tissue_share(
    data: SpatialData,
    *,
    rgb_threshold: float | None = None,
    use_rep: str = schema.HE_FEATURES,
    crop_px: int | None = None,
    mpp: float | None = None,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    key_added: str = schema.TISSUE_SHARE,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> SpatialData | None:
    """Measure how much of the crop around each cell or spot is tissue, and how much background.

    Nothing is removed: a share below one half says that a crop shows more glass than tissue.

    Parameters
    ----------
    data
        SpatialData with an H&E.
    rgb_threshold
        Brightness (mean of red, green and blue, of 255) above which a pixel is background. `None`: a pixel is
        background when each of its colours has an optical density below 0.15 (natural logarithm) against the slide's
        white point, that is, more than 0.86 of its brightness. Black (8 at most) is background in any case: nothing was
        scanned there.
    use_rep
        The `key_added` of :func:`stdistill.pp.embed_he`, whose crops are looked at.
    crop_px, mpp
        Side of the crops in pixels, and their µm per pixel. By default both are those of the features in
        ``.obsm[use_rep]``, else 224 pixels of the image's own resolution.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    key_added
        Column of ``.obs``.
    table_key
        Name of the table.
    copy
        Return a copy, whose table has the column, instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obs[key_added]``
        Share of the crop that is tissue, 0 to 1, float32; what lies off the image is none. NaN for cells off the image.
    ``.uns["stdistill"]["tissue_share"]``
        ``white_points`` (n images, 3), and the parameters.

    Raises
    ------
    TypeError
        When `data` is an AnnData, which holds no image.
    KeyError
        When the image, the table or `use_rep`, unless it is the default, is not there.
    ValueError
        When no cell lies on the image, or where they lie or the scale is not known, as by
        :func:`stdistill.pp.embed_he`; or `rgb_threshold` is not between 0 and 255.

    Warns
    -----
    UserWarning
        When the image is a part of the one that was read, and crops reach over its edge.

    Notes
    -----
    Sun, Zhu and Qiu 2025 (arXiv 2507.07013), section 2.3, leave out "background-dominated patches identified by RGB
    thresholds", and state none. How bright glass is differs from slide to slide, so that one threshold does not carry:
    the rule relative to the white point is our choice, and so is the mean as the reading of theirs. The white point is
    the median of what is bright (200 or more of 255 in every colour) and even (blocks of 16 pixels that vary by no more
    than 2 %, as pale stroma does not) on a small level of the image; white where less than 1 % is. Where a smaller
    level of the image is read, as :func:`stdistill.pp.embed_he` does for coarse crops, crops begin and end at its whole
    pixels.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=200))
    >>> sd.pp.tissue_share(sdata, crop_px=64)
    >>> mostly_tissue = sdata["table"].obs["he_tissue_share"] > 0.5
    """
    if crop_px is not None:
        check_integer(crop_px, "crop_px", minimum=1)
    if mpp is not None:
        check_positive(mpp, "mpp")
    if rgb_threshold is not None:
        check_positive(rgb_threshold, "rgb_threshold")
        if rgb_threshold >= BRIGHTEST:
            msg = f"rgb_threshold must be below {BRIGHTEST}, found {rgb_threshold}: no pixel is brighter."
            raise ValueError(msg)
    check_name(key_added, "key_added")
    data = get_sdata(data, table_key)
    sdata = copy_table(data, table_key) if copy else data
    table = get_table(sdata, table_key)
    if use_rep != schema.HE_FEATURES:
        check_key(use_rep, table.obsm.keys(), "features in .obsm", argument="use_rep")
    crop_px, mpp = crops_of(table, use_rep, crop_px, mpp)
    frames = he_frames(sdata, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(sdata, frames, table_key)
    check_crop_scale(frames, mpp)
    warn_of_cut_crops(table, frames, crop_px, mpp)
    shares = np.full(table.n_obs, np.nan, dtype=np.float32)
    whites = []
    for frame, slide in zip(frames, plan_slides(sdata, frames, get_centers(table), crop_px, mpp), strict=True):
        levels = slide_levels(sdata.images[frame.image_key], frame.image_key)
        whites.append(glass_of_image(small_image(levels)))
        shares[slide.plan.order] = 1 - background_shares(slide, whites[-1], rgb_threshold)
    table.obs[key_added] = shares
    write_record(
        table,
        STEP,
        key_added=key_added,
        white_points=np.array(whites),
        rgb_threshold=rgb_threshold,
        crop_px=crop_px,
        mpp=float(np.mean([frame.mpp for frame in frames])) if mpp is None else mpp,
        native=mpp is None,
        image_key=", ".join(dict.fromkeys(frame.image_key for frame in frames)),
        coordinate_system=coordinate_system,
    )
    n_background = int((shares < 0.5).sum())
    logger.info('Wrote .obs["%s"]: %d crops show more background than tissue.', key_added, n_background)
    return sdata if copy else None
