"""Outlines of the tissue of an H&E."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from stdistill._slide.affine import affine_scale, apply_affine
from stdistill._slide.tissue import outline
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.checks import get_sdata, share_elements
from stdistill._table.he.images import slide_levels
from stdistill._table.he.place import find_um_to_px, systems_of_um
from stdistill._table.he.tissue import see_tissue
from stdistill._table.records import read_slide_step, write_slide_step

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

STEP = "find_tissue"
SAME_AREA = 1e-6
"""Outlines whose area differs by no larger share are those that were found."""


def find_tissue(
    data: SpatialData, *, image_key: str = schema.HE_IMAGE, shapes_key: str = schema.TISSUE, copy: bool = False
) -> SpatialData | None:
    """Outline the tissue on an H&E.

    The slide is looked at with 8 µm per pixel (finer when it is small), from the smallest level that shows as much: it
    takes seconds, and no weights. Tissue is what absorbs more light than the slide's glass; pen, and black borders and
    gaps, are told by their colour and left out.

    Parameters
    ----------
    data
        SpatialData with an H&E whose µm are known, as `read_slide` and `read_xenium` return it.
    image_key
        Name of the H&E.
    shapes_key
        Name of the outlines that are written. Those of an earlier call are replaced.
    copy
        Return a copy with the result, which shares all other elements, instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written:

    ``.shapes[shapes_key]``
        Polygons with holes, in µm, one for each piece of tissue, the largest first, with the column ``area_um2``; in
        all coordinate systems of the image, and in ``"um"``.
    ``.attrs["stdistill"]["find_tissue"]``
        ``image_key``, ``shapes_key``, ``mpp`` (of the overview), ``threshold`` (optical density), ``glass`` (its
        colour), ``tissue_share`` and ``ink_share`` (of the image), ``area_mm2``.

    Raises
    ------
    TypeError
        When `data` is no SpatialData.
    KeyError
        When the image is not there.
    ValueError
        When no tissue is seen, µm are not known, or `shapes_key` holds something else, or outlines that were
        changed since they were found.

    See Also
    --------
    quality : what is wrong with the slide, within its tissue.

    Notes
    -----
    Glass is the median colour of what is bright, at least 200 of 255 in all colours, and even: blocks of 16 pixels that
    vary by no more than 2 %, as pale stroma does not. White is taken where less than 1 % is so. The optical density
    against it, of the colour that is absorbed most, is smoothed (standard deviation 8 µm), and parted by the threshold
    of Li and Lee (1993, Pattern Recognition 26) between 0.07 (7 % absorbed: less is glass, so that a blank slide has no
    tissue) and 0.2 (18 %: more is tissue, so that an image without glass is all tissue). Pieces and holes of less than
    10,000 µm² (of small images: 1 %) are left out and filled. Pen is what no mixture of haematoxylin and eosin can be
    by their vectors (Ruifrok and Johnston 2001, Anal Quant Cytol Histol 23), in pieces of at least 20,000 µm²;
    black, 8 of 255 at most, was filled in where nothing was scanned, and counts in any size. Limits are our choice. Ink
    across tissue is found only where its colour outweighs the tissue's.

    Examples
    --------
    >>> import stdistill as sd
    >>> bundle = sd.datasets.simulate_xenium("slide/outs", n_cells=300)
    >>> slide = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    >>> sd.pp.find_tissue(slide)
    >>> list(slide["tissue"].columns)
    ['geometry', 'area_um2']
    """
    check_name(shapes_key, "shapes_key")
    data = get_sdata(data, schema.TABLE)
    _check_free(data, shapes_key)
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel

    um_to_px = find_um_to_px(data, image_key)
    levels = slide_levels(data.images[image_key], image_key)
    overview, found = see_tissue(levels, 1 / affine_scale(um_to_px), image_key)
    px_to_um = np.linalg.inv(um_to_px)
    pieces = shapely.transform(outline(found.tissue, overview.factor), lambda px: apply_affine(px_to_um, px))
    areas = shapely.area(pieces)
    frame = gpd.GeoDataFrame({"geometry": pieces, "area_um2": areas}, index=np.arange(1, len(pieces) + 1))
    shapes = ShapesModel.parse(frame, transformations=systems_of_um(data.images[image_key], um_to_px))
    if copy:
        data = share_elements(data)
    if shapes_key in data.shapes:
        del data.shapes[shapes_key]
    data.shapes[shapes_key] = shapes
    write_slide_step(
        data,
        STEP,
        image_key=image_key,
        shapes_key=shapes_key,
        mpp=overview.mpp,
        threshold=found.threshold,
        glass=list(found.glass),
        tissue_share=found.tissue.mean(),
        ink_share=found.ink.mean(),
        area_mm2=areas.sum() / 1e6,
    )
    logger.info("Found %d pieces of tissue, %.1f mm².", len(pieces), areas.sum() / 1e6)
    return data if copy else None


def _check_free(sdata: SpatialData, shapes_key: str) -> None:
    is_own = shapes_key in sdata.shapes and read_slide_step(sdata, STEP).get("shapes_key") == shapes_key
    if shapes_key in sdata and not is_own:
        msg = (
            f"There is an element {shapes_key!r} already, which sd.pp.find_tissue did not write: name the outlines "
            "otherwise with shapes_key=."
        )
        raise ValueError(msg)
    found_mm2 = read_slide_step(sdata, STEP).get("area_mm2")
    if is_own and found_mm2 is not None:
        area_mm2 = float(sdata.shapes[shapes_key].geometry.area.sum()) / 1e6
        if not math.isclose(area_mm2, found_mm2, rel_tol=SAME_AREA):
            msg = (
                f"The outlines {shapes_key!r} were changed since they were found ({found_mm2:.4g} mm² then, "
                f"{area_mm2:.4g} now), which would be lost. Give shapes_key= for new ones, or delete these: "
                f"del sdata.shapes[{shapes_key!r}]."
            )
            raise ValueError(msg)
