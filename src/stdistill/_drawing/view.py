"""A part of a slide as it is drawn: its cells in µm, y downwards, over its H&E or not, with a scale bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._support.arrays import Floats
from stdistill._support.checks import check_positive
from stdistill._table.checks import get_centers, get_table, is_spatialdata
from stdistill._table.graph import warn_of_other_unit
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.he.placement_checks import check_placement
from stdistill._table.libraries import warn_of_overlap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

IntArray = npt.NDArray[np.int64]
Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in µm."""

CELL_UM = 10.0
"""Diameter of a cell."""
SMALLEST_DOT = 1 / 400
"""Dots are drawn at least this large, as a share of what is shown, so that none falls between the pixels."""
IMAGE_PX = 1500
"""The H&E is read at the level that has about so many pixels along the longer side of what is shown."""
PAINT_PX = 2000
"""Cells are painted into an image with so many pixels along the longer side of what is shown."""
PAINTED_AT_ONCE = 5_000_000
"""Pixels; bounds the memory of painting."""
SCALE_BAR_SHARE = 1 / 3
"""The scale bar is no longer than this share of the width."""
PANEL_IN = 4.5
"""Longer side of a panel, in inches."""
TITLE_IN = 0.6
"""Room for the title and the scale bar, in inches."""


@dataclass(frozen=True)
class Background:
    """A part of an H&E."""

    pixels: npt.NDArray[np.uint8]
    """(height, width, 3)."""
    to_um: Floats
    """Affine map (3 × 3) of these pixels to µm."""


@dataclass(frozen=True)
class View:
    """What is shown of a slide."""

    bounds: Bounds
    cells: IntArray
    """Rows of the table within the bounds."""
    centers: Floats
    """Their centres (m, 2) in µm."""
    size_um: float
    """Diameter of a dot."""
    alpha: float
    """Opacity of the dots."""
    background: Background | None

    @property
    def panel_size(self) -> tuple[float, float]:
        """Width and height of a panel of this shape, in inches."""
        width, height = self.bounds[2] - self.bounds[0], self.bounds[3] - self.bounds[1]
        scale = PANEL_IN / max(width, height)
        return max(width * scale, PANEL_IN / 3), max(height * scale, PANEL_IN / 3)


def make_view(
    data: AnnData | SpatialData,
    *,
    table_key: str,
    image_key: str | None,
    coordinate_system: str | None = None,
    crop_um: Bounds | None,
    size_um: float | None,
    alpha: float = 1.0,
) -> View:
    """Choose what to show of a slide, from what the user gave."""
    adata = get_table(data, table_key)
    _check_one_slide(adata)
    centers = get_centers(adata)
    warn_of_other_unit(adata)
    warn_of_overlap(adata, centers, "They are drawn over one another: draw a view of one slide at a time.")
    if size_um is not None:
        check_positive(size_um, "size_um")
    check_positive(alpha, "alpha")
    if alpha > 1:
        msg = f"alpha must be at most 1, found {alpha}."
        raise ValueError(msg)
    bounds = _extent(centers, max(CELL_UM, size_um or 0)) if crop_um is None else _check_crop(crop_um)
    cells = np.flatnonzero(((centers >= bounds[:2]) & (centers <= bounds[2:])).all(axis=1))
    if not len(cells):
        x_min, y_min, x_max, y_max = _extent(centers, CELL_UM)
        msg = (
            f"crop_um={crop_um} shows no cell; the cells lie between ({x_min:.0f}, {y_min:.0f}) and "
            f"({x_max:.0f}, {y_max:.0f}) µm. It is (x_min, y_min, x_max, y_max)."
        )
        raise ValueError(msg)
    if size_um is None:
        size_um = max(CELL_UM, SMALLEST_DOT * max(bounds[2] - bounds[0], bounds[3] - bounds[1]))
    background = None if image_key is None else read_background(data, image_key, coordinate_system, table_key, bounds)
    return View(bounds, cells, centers[cells], float(size_um), float(alpha), background)


def draw_view(ax: Axes, view: View, title: str) -> None:
    """Draw what all pictures of a slide have in common: the image, the limits, the scale bar and the title."""
    x_min, y_min, x_max, y_max = view.bounds
    if view.background is not None:
        from matplotlib.transforms import Affine2D

        height, width = view.background.pixels.shape[:2]
        image = ax.imshow(view.background.pixels, extent=(0, width, height, 0), interpolation="bilinear", zorder=-1)
        image.set_transform(Affine2D(view.background.to_um) + ax.transData)
    ax.set(xlim=(x_min, x_max), ylim=(y_max, y_min), title=title, aspect="equal")
    ax.set_axis_off()
    _draw_scale_bar(ax, x_min, x_max - x_min)


def draw_cells(ax: Axes, view: View, colors: Floats, *, layers: npt.NDArray[Any]) -> None:
    """Draw the cells of a view as dots of their true size, painted into an image: a million of them in a second.

    Parameters
    ----------
    ax
        Axes to draw in.
    view
        The cells.
    colors
        (m, 4), between 0 and 1.
    layers
        (m,), cells with a larger value are drawn over those with a smaller one.
    """
    order = np.argsort(layers, kind="stable")
    top = paint(view.centers[order], view.bounds, view.size_um)
    # White where there is none: it is mixed into the edges when the image is scaled.
    table = np.vstack([colors[order], (1.0, 1.0, 1.0, 0.0)])
    pixels = np.round(255 * table).astype(np.uint8)[top]
    x_min, y_min, x_max, y_max = view.bounds
    ax.imshow(pixels, extent=(x_min, x_max, y_max, y_min), alpha=view.alpha)


def paint(centers: Floats, bounds: Bounds, size_um: float) -> IntArray:
    """Paint discs, later ones over earlier ones, and return which is on top in each pixel, -1 where there is none."""
    x_min, y_min, x_max, y_max = bounds
    scale = PAINT_PX / max(x_max - x_min, y_max - y_min)
    width, height = max(1, round((x_max - x_min) * scale)), max(1, round((y_max - y_min) * scale))
    radius = size_um * scale / 2
    reach = min(int(radius), max(width, height))  # of a dot larger than the picture no more is painted
    canvas = np.full((height + 2 * reach + 1, width + 2 * reach + 1), -1, dtype=np.int64)
    columns, rows = ((centers - (x_min, y_min)) * scale).astype(np.int64).T
    for cells in np.array_split(np.arange(len(centers)), len(centers) * (2 * reach + 1) // PAINTED_AT_ONCE + 1):
        for dy in range(-reach, reach + 1):
            half = min(int(np.sqrt(radius**2 - dy**2)), reach)
            across = np.arange(-half, half + 1)
            place = (rows[cells, None] + reach + dy, columns[cells, None] + reach + across)
            # Of repeated places the last counts, and numbers rise: so the largest is left.
            canvas[place] = np.maximum(canvas[place], cells[:, None])
    return canvas[reach : reach + height, reach : reach + width]


def read_background(
    data: AnnData | SpatialData, image_key: str, coordinate_system: str | None, table_key: str, bounds: Bounds
) -> Background:
    """Read the part of an H&E within the bounds, from the pyramid level that suits a panel."""
    from stdistill._slide.pyramid import level_for
    from stdistill._table.he.images import slide_levels

    if not is_spatialdata(data):
        msg = f"image_key={image_key!r} needs a SpatialData with that image; an AnnData holds none."
        raise TypeError(msg)
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(data, frames, table_key)
    (frame,) = frames
    low, high = _window(frame, bounds)
    levels = slide_levels(data.images[frame.image_key], frame.image_key)
    shrinkage = (high - low).max() / IMAGE_PX
    level = level_for(levels, shrinkage)
    first = np.floor(low / level.factor).astype(np.int64)
    last = np.ceil(high / level.factor).astype(np.int64)
    step = max(1, int(shrinkage / level.factor.max()))  # an image without small levels is thinned out
    pixels = level.pixels[:, first[1] : last[1] : step, first[0] : last[0] : step].compute()
    to_full = np.diag([*(level.factor * step), 1.0])
    to_full[:2, 2] = first * level.factor
    return Background(np.moveaxis(pixels, 0, -1), np.linalg.inv(frame.um_to_px) @ to_full)


def _window(frame: HEFrame, bounds: Bounds) -> tuple[Floats, Floats]:
    """Return the upper left and lower right pixel (x, y) of what shows the bounds, whichever way the image lies."""
    x_min, y_min, x_max, y_max = bounds
    corners = frame.to_px(np.array([(x_min, y_min), (x_max, y_min), (x_min, y_max), (x_max, y_max)]))
    height, width = frame.shape
    low, high = (np.clip(edge, 0, (width, height)) for edge in (corners.min(axis=0), corners.max(axis=0)))
    if (high - low).min() < 1:
        msg = f"What is shown, {bounds} in µm, lies off the image {frame.image_key!r}."
        raise ValueError(msg)
    return low, high


def _extent(centers: Floats, size_um: float) -> Bounds:
    (x_min, y_min), (x_max, y_max) = centers.min(axis=0), centers.max(axis=0)
    pad = size_um / 2  # dots at the edge are whole, and a single cell has an extent as well
    return float(x_min - pad), float(y_min - pad), float(x_max + pad), float(y_max + pad)


def _check_crop(crop_um: Bounds) -> Bounds:
    try:
        bounds = tuple(float(value) for value in crop_um)
    except (TypeError, ValueError):
        bounds = ()
    if len(bounds) != 4 or not np.isfinite(bounds).all() or bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        msg = f"crop_um must be (x_min, y_min, x_max, y_max) in µm, found {crop_um!r}."
        raise ValueError(msg)
    return bounds


def _check_one_slide(adata: AnnData) -> None:
    region_key = adata.uns.get("spatialdata_attrs", {}).get("region_key")
    regions = adata.obs[region_key].dropna().unique().tolist() if region_key in adata.obs else []
    if len(regions) > 1:
        msg = (
            f"The table annotates {len(regions)} regions, which would be drawn over one another: {regions}. Draw one "
            f"at a time, for example adata[adata.obs[{region_key!r}] == {regions[0]!r}]."
        )
        raise ValueError(msg)


def _draw_scale_bar(ax: Axes, x_min: float, width: float) -> None:
    """Draw it under the picture, where it hides no cell."""
    length = scale_bar_um(width)
    under = ax.get_xaxis_transform()  # x in µm, y as a share of the axes
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    ax.plot(
        [x_min, x_min + length],
        [-0.02, -0.02],
        color="black",
        lw=2,
        transform=under,
        clip_on=False,
        solid_capstyle="butt",
    )
    ax.annotate(
        label, (x_min, -0.02), xycoords=under, xytext=(0, -3), textcoords="offset points", va="top", fontsize="small"
    )


def scale_bar_um(width: float) -> float:
    """Return the longest of 1, 2 and 5 times a power of ten that is no more than a third of the width."""
    longest = width * SCALE_BAR_SHARE
    power = 10.0 ** np.floor(np.log10(longest))
    # The half is for a logarithm that was rounded up to the next power.
    return float(max(step * power for step in (0.5, 1, 2, 5) if step * power <= longest))
