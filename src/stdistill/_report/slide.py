"""The page of one slide, with all that it shows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from stdistill._report.cells import BIN_PX, PARTS, write_cells
from stdistill._report.crops import write_crops
from stdistill._report.drawing import TISSUE_KEY, VEIL, write_layers, write_tissue
from stdistill._report.facts import describe_run, find_figures, read_composition, read_tables, read_verdict
from stdistill._report.he import choose_shrinkage, encode_jpeg, write_he
from stdistill._report.layers import Layer, find_layers
from stdistill._report.page import link_assets, render
from stdistill._report.pyramid import TILE_PX, Grid
from stdistill._report.source import Slide
from stdistill._report.store import InlineStore, Store
from stdistill._slide.glass import small_image, stained
from stdistill._support.arrays import Pixels
from stdistill._table import schema
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.records import read_record

logger = logging.getLogger("stdistill")

LAYER_MPP = 1.0
"""About so many µm per pixel have the finest pictures of cells: a nucleus has seven pixels across."""
TISSUE_MPP = 8.0
"""And those of tissue, which is outlined at this scale."""
OVERVIEW = "overview.jpg"
THUMBNAIL = "thumbnail.jpg"
THUMBNAIL_PX = 320
NICHE_OPACITY = 0.55
SCRIPTS = ("openseadragon.min.js", "viewer.js")
STYLE = "report.css"
REACH_UM = 8.0
"""So far from a click may the centre of its cell be."""
NO_NICHES = "No cell of this slide has a niche."


def write_slide(
    slide: Slide, store: Store, *, assets: str = "assets/", up: str | None = None, title: str | None = None
) -> bytes:
    """Write what the page of a slide shows to a store, and return the page.

    Parameters
    ----------
    slide
        The results.
    store
        Takes tiles and pictures; when it keeps them in the page, so are style sheet and scripts.
    assets
        Where style sheet and scripts are, as the page names it.
    up
        Address of the page of the cohort.
    title
        Of the page, by default the slide's name.
    """
    single_file = isinstance(store, InlineStore)
    layers = find_layers(slide.cells)
    height, width = slide.frame.shape
    shrinkage = choose_shrinkage(slide.frame.mpp, _tissue_um2(slide), single_file=single_file)
    grid = _grid(width, height, shrinkage)
    mpp = slide.frame.mpp * shrinkage
    pictures: list[dict[str, Any]] = []
    overview: Pixels | None = None
    if slide.levels:
        overview, there = write_he(slide.levels, shrinkage, grid, store)
        pictures.append(_picture("he", grid, there, "jpg"))
    coarser = shrinkage * 2 ** max(0, round(np.log2(LAYER_MPP / mpp)))
    cell_grid = _grid(width, height, coarser)
    wholes, exists = write_layers(layers, slide.outlines, 1 / coarser, cell_grid, store)
    pictures += [_picture(layer.key, cell_grid, there, "png") for layer, there in zip(layers, exists, strict=True)]
    if slide.tissue is not None:
        coarse = shrinkage * 2 ** max(0, round(np.log2(TISSUE_MPP / mpp)))
        tissue_grid = _grid(width, height, coarse)
        there = write_tissue(slide.tissue, 1 / coarse, tissue_grid, store)
        pictures.append(_picture(TISSUE_KEY, tissue_grid, there, "png"))
    squares = write_cells(slide.pixels / shrinkage, [layer.codes[slide.outlines.cells] for layer in layers], store)
    shown = _shown(layers)
    _write_overview(overview, shown, layers, wholes, cell_grid, store)
    to_um = np.linalg.inv(slide.frame.um_to_px) @ np.diag([shrinkage, shrinkage, 1.0])
    viewer = {
        "width": grid.width,
        "height": grid.height,
        "tile": TILE_PX,
        "mpp": mpp,
        "toUm": to_um[:2].tolist(),
        "pictures": pictures,
        "shown": None if shown is None else shown.key,
        "layers": [_describe(layer) for layer in layers],
        "bin": BIN_PX,
        "parts": PARTS,
        "squares": squares,
        "reachUm": REACH_UM,
    }
    names = {name: f"{assets}{name}" for name in (STYLE, *SCRIPTS)}
    return render(
        "slide.html",
        title=title or slide.name,
        up=up,
        assets=link_assets(names, single_file=single_file),
        style=STYLE,
        scripts=SCRIPTS,
        viewer=viewer,
        inline=store.inline,
        overview=store.link(OVERVIEW),
        verdict=read_verdict(slide),
        facts=describe_run(slide),
        layers=layers,
        shown=shown,
        veil=VEIL if slide.tissue is not None else None,
        tissue_key=TISSUE_KEY,
        opacity=NICHE_OPACITY,
        no_image=slide.no_image,
        n_cells=slide.cells.n_obs,
        sizes=[] if shown is None else _sizes(slide, shown),
        crops={} if shown is None else write_crops(slide, shown, store),
        composition=None if shown is None else read_composition(slide, shown.key),
        tables=read_tables(slide.folder),
        figures=_copy_figures(slide, store),
        no_niches=NO_NICHES,
    )


def summarize(slide: Slide) -> dict[str, Any]:
    """Say of a slide what the table of a cohort shows: niches with colour and share, and the verdict."""
    shown = _shown(find_layers(slide.cells))
    verdict = read_verdict(slide)
    return {
        "niches": [] if shown is None else _sizes(slide, shown),
        "student": read_record(slide.cells, "predict").get("model_sha256"),
        "mpp": slide.frame.mpp,
        "reasons": [] if verdict is None else verdict["reasons"],
    }


def _grid(width: int, height: int, shrinkage: int) -> Grid:
    return Grid(max(1, -(-width // shrinkage)), max(1, -(-height // shrinkage)))


def _picture(key: str, grid: Grid, there: list[str], ending: str) -> dict[str, Any]:
    return {"key": key, "width": grid.width, "height": grid.height, "levels": grid.n_levels, "there": there} | {
        "ending": ending
    }


def _describe(layer: Layer) -> dict[str, Any]:
    return {"key": layer.key, "title": layer.title, "names": layer.names, "limits": layer.limits} | {
        "colors": layer.colors if layer.names else []
    }


def _shown(layers: list[Layer]) -> Layer | None:
    """Choose the niches to show first: the student's, else any."""
    niches = [layer for layer in layers if layer.names]
    students = [layer for layer in niches if layer.key.startswith(schema.STUDENT)]
    return next(iter([*students, *niches]), None)


def _tissue_um2(slide: Slide) -> float:
    """Area that is stained, about; without an H&E all of it."""
    height, width = slide.frame.shape
    share = float(stained(small_image(slide.levels)).mean()) if slide.levels else 1.0
    return share * height * width * slide.frame.mpp**2


def _write_overview(
    he: Pixels | None,
    shown: Layer | None,
    layers: list[Layer],
    wholes: list[Pixels | None],
    grid: Grid,
    store: Store,
) -> None:
    """Write the whole slide with its niches at about 1,000 pixels, for who has no JavaScript; and a smaller one."""
    from PIL import Image

    codes = None if shown is None else wholes[layers.index(shown)]
    if he is None:
        shape = (round(512 * grid.height / max(grid.width, grid.height)) or 1, 512) if codes is None else codes.shape
        he = np.full((*shape, 3), 255, dtype=np.uint8)
    image = Image.fromarray(he)
    if shown is not None and codes is not None:
        palette = np.zeros((256, 3), dtype=np.uint8)
        known = np.array(shown.palette, dtype=np.uint8).reshape(-1, 3)
        palette[: len(known)] = known
        mask = Image.fromarray((codes > 0).astype(np.uint8) * round(255 * NICHE_OPACITY)).resize(image.size)
        image.paste(Image.fromarray(palette[codes]).resize(image.size, Image.Resampling.NEAREST), mask=mask)
    store.write(OVERVIEW, encode_jpeg(np.asarray(image), quality=85))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    store.write(THUMBNAIL, encode_jpeg(np.asarray(image), quality=85))


def _sizes(slide: Slide, layer: Layer) -> list[dict[str, Any]]:
    """List the niches with their colour, cells, share and median confidence."""
    confidence = slide.cells.obs.get(f"{layer.key.removesuffix(NICHE_SUFFIX)}{schema.CONFIDENCE_SUFFIX}")
    medians = None
    if confidence is not None:
        medians = confidence.groupby(slide.cells.obs[layer.key].astype(str)).median()
    total = max(sum(layer.sizes), 1)
    return [
        {
            "name": name,
            "color": layer.colors[number % len(layer.colors)],
            "n_cells": size,
            "share": size / total,
            "confidence": None if medians is None or name not in medians.index else float(medians[name]),
        }
        for number, (name, size) in enumerate(zip(layer.names, layer.sizes, strict=True))
    ]


def _copy_figures(slide: Slide, store: Store) -> list[dict[str, str]]:
    figures = []
    for name, caption, path in find_figures(slide.folder, str(slide.manifest.get("command"))):
        store.write(f"figure_{name}", path.read_bytes())
        figures.append({"address": store.link(f"figure_{name}"), "caption": caption})
    return figures
