"""Recall curves, and the tiles that were found best and worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from stdistill._drawing.axes import AxesOrList, finish, make_axes, make_titles
from stdistill._measures.alignment.recall import first_places, nearest, unit_rows
from stdistill._support.arrays import Floats, Integers, Rows
from stdistill._support.checks import check_choice, check_integer, check_key
from stdistill._table import schema
from stdistill._table.checks import as_slides, get_sdata
from stdistill._table.fitting.aligned import (
    SIDES,
    Side,
    aligned_mark,
    check_one_alignment,
    rank_column,
    read_aligned,
)
from stdistill._table.records import read_record
from stdistill._table.tiles import get_tiles
from stdistill.get import he_crops

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

Direction = Literal["he_to_expression", "expression_to_he"]
NAMES = {"he": "H&E", "expression": "expression"}
COLORS = ("#0072b2", "#d55e00")
"""Of the curves; told apart by the colour-blind (Okabe and Ito 2008)."""
PARTNER_COLOR = "#009e73"
TILE_IN = 0.8
"""Side of a tile, in inches."""
TILE_PX = 128
GAP_PX = 8
MARKED = (5, 10, 15)
"""Percentages with a dot, which papers report."""


class _Pool(NamedTuple):
    """Tiles that were tested, of all slides, one after the other."""

    slide: Integers
    """(n,) which slide each is of."""
    row: Rows
    """(n,) its row in the table of that slide."""
    rank: Integers
    """(2, n) that of its partner, in both directions."""
    size: Integers
    """(n,) tiles among which it was."""
    sides: tuple[Floats, Floats]
    """(n, d) of H&E and of expression."""
    is_one: bool
    """Whether partners were looked for on all slides."""

    def others(self, number: int) -> Rows:
        """Return the tiles among which the partner of one was looked for."""
        return np.flatnonzero(np.full(len(self.slide), True) if self.is_one else self.slide == self.slide[number])


def retrieval(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    key: str = schema.ALIGNED,
    direction: Direction = "he_to_expression",
    n_queries: int = 3,
    n_found: int = 5,
    title: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    tiles_key: str = schema.TILES,
) -> AxesOrList | None:
    """Draw how far one must look for the partner of a tile, and the H&E of what is found for the best and the worst.

    Parameters
    ----------
    data
        SpatialData with tiles that :func:`stdistill.tl.retrieval` ranked, or a list of them, as it was given.
    key
        As of :func:`stdistill.tl.retrieval`.
    direction
        Of the queries that are shown: ``"he_to_expression"`` or ``"expression_to_he"``. Curves are of both.
    n_queries
        How many of the best and of the worst are shown; 0: curves alone, which a table of tiles is enough for.
    n_found
        Tiles that are shown for each, the most similar first.
    title, ax, save, show
        As of :func:`stdistill.pl.niches`; there are three panels, one without queries.
    tiles_key
        Name of the table of tiles.

    Returns
    -------
    `None` when the figure was shown; else the axes, or a list of them.

    Raises
    ------
    KeyError
        When tiles, embeddings or ranks are not there.
    TypeError
        When queries are to be shown of a table, which holds no image.
    ValueError
        When embeddings were written anew since the ranks, there are no ranks, or an argument is out of range.

    Notes
    -----
    A curve goes through (k / n, recall of k places), with dots at 5, 10 and 15 %; that of ranks at random is the
    diagonal. Each row shows the H&E of a query's own tile, whichever side asks, and the H&E of the tiles whose other
    side was found; the true partner has a frame. Of queries with the same rank, the best are those that are most
    similar to their partner, the worst those that are least. Our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> tiles = ad.AnnData(np.zeros((200, 1)), uns={"stdistill": {"tiles": {"n_tiles": 200}}})
    >>> tiles.obsm["X_aligned_he"] = rng.normal(size=(200, 8))
    >>> tiles.obsm["X_aligned_expression"] = tiles.obsm["X_aligned_he"] + rng.normal(size=(200, 8))
    >>> recall = sd.tl.retrieval(tiles)
    >>> ax = sd.pl.retrieval(tiles, n_queries=0, save="retrieval.png")
    """
    check_integer(n_queries, "n_queries", minimum=0)
    check_integer(n_found, "n_found", minimum=1)
    check_choice(direction, "direction", get_args(Direction))
    slides = as_slides(data)
    tables = [get_tiles(slide, tiles_key) for slide in slides]
    pool = _read(tables, key)
    asking = get_args(Direction).index(direction)
    words = _arrow(SIDES[asking])
    panels = ["", *(f"{which}: {words}" for which in ("Best", "Worst") if n_queries)]
    titles = make_titles(title, panels)
    chosen = _choose(pool, asking, n_queries) if n_queries else []
    found = [[_find(pool, number, asking, n_found) for number in some] for some in chosen]
    pictures = _read_pictures(slides, tables, pool, chosen, found, tiles_key) if n_queries else {}

    size = (TILE_IN * (n_found + 1) + 1, max(3.2, TILE_IN * n_queries + 0.5)) if n_queries else (3.6, 3.2)
    axes = make_axes(len(panels), ax=ax, panel_size=size)
    _draw_curves(axes[0], pool)
    for panel, queries, answers in zip(axes[1:], chosen, found, strict=True):
        labels = [_label(tables, pool, number, asking) for number in queries]
        _draw_sheet(panel, queries, answers, pictures, labels, n_found)
    for panel, text in zip(axes, titles, strict=True):
        panel.set_title(text)
    return finish(axes, ax=ax, save=save, show=show)


def _read(tables: Sequence[AnnData], key: str) -> _Pool:
    """Gather what was ranked."""
    check_one_alignment(tables, key)
    hint = "Run sd.tl.retrieval, which ranks tiles."
    columns = [rank_column(key, side) for side in SIDES]
    for table in tables:
        for column in columns:
            check_key(column, table.obs.columns, "a column of ranks in .obs", argument="key", hint=hint)
        if read_record(table, "retrieval", key).get("embeddings") != aligned_mark(table, key):
            msg = f"The ranks {key!r} are of other embeddings or other tiles than there are now. {hint}"
            raise ValueError(msg)
    shares = [table.obs[columns].to_numpy(dtype=np.float64) for table in tables]
    rows = [np.flatnonzero(np.isfinite(each).all(axis=1)) for each in shares]
    if not sum(map(len, rows)):
        msg = f"No tile has a rank {key!r}: none was tested. {hint}"
        raise ValueError(msg)
    slide = np.repeat(np.arange(len(tables)), [len(some) for some in rows])
    is_one = read_record(tables[0], "retrieval", key).get("pool") == "all"
    size = np.full(len(slide), len(slide)) if is_one else np.bincount(slide)[slide]
    share = np.concatenate([each[some] for each, some in zip(shares, rows, strict=True)]).T
    he, expression = (
        unit_rows(
            np.concatenate([read_aligned(table, key, side)[some] for table, some in zip(tables, rows, strict=True)])
        )
        for side in SIDES
    )
    return _Pool(
        slide=slide,
        row=np.concatenate(rows),
        rank=np.rint(share * size).astype(np.int64),  # which float32 has rounded
        size=size,
        sides=(he, expression),
        is_one=is_one,
    )


def _choose(pool: _Pool, asking: int, n: int) -> list[list[int]]:
    """Return the queries whose partner is nearest to the first place, and those whose partner is farthest."""
    similar = np.einsum("ij,ij->i", *pool.sides)
    order = np.lexsort([-similar, pool.rank[asking] / pool.size])
    return [order[:n].tolist(), order[::-1][:n].tolist()]


def _find(pool: _Pool, number: int, asking: int, n: int) -> list[int]:
    """Return the tiles that one query finds, the most similar first."""
    others = pool.others(number)
    places, _ = nearest(pool.sides[asking][number], pool.sides[1 - asking][others], n)
    found: list[int] = others[places].tolist()
    return found


def _read_pictures(
    slides: Sequence[AnnData | SpatialData],
    tables: Sequence[AnnData],
    pool: _Pool,
    chosen: list[list[int]],
    found: list[list[list[int]]],
    tiles_key: str,
) -> dict[int, npt.NDArray[np.uint8]]:
    """Read the H&E of all tiles that are shown, each once."""
    shown = np.unique([*np.concatenate(chosen), *np.concatenate([each for some in found for each in some])])
    pictures: dict[int, npt.NDArray[np.uint8]] = {}
    for number, (slide, table) in enumerate(zip(slides, tables, strict=True)):
        some = shown[pool.slide[shown] == number]
        sdata = get_sdata(slide, tiles_key)
        if not len(some):
            continue
        laid = read_record(table, "tiles")
        crops = he_crops(
            sdata,
            cells=table.obs_names[pool.row[some]].tolist(),
            crop_px=TILE_PX,
            mpp=float(laid["tile_px"]) * float(laid["mpp"]) / TILE_PX,
            image_key=laid["image_key"],
            table_key=tiles_key,
        )
        pictures |= dict(zip(some.tolist(), crops, strict=True))
    return pictures


def _draw_curves(ax: Axes, pool: _Pool) -> None:
    """Draw the recall of all numbers of places, and that of chance."""
    n = len(pool.size)
    ax.plot([0, 100], [0, 1], color="0.6", linestyle="--", linewidth=1, label="chance")
    places = np.array([[first_places(p, size) for size in pool.size.tolist()] for p in MARKED])
    for side, ranks, color in zip(SIDES, pool.rank, COLORS, strict=True):
        x = 100 * np.concatenate([[0], np.sort(ranks / pool.size), [1]])
        y = np.concatenate([[0], np.arange(1, n + 1) / n, [1]])
        ax.plot(x, y, drawstyle="steps-post", color=color, label=_arrow(side), linewidth=1.5)
        dots = 100 * (places / pool.size).mean(axis=1), (ranks <= places).mean(axis=1)
        ax.plot(*dots, "o", color=color, markersize=4)
    ax.set(xlim=(0, 100), ylim=(0, 1.01), xlabel="first places of the pool, %", ylabel=f"recall ({n} tiles)")
    ax.set_box_aspect(1)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right", frameon=False, fontsize="small")


def _arrow(asking: Side) -> str:
    """Name a direction by the side that asks."""
    other = SIDES[1 - SIDES.index(asking)]
    return f"{NAMES[asking]} → {NAMES[other]}"


def _label(tables: Sequence[AnnData], pool: _Pool, number: int, asking: int) -> str:
    """Name a query, its slide where there are several, and its rank."""
    slide = int(pool.slide[number])
    name = str(tables[slide].obs_names[pool.row[number]])
    where = f" (slide {slide})" if len(tables) > 1 else ""
    return f"{name}{where}\nrank {pool.rank[asking, number]} of {pool.size[number]}"


def _draw_sheet(
    ax: Axes,
    queries: list[int],
    answers: list[list[int]],
    pictures: dict[int, npt.NDArray[np.uint8]],
    labels: list[str],
    n_found: int,
) -> None:
    """Draw a row for each query: its own tile, and those that were found, the true partner in a frame."""
    from matplotlib.patches import Rectangle

    step = TILE_PX + GAP_PX
    lefts = np.arange(n_found + 1) * step + np.where(np.arange(n_found + 1) > 0, 3 * GAP_PX, 0)
    sheet = np.full((len(queries) * step - GAP_PX, lefts[-1] + TILE_PX, 3), 255, dtype=np.uint8)
    for row, (query, found) in enumerate(zip(queries, answers, strict=True)):
        for left, tile in zip(lefts, [query, *found], strict=False):
            sheet[row * step : row * step + TILE_PX, left : left + TILE_PX] = pictures[tile]
            if tile == query and left:
                corner = (left - 0.5, row * step - 0.5)
                frame = Rectangle(corner, TILE_PX, TILE_PX, fill=False, edgecolor=PARTNER_COLOR, linewidth=2.5)
                frame.set_clip_on(False)
                ax.add_patch(frame)
    ax.imshow(sheet, interpolation="antialiased")
    middle = (TILE_PX - 1) / 2
    ax.set_yticks(np.arange(len(queries)) * step + middle, labels)
    ax.set_xticks(lefts + middle, ["query", *map(str, range(1, n_found + 1))])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
