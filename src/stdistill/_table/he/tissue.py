"""Where tissue is on an H&E: the tissue's outlines where they are known, else what is stained on an overview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stdistill._slide.affine import apply_affine
from stdistill._slide.glass import OVERVIEW_PX, small_image, stained
from stdistill._slide.overview import Overview, read_overview
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.tissue import NothingSeenError, TissueMap, map_tissue
from stdistill._support.arrays import Floats, Mask
from stdistill._table.he.placement import map_to_pixels

if TYPE_CHECKING:
    from spatialdata import SpatialData

PIXEL_PX = 32
"""Pixels of the image per pixel of the mask that outlines are drawn into, at least."""


@dataclass(frozen=True)
class Tissue:
    """Where tissue is."""

    mask: Mask
    """An image of the whole slide; a pixel is tissue when any of it is."""
    outlines: npt.NDArray[np.object_] | None
    """Polygons in pixels of the full resolution; `None` where none are known."""

    def contains(self, px: Floats) -> Mask:
        """Tell which places (n, 2), in pixels, lie within the outlines; all of them where none are known."""
        import shapely

        if self.outlines is None:
            return np.ones(len(px), dtype=bool)
        whole = shapely.union_all(self.outlines)
        shapely.prepare(whole)
        inside: Mask = shapely.contains_xy(whole, px[:, 0], px[:, 1])
        return inside


def see_tissue(levels: list[SlideLevel], mpp: float, image_key: str) -> tuple[Overview, TissueMap]:
    """Look at a slide of so many µm per pixel; raise when no tissue is seen on it."""
    overview = read_overview(levels, mpp)
    found = map_tissue(overview)
    if not found.tissue.any():
        msg = (
            f"No tissue is seen on the image {image_key!r}: nowhere is {1 - np.exp(-found.threshold):.0%} of the light "
            f"absorbed, pen and borders aside ({found.ink.mean():.0%} of the image). Is the slide blank?"
        )
        raise NothingSeenError(msg)
    return overview, found


def find_tissue_on(sdata: SpatialData, image_key: str, levels: list[SlideLevel], tissue_key: str | None) -> Tissue:
    """Return where tissue is on an image.

    Parameters
    ----------
    sdata
        Holds the image, and perhaps ``shapes[tissue_key]``.
    image_key
        Name of the image.
    levels
        Its levels.
    tissue_key
        Name of the outlines; `None`: they are not looked for.

    Raises
    ------
    ValueError
        When outlines are there, and none lies on the image.
    """
    if tissue_key is None or tissue_key not in sdata.shapes:
        return Tissue(stained(small_image(levels)), None)
    import shapely

    shapes = sdata.shapes[tissue_key]
    maps = map_to_pixels(shapes, sdata.images[image_key], None, names=(tissue_key, image_key))
    matrix = next(iter(maps.values()))
    outlines = shapely.make_valid(
        shapely.transform(shapes.geometry.to_numpy(), lambda points: apply_affine(matrix, points))
    )
    mask = _draw(outlines, levels[0].shape)
    if not mask.any():
        msg = (
            f"None of the {len(outlines)} outlines of shapes[{tissue_key!r}] lies on the image {image_key!r}: check "
            "their transformation, or name others with tissue_key= (None: no outlines)."
        )
        raise ValueError(msg)
    return Tissue(mask, outlines)


def _draw(outlines: npt.NDArray[np.object_], shape: tuple[int, int]) -> Mask:
    """Draw polygons, in pixels of the full resolution, without their holes and with a margin of a pixel of the mask."""
    import shapely
    from PIL import Image, ImageDraw
    from scipy import ndimage

    shrink = max(PIXEL_PX, max(shape) / OVERVIEW_PX)
    height, width = (max(int(np.ceil(side / shrink)), 1) for side in shape)
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    polygons = shapely.get_parts(shapely.get_parts(outlines))
    for polygon in polygons[shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON]:
        corners = shapely.get_coordinates(polygon.exterior) / shrink - 0.5
        draw.polygon(corners.ravel().tolist(), fill=1, outline=1)
    mask: Mask = ndimage.binary_dilation(np.asarray(image, dtype=bool), np.ones((3, 3)))
    return mask
