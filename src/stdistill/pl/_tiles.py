"""Tiles over the H&E, and one of them with its places and cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._drawing.colors import MISSING, SPLIT_COLORS, Palette, category_colors, find_colormap
from stdistill._drawing.legend import draw_legend, legend_width
from stdistill._drawing.view import TITLE_IN, Bounds, View, draw_view, make_view
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_centers, holds_numbers, is_spatialdata
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.labels import read_labels
from stdistill._table.records import read_record
from stdistill._table.tiles import STEP, get_tiles, squares_key, tiles_of_cells
from stdistill.get import he_crops

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

    from stdistill._support.arrays import Floats, Integers

COLORBAR_IN = 1.1
"""Room for the colour bar beside the map, in inches."""
PLAIN = "#3f90da"
"""Of tiles that are not coloured by anything."""
FILL = 0.35
"""Opacity of tiles, under which the tissue is seen."""
FILL_OF_NUMBERS = 0.6
"""The same of tiles whose colours are to be compared with a scale."""
CELL_UM = 4.0
"""Diameter of a cell's dot in the enlarged tile: less than that of most nuclei, which are seen around it."""
QUARTERS = ("Blues", "Oranges", "Greens", "Purples")
"""Colour maps of the four quarters of a tile, whose shades tell the places in each apart."""
SHADES = (0.35, 0.55, 0.75, 0.95)


def tiles(
    data: SpatialData,
    *,
    color: str | None = None,
    tile: str | None = None,
    crop_um: Bounds | None = None,
    palette: Palette | None = None,
    cmap: str = "viridis",
    title: str | Sequence[str] | None = None,
    ax: Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    tiles_key: str = schema.TILES,
) -> AxesOrList | None:
    """Draw the tiles over the H&E, and one of them with its places and its cells.

    Parameters
    ----------
    data
        SpatialData with an H&E and tiles, as :func:`stdistill.pp.tiles` lays them.
    color
        Column of ``.obs`` of the tiles, of categories or of numbers, to colour them by. By default the split, where
        there is one, else all are alike.
    tile
        Name of the tile that is enlarged, as in the index of the table of tiles; by default one with the most cells.
    crop_um
        Part of the slide to draw, (x_min, y_min, x_max, y_max) in µm.
    palette
        Colours of the categories, in their order or by name.
    cmap
        Colour map of numbers.
    title
        Titles of the two panels.
    ax
        Two axes to draw in, instead of a new figure.
    save, show
        As of :func:`stdistill.pl.niches`.
    tiles_key
        Name of the table of tiles.

    Returns
    -------
    `None` when the figure was shown; else the two axes.

    Raises
    ------
    KeyError
        When there are no tiles of this name, or no such column, tile, image or colour map.
    TypeError
        When `data` is an AnnData, or the column holds neither categories nor numbers.
    ValueError
        When the table is not one of tiles, the column is missing for all of them, `crop_um` shows none, or there are
        not two axes and titles.

    Notes
    -----
    On the slide axes are µm; the tile is drawn as the H&E shows it, at full resolution. Thick lines part its 2 × 2
    places, thin ones its 4 × 4, which are numbered. A cell has the colour of its place: quarters have colours, and the
    places in them shades. The picture is our choice.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> sd.pp.tiles(sdata, tile_px=128)
    >>> slide, one_tile = sd.pl.tiles(sdata, save="tiles.png")
    >>> one_tile.get_title().split(":")[0] in sdata["tiles"].obs_names
    True
    """
    from matplotlib.collections import PolyCollection

    table = get_tiles(data, tiles_key)
    if not is_spatialdata(data):
        msg = "Tiles are drawn over the H&E of a SpatialData; an AnnData holds none."
        raise TypeError(msg)
    if color is None and schema.SPLIT in table.obs:
        color = schema.SPLIT
    row = int(table.obs["n_cells"].argmax()) if tile is None else int(find_rows(table, [tile])[0])
    record = read_record(table, STEP)
    view = _view(data, table, str(record["image_key"]), float(record["tile_um"]), tiles_key, crop_um)
    faces, entries, scale = _colors(table, color, palette, cmap)
    name = str(table.obs_names[row])
    of_cells = f": {table.obs['n_cells'].iloc[row]} cells" if "table_key" in record else ""
    titles = make_titles(title, [color or f"{table.n_obs} tiles", f"{name}{of_cells}"])
    width, height = view.panel_size
    room = COLORBAR_IN if scale is not None else legend_width([text for text, _ in entries] or [""])
    axes = make_axes(2, ax=ax, panel_size=(max(width, height) + room, max(width, height) + TITLE_IN))

    squares = _corners(data, table, tiles_key)
    edges = np.where(np.arange(len(squares))[:, None] == row, (0, 0, 0, 1), faces)
    order = np.argsort(np.arange(len(squares)) == row, kind="stable")  # the one that is enlarged over its neighbours
    axes[0].add_collection(
        PolyCollection(
            list(squares[order]),
            facecolors=faces[order] * (1, 1, 1, FILL if scale is None else FILL_OF_NUMBERS),
            edgecolors=edges[order],
            linewidths=np.where(order == row, 2, 0.6),
            rasterized=True,
        )
    )
    draw_view(axes[0], view, titles[0])
    if scale is not None:
        axes[0].figure.colorbar(scale, ax=axes[0], shrink=0.6, label=color, alpha=FILL_OF_NUMBERS)
    elif entries:
        _draw_entries(axes[0], entries)
    _draw_tile(axes[1], data, table, row, record, tiles_key)
    axes[1].set_title(titles[1])
    return finish(axes, ax=ax, save=save, show=show)


def _view(
    sdata: SpatialData, table: AnnData, image_key: str, tile_um: float, tiles_key: str, crop_um: Bounds | None
) -> View:
    """Choose what is shown of the slide: all tiles are whole, however they are turned."""
    if crop_um is None:
        centers, reach = get_centers(table), tile_um * np.sqrt(0.5)
        (x_min, y_min), (x_max, y_max) = centers.min(axis=0) - reach, centers.max(axis=0) + reach
        crop_um = (float(x_min), float(y_min), float(x_max), float(y_max))
    return make_view(sdata, table_key=tiles_key, image_key=image_key, crop_um=crop_um, size_um=tile_um)


def _corners(sdata: SpatialData, table: AnnData, tiles_key: str) -> Floats:
    """Return the corners (m, 4, 2) of the tiles in µm."""
    import shapely

    squares = sdata.shapes[squares_key(tiles_key)].geometry.loc[table.obs[schema.INSTANCE]].to_numpy()
    corners: Floats = shapely.get_coordinates(squares).reshape(len(squares), -1, 2)[:, :4]
    return corners


def _colors(
    table: AnnData, color: str | None, palette: Palette | None, cmap: str
) -> tuple[Floats, list[tuple[str, str]], Any]:
    """Return the colours (m, 4) of the tiles, the entries of a legend, and the scale of numbers, if it is one."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgba_array

    if color is None:
        return to_rgba_array([PLAIN] * table.n_obs), [], None
    check_key(color, table.obs.columns, "a column of .obs of the tiles", argument="color")
    column = table.obs[color]
    if holds_numbers(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isnan(values).all():
            msg = f".obs[{color!r}] is missing for all of the {table.n_obs} tiles."
            raise ValueError(msg)
        scale = ScalarMappable(Normalize(np.nanmin(values), np.nanmax(values)), find_colormap(cmap))
        return scale.to_rgba(values), [], scale
    labels = read_labels(table, color, "color", hint=None)
    colors = category_colors(table, color, labels.names, palette, SPLIT_COLORS)
    sizes = np.bincount(labels.codes[labels.known], minlength=len(labels.names))
    entries = [(f"{name} ({n:,})", one) for name, n, one in zip(labels.names, sizes, colors, strict=True) if n]
    if not labels.known.all():
        entries.append((f"missing ({(~labels.known).sum():,})", MISSING))
    return to_rgba_array([*colors, MISSING])[labels.codes], entries, None


def _draw_entries(ax: Axes, entries: list[tuple[str, str]]) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    draw_legend(ax, [Patch(facecolor=to_rgba(one, FILL), edgecolor=one, label=text) for text, one in entries])


def _draw_tile(ax: Axes, sdata: SpatialData, table: AnnData, row: int, record: dict[str, Any], tiles_key: str) -> None:
    """Draw a tile as the H&E shows it, with its places and the cells in it."""
    from matplotlib.collections import EllipseCollection
    from matplotlib.patheffects import withStroke

    (frame,) = he_frames(sdata, image_key=str(record["image_key"]), table_key=tiles_key)
    side_um = float(record["tile_um"])
    side = round(side_um / frame.mpp)
    (picture,) = he_crops(
        sdata,
        cells=[str(table.obs_names[row])],
        crop_px=side,
        mpp=frame.mpp,
        image_key=frame.image_key,
        table_key=tiles_key,
    )
    ax.imshow(picture, extent=(0, side_um, side_um, 0), interpolation="bilinear")
    n = max(schema.SCALES.values())
    for line in range(1, n):
        is_thick = line * schema.SCALES["meso"] % n == 0
        for draw in (ax.axvline, ax.axhline):
            draw(line * side_um / n, color="black", lw=2.2 if is_thick else 0.7, zorder=2)
    for place in range(n * n):
        x, y = place % n * side_um / n, place // n * side_um / n
        label = ax.annotate(
            str(place), (x, y), xytext=(3, -3), textcoords="offset points", va="top", fontsize="x-small", zorder=4
        )
        label.set_path_effects([withStroke(linewidth=2, foreground="white")])
    if "table_key" in record and record["table_key"] in sdata.tables:
        offsets, places = _cells_in(sdata.tables[record["table_key"]], table, row, frame, side, tiles_key)
        size = np.full(len(places), CELL_UM)
        dots = EllipseCollection(
            size,
            size,
            np.zeros(len(places)),
            units="xy",
            offsets=offsets * frame.mpp,
            offset_transform=ax.transData,
            facecolors=place_colors()[places],
            edgecolors="white",
            linewidths=0.8,
            zorder=3,
        )
        ax.add_collection(dots)
    ax.set(xlim=(0, side_um), ylim=(side_um, 0), aspect="equal", xticks=[], yticks=[])
    ax.set_xlabel(f"side {side_um:.0f} µm", fontsize="small")


def _cells_in(
    cells: AnnData, table: AnnData, row: int, frame: HEFrame, side: int, tiles_key: str
) -> tuple[Floats, Integers]:
    """Return where the cells of a tile lie (k, 2) in pixels from its upper left, and their places."""
    where = tiles_of_cells(cells, table, tiles_key)
    mine = np.flatnonzero(where.tile == row)
    corner = np.round(frame.to_px(get_centers(table)[[row]]) - side / 2)
    return frame.to_px(get_centers(cells)[mine]) - corner, where.place[mine].astype(np.int64)


def place_colors() -> Floats:
    """Return the colours (16, 4) of the smallest places of a tile: those of one quarter are shades of one."""
    import matplotlib as mpl

    n = max(schema.SCALES.values())
    row, column = np.divmod(np.arange(n * n), n)
    quarters, shades = row // 2 * 2 + column // 2, row % 2 * 2 + column % 2
    pairs = zip(quarters, shades, strict=True)
    return np.array([mpl.colormaps[QUARTERS[quarter]](SHADES[shade]) for quarter, shade in pairs])
