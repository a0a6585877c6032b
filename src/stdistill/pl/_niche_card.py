"""One niche on one page: where it is, what it is made of, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._drawing.axes import AxesOrList, finish
from stdistill._drawing.colors import MISSING, Palette, category_colors
from stdistill._drawing.explained import warn_of_other_niches
from stdistill._drawing.profile import draw_cell_types, draw_markers, draw_morphology, draw_neighbors
from stdistill._drawing.view import draw_cells, draw_view, make_view, scale_bar_um
from stdistill._measures.labels import Labels
from stdistill._measures.profiles.profile import NicheProfile
from stdistill._support.checks import check_integer, check_key, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_table, is_spatialdata
from stdistill._table.graph import graph_radius, has_graph
from stdistill._table.labels import NICHE_SUFFIX, read_labels
from stdistill.get import he_crops, he_pixels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

    from stdistill.models.explanation.result import Explanation

WIDTH_IN = 8.3
"""Of a page."""
HEADER_IN, MAP_IN, PANELS_IN, CROPS_IN, FOOTER_IN = 0.6, 3.6, 2.7, 1.7, 0.4
"""Heights of the parts of a page."""
CROP_PX = 224
CROP_UM = 100.0
"""Side of crops where there are no neighbourhoods to show."""
MARKED = 5
"""Neighbours of each crop that are marked."""
MARK_UM = 9.0
"""Diameter of a mark."""


def niche_card(
    data: AnnData | SpatialData,
    niche: str,
    *,
    niche_key: str | None = None,
    profile: NicheProfile | None = None,
    explanation: Explanation | None = None,
    n_crops: int = 6,
    crop_um: float | None = None,
    seed: int = 0,
    palette: Palette | None = None,
    title: str | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
    image_key: str = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> AxesOrList | None:
    """Draw the page of one niche: its map and size, and what its profile says, with crops of its cells.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with cell centres in µm in ``.obsm["spatial"]`` and niches. One slide: of
        several, draw a view of each. Crops need a SpatialData with an H&E.
    niche
        Name of the niche.
    niche_key
        Categorical column of ``.obs`` with the niches. By default that of the profile, else ``student_niche`` or
        ``teacher_niche``, where there is one.
    profile
        What :func:`stdistill.tl.niche_profile` returned. Without one the page has the map and crops of cells at random.
    explanation
        What :func:`stdistill.tl.explain` returned for some cells of the niche: the crops are of these, and the five
        neighbours that speak most for the niche are marked, the stronger the more.
    n_crops
        Crops in the row.
    crop_um
        Their side in µm. By default twice the radius of the neighbourhoods, all that a model sees, else 100.
    seed
        Of the choice of cells, without a profile.
    palette
        Colours in the order of the niches, or by name, for this figure. By default those in ``.uns["{key}_colors"]``.
    title
        Title, instead of the name of the niche and the one that the profile suggests.
    image_key
        Name of the H&E. Where there is none, there are no crops.
    save, show, coordinate_system, table_key
        As of :func:`stdistill.pl.niches`.

    Returns
    -------
    `None` when the figure was shown; else the axes of its panels. What is known of nothing is left out, and the foot of
    the page says so.

    Raises
    ------
    KeyError
        When the table, the column or the niche is not there, or `profile` lacks the niche.
    TypeError
        When the column is not categorical, or `profile` is no profile.
    ValueError
        When there are no niches to draw, the table annotates several slides, or no explained cell is in the niche.

    Warns
    -----
    UserWarning
        When the profile is of the niches as they were before, or the explanation of another model than the niches or of
        niches by other names, as before ``sd.tl.match_niches`` with ``rename=True``.

    Notes
    -----
    Our choice. What each number means, and how it can mislead, is on the page *Niche profiles* of the documentation.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=400))
    >>> profile = sd.tl.niche_profile(sdata, niche_key="cell_type")
    >>> axes = sd.pl.niche_card(sdata, "Fibroblast", profile=profile, save="fibroblast.png")
    """
    check_integer(n_crops, "n_crops", minimum=1)
    if crop_um is not None:
        check_positive(crop_um, "crop_um")
    table = get_table(data, table_key)
    key = _find_key(table, niche_key, profile)
    labels = read_labels(table, key, "niche_key")
    check_key(niche, labels.names, f"a category of .obs[{key!r}]", argument="niche")
    of_it = None if profile is None else profile[niche]
    colors = dict(zip(labels.names, category_colors(table, key, labels.names, palette, {}), strict=True))
    members = labels.codes == labels.names.index(niche)
    if of_it is not None and (n_described := int(of_it.summary["n_cells"].iloc[0])) != members.sum():
        warn(
            f"The profile is of {n_described} cells of niche {niche!r}, and .obs[{key!r}] has {members.sum()}: the "
            "niches were written again since, or the table is a part of what was described. Run sd.tl.niche_profile "
            "again."
        )
    if explanation is not None:
        warn_of_other_niches(table, explanation, table.obs_names[members], key)
    shown: dict[str, pd.DataFrame] = {}
    if of_it is not None:
        parts = ("cell_types", "markers", "morphology", "neighbors")
        shown = {part: frame for part in parts if len(frame := getattr(of_it, part))}
    sees_he = is_spatialdata(data) and image_key in data.images
    place: dict[str, Any] = {"image_key": image_key, "coordinate_system": coordinate_system, "table_key": table_key}
    cells: list[str] = []
    if sees_he:
        on_image = he_pixels(data, **place)["on_image"].to_numpy()
        cells = _choose_cells(table, members & on_image, of_it, explanation, n_crops, seed)

    figure, axes = _lay_out(list(shown), len(cells))
    view = make_view(data, table_key=table_key, image_key=None, crop_um=None, size_um=None)
    _draw_map(axes["map"], view, members, colors[niche])
    draw = {"cell_types": draw_cell_types, "markers": draw_markers, "morphology": draw_morphology}
    for part, frame in shown.items():
        if part == "neighbors":
            draw_neighbors(axes[part], frame, colors)
        else:
            draw[part](axes[part], frame, colors[niche])
    if cells:
        side_um = crop_um or (2 * graph_radius(table) if has_graph(table) else CROP_UM)
        panels = [axes[f"crop {number}"] for number in range(len(cells))]
        _draw_crops(panels, data, table, cells, side_um, explanation, place)
    _write_header(figure, _title(niche, of_it) if title is None else title, _facts(labels, members, of_it))
    _write_footer(figure, of_it, list(shown), cells, explanation)
    return finish(list(axes.values()), ax=None, save=save, show=show)


def _find_key(table: AnnData, niche_key: str | None, profile: NicheProfile | None) -> str:
    if profile is not None and not isinstance(profile, NicheProfile):
        msg = f"profile must be what sd.tl.niche_profile returns, found {type(profile).__name__}."
        raise TypeError(msg)
    if profile is not None and niche_key not in (None, profile.niche_key):
        msg = f"niche_key={niche_key!r}, but the profile is of {profile.niche_key!r}: leave niche_key= out."
        raise ValueError(msg)
    usual = [f"{prefix}{NICHE_SUFFIX}" for prefix in (schema.STUDENT, schema.TEACHER)]
    found = niche_key or (profile.niche_key if profile else next((key for key in usual if key in table.obs), None))
    if found is None:
        msg = f"There is neither {usual[0]!r} nor {usual[1]!r} in .obs: name a column of niches with niche_key=."
        raise KeyError(msg)
    return found


def _choose_cells(
    table: AnnData,
    members: npt.NDArray[np.bool_],
    profile: NicheProfile | None,
    explanation: Explanation | None,
    n_crops: int,
    seed: int,
) -> list[str]:
    """Name the cells to show: those that are explained, else the typical ones, else some at random."""
    names = table.obs_names[members]
    if explanation is not None:
        chosen = explanation.neighbors["cell"].astype(str).unique()
        found = [cell for cell in chosen if cell in names]
        if not found:
            msg = f"None of the {len(chosen)} cells that are explained is in the niche and on the H&E."
            raise ValueError(msg)
        return found[:n_crops]
    if profile is not None and len(profile.cells):
        typical = profile.cells.loc[profile.cells["kind"] == "typical", "cell"].astype(str)
        return [cell for cell in typical if cell in names][:n_crops]
    rng = np.random.default_rng(seed)
    return list(map(str, rng.choice(names.to_numpy(), min(n_crops, len(names)), replace=False)))


def _lay_out(parts: Sequence[str], n_crops: int) -> tuple[Figure, dict[str, Axes]]:
    """Make the page: the map with the first panel beside it, the other panels in a row, the crops in another."""
    import matplotlib.pyplot as plt

    heights = [MAP_IN, *([PANELS_IN] if len(parts) > 1 else []), *([CROPS_IN] if n_crops else [])]
    total = HEADER_IN + sum(heights) + FOOTER_IN
    figure = plt.figure(figsize=(WIDTH_IN, total), layout="constrained", dpi=100)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, FOOTER_IN / total, 1, 1 - (HEADER_IN + FOOTER_IN) / total))
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    top = np.atleast_1d(rows[0].subplots(1, 2 if parts else 1, width_ratios=[1.25, 1] if parts else None))
    axes = {"map": top[0], **({parts[0]: top[1]} if parts else {})}
    if len(parts) > 1:
        panels = rows[1].subplots(1, max(2, len(parts) - 1))  # one alone would be as wide as the page
        axes |= dict(zip(parts[1:], panels, strict=False))
        for empty in panels[len(parts) - 1 :]:
            empty.remove()
    if n_crops:
        crops = np.atleast_1d(rows[-1].subplots(1, n_crops))
        axes |= {f"crop {number}": ax for number, ax in enumerate(crops)}
    return figure, axes


def _draw_map(ax: Axes, view: Any, members: npt.NDArray[np.bool_], color: str) -> None:
    from matplotlib.colors import to_rgba_array

    inside = members[view.cells]
    draw_cells(ax, view, to_rgba_array([MISSING, color])[inside.astype(int)], layers=inside)
    draw_view(ax, view, "")


def _draw_crops(
    panels: Sequence[Axes],
    data: SpatialData,
    table: AnnData,
    cells: Sequence[str],
    side_um: float,
    explanation: Explanation | None,
    place: Mapping[str, Any],
) -> None:
    """Draw the crops with their cells at the cross, a scale bar, and the neighbours that decide."""
    mpp = side_um / CROP_PX
    pictures = he_crops(data, cells=cells, crop_px=CROP_PX, mpp=mpp, **place)
    pixels = he_pixels(data, **place)
    to_crop = pixels[["x", "y"]].to_numpy() * (pixels["mpp"].to_numpy()[:, None] / mpp)
    rows = find_rows(table, cells)
    for panel, cell, row, picture in zip(panels, cells, rows, pictures, strict=True):
        panel.imshow(picture, extent=(0, CROP_PX, CROP_PX, 0), interpolation="antialiased")
        middle = CROP_PX / 2
        panel.plot(middle, middle, "+", color="white", markersize=8, markeredgewidth=2.6)  # a rim, on dark nuclei
        panel.plot(middle, middle, "+", color="black", markersize=7, markeredgewidth=1.1)
        panel.set_title(str(cell), fontsize="x-small")
        panel.set(xlim=(0, CROP_PX), ylim=(CROP_PX, 0))
        panel.set_axis_off()
        if explanation is not None:
            _mark_neighbors(panel, table, str(cell), to_crop - to_crop[row] + middle, explanation.neighbors, mpp)
    length = scale_bar_um(side_um)
    panels[0].plot([0, length / mpp], [1.05 * CROP_PX] * 2, color="black", lw=2, clip_on=False, solid_capstyle="butt")
    panels[0].text(0, 1.08 * CROP_PX, f"{length:g} µm", va="top", fontsize="small")


def _mark_neighbors(
    ax: Axes, table: AnnData, cell: str, places: npt.NDArray[np.float64], neighbors: pd.DataFrame, mpp: float
) -> None:
    """Ring the neighbours that speak most for the niche; the rings of the stronger ones are wider."""
    from matplotlib.patches import Circle

    own = neighbors[(neighbors["cell"].astype(str) == cell) & (neighbors["neighbor"].astype(str) != cell)]
    best = own[own["attribution"] > 0].nlargest(MARKED, "attribution")
    if best.empty:
        return
    rows = find_rows(table, best["neighbor"].astype(str).tolist())
    strength = best["attribution"] / best["attribution"].max()
    for (x, y), share in zip(places[rows], strength, strict=True):
        for color, width in (("white", 1.6), ("#111111", 0.0)):
            ring = Circle((x, y), MARK_UM / 2 / mpp, fill=False, edgecolor=color, linewidth=0.8 + 1.6 * share + width)
            ax.add_patch(ring)


def _title(niche: str, profile: NicheProfile | None) -> str:
    name = None if profile is None else profile.names.get(niche)
    return f"Niche {niche}" + (f": {name}" if name else "")


def _facts(labels: Labels, members: npt.NDArray[np.bool_], profile: NicheProfile | None) -> str:
    """Say how large the niche is, and how sure the model."""
    facts = [f"{members.sum():,} cells", f"{members.sum() / labels.known.sum():.1%} of the slide"]
    if profile is not None:
        confidence = profile.summary["confidence"].iloc[0]
        facts += [f"median confidence {confidence:.2f}"] if np.isfinite(confidence) else []
        facts += ["the name is a suggestion"] if profile.names else []
    return "  ·  ".join(facts)


def _write_header(figure: Figure, title: str, facts: str) -> None:
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.12 / height, title, fontsize=15, fontweight="bold", va="top")
    figure.text(0.02, 1 - 0.42 / height, facts, fontsize="medium", va="top", color="#444444")


def _write_footer(
    figure: Figure,
    profile: NicheProfile | None,
    shown: Sequence[str],
    cells: Sequence[str],
    explanation: Explanation | None,
) -> None:
    """Say what the crops are, whether their rings can be believed, and what is not known."""
    texts = []
    if cells and explanation is not None:
        beaten = explanation.cells["beaten"].loc[list(cells)].mean()
        texts.append(
            f"Crops: cells at the crosses; rings: the {MARKED} neighbours that decide most. Leaving out the deciding "
            f"cells first\nloses the niche sooner than {beaten:.0%} of random orders do."
        )
    elif cells:
        kind = "typical cells" if profile is not None and len(profile.cells) else "cells at random"
        texts.append(f"Crops: {kind}, at the crosses.")
    parts = {"cell_types": "cell types", "markers": "markers", "morphology": "morphology", "neighbors": "neighbours"}
    missing = [name for part, name in parts.items() if part not in shown and profile is not None]
    missing += [] if cells else ["H&E"]
    if missing:
        texts.append(f"Not known: {', '.join(missing)}.")
    figure.text(0.02, 0.06 / figure.get_figheight(), " ".join(texts), fontsize="small", color="#444444", va="bottom")
