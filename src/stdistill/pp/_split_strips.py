"""Spatial hold-out: strips of the tissue for training and testing, whose H&E crops share no pixel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._slide.plan import CROP_PX, crop_origins
from stdistill._support.checks import check_integer, check_name, check_positive
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_library_codes, get_table, is_spatialdata
from stdistill._table.he.images import is_rgb
from stdistill._table.he.placement import he_frames
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")


class _Slide(NamedTuple):
    cells: npt.NDArray[np.int64]
    """Rows of the table."""
    px: npt.NDArray[np.floating]
    """Centres (m, 2) in pixels of the H&E."""
    crop_px: int
    """Side of a crop in these pixels."""


def split_strips(
    data: AnnData | SpatialData,
    *,
    n_strips: int = 4,
    test_strip: int = 1,
    crop_px: int = CROP_PX,
    mpp: float | None = None,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
    key_added: str = schema.SPLIT,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Cut each slide into horizontal strips, one of them for testing.

    The extent of the cells on the H&E is cut into `n_strips` strips of equal height. Cells of the test strip are
    ``"test"``, the others ``"train"``; a cell whose H&E crop would cross a border between the two is ``"buffer"``, so
    that the crops of training and test cells share no pixel.

    Parameters
    ----------
    data
        SpatialData with an H&E, or a table that :func:`stdistill.pp.read_xenium` read with one. Without any H&E, which
        is RGB, the strips are cut along y of ``.obsm["spatial"]``, and `mpp` is needed.
    n_strips
        Number of strips.
    test_strip
        The strip held out, counted from the top of the H&E, the first being 0.
    crop_px, mpp
        Side of the crops in pixels, and their µm per pixel, as given to :func:`stdistill.pp.embed_he`. By default
        crops are taken at the image's own resolution.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    library_key
        Column of ``.obs`` that names each cell's slide, for an AnnData of several slides; their strips are cut along y
        of the centres. Of a SpatialData every image is a slide.
    table_key
        Name of the table of a SpatialData.
    key_added
        Column of ``.obs`` that is written.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obs[key_added]``
        Categorical: ``"train"``, ``"test"``, ``"buffer"``; missing for cells off the H&E, which have no crop.
    ``.uns["stdistill"]["split_strips"]``
        The parameters and the share of cells in each group.

    Raises
    ------
    KeyError
        When the table, the image or `library_key` is not there.
    ValueError
        When a strip is too low for the crops, so that no training or no test cell is left.

    Notes
    -----
    Four strips with the second from the top for testing: Hizmi et al. 2026, section 5.1. The paper describes the buffer
    in two ways that contradict each other; this is the reading that keeps the crops disjoint, and it leaves out as many
    cells as the paper says (about 2 % of a slide of 20,500 pixels). Strips lie in the frame of the H&E, which the paper
    leaves open.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((1000, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 2000, (1000, 2))})
    >>> sd.pp.split_strips(adata, mpp=0.274)
    >>> adata.obs["split"].cat.categories.tolist()
    ['train', 'test', 'buffer']
    """
    check_integer(n_strips, "n_strips", minimum=2)
    check_integer(test_strip, "test_strip", minimum=0, maximum=n_strips - 1)
    check_integer(crop_px, "crop_px", minimum=1)
    if mpp is not None:
        check_positive(mpp, "mpp")
    check_name(key_added, "key_added")
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    slides = _slides(data, adata, crop_px, mpp, image_key, library_key, table_key)
    split = np.full(adata.n_obs, None, dtype=object)
    for slide in slides:
        split[slide.cells] = _split_slide(slide, n_strips, test_strip)
    shares = {f"share_{group}": float((split == group).mean()) for group in (schema.TRAIN, schema.TEST, schema.BUFFER)}

    adata.obs[key_added] = pd.Categorical(split, categories=[schema.TRAIN, schema.TEST, schema.BUFFER])
    write_record(
        adata,
        "split_strips",
        n_strips=n_strips,
        test_strip=test_strip,
        crop_px=crop_px,
        mpp=mpp,
        library_key=library_key,
        key_added=key_added,
        **shares,
    )
    logger.info(
        'Wrote .obs["%s"]: %.1f %% train, %.1f %% test, %.1f %% buffer.', key_added, *(100 * s for s in shares.values())
    )
    return data if copy else None


def _slides(
    data: AnnData | SpatialData,
    adata: AnnData,
    crop_px: int,
    mpp: float | None,
    image_key: str | Mapping[str, str],
    library_key: str | None,
    table_key: str,
) -> list[_Slide]:
    """Find the slides: the images of a SpatialData, else the one recorded with the table, else its libraries."""
    if is_spatialdata(data):
        # One that goes by another name than the default is not passed over: its pixels are what must not be shared.
        has_image = image_key != schema.HE_IMAGE or any(is_rgb(image) for image in data.images.values())
        if has_image and library_key is not None:
            msg = "Every image of a SpatialData is a slide: library_key is for an AnnData of several slides."
            raise ValueError(msg)
    else:
        has_image = library_key is None and _has_recorded_image(adata)
    centers = get_centers(adata)
    if not has_image:
        if mpp is None:
            msg = (
                "There is no H&E whose pixels could be cut into strips. Give mpp=, the µm per pixel of the crops "
                "(0.274 on most Xenium slides), to cut along y of the centres instead."
            )
            raise ValueError(msg)
        none = np.zeros(adata.n_obs, dtype=np.int64)
        codes = none if library_key is None else get_library_codes(adata, library_key)
        rows = [np.flatnonzero(codes == number) for number in np.unique(codes)]
        return [_Slide(cells, centers[cells] / mpp, crop_px) for cells in rows]
    frames = he_frames(data, image_key=image_key, table_key=table_key)
    slides = []
    for name in dict.fromkeys(frame.image_key for frame in frames):
        same = [frame for frame in frames if frame.image_key == name]
        cells = np.concatenate([frame.cells for frame in same])
        px = np.concatenate([frame.to_px(centers[frame.cells]) for frame in same])
        on_image = same[0].contains(px)
        if not on_image.any():
            msg = f"No cell lies on the image {name!r}: check its alignment with sd.get.he_pixels."
            raise ValueError(msg)
        slides.append(_Slide(cells[on_image], px[on_image], same[0].native_crop_px(crop_px, mpp)))
    return slides


def _has_recorded_image(adata: AnnData) -> bool:
    record = read_slide_record(adata)
    return record is not None and record.has_image


def _split_slide(slide: _Slide, n_strips: int, test_strip: int) -> npt.NDArray[np.object_]:
    y = slide.px[:, 1]
    top, height = y.min(), np.ptp(y) / n_strips
    # Borders lie between rows of pixels; above the first and below the last strip there is none.
    first = round(top + test_strip * height) if test_strip > 0 else -np.inf
    last = round(top + (test_strip + 1) * height) if test_strip < n_strips - 1 else np.inf
    crop_top = crop_origins(slide.px, slide.crop_px)[:, 1]
    split = np.where((y >= first) & (y < last), schema.TEST, schema.TRAIN).astype(object)
    for border in (first, last):
        split[(crop_top < border) & (border < crop_top + slide.crop_px)] = schema.BUFFER
    for group in (schema.TRAIN, schema.TEST):
        if not (split == group).any():
            msg = (
                f"No {group} cell is left: strips are {height:.0f} pixels high and crops {slide.crop_px}. Use fewer "
                "strips or smaller crops."
            )
            raise ValueError(msg)
    return split
