"""What is shown over an H&E: for each layer a number a cell, from 1 to 255, and the colours that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._drawing.colors import category_colors
from stdistill._measures.verdict import OUTSIDE
from stdistill._report.pyramid import mean_code, most_common
from stdistill._support.arrays import Pixels
from stdistill._table import schema
from stdistill._table.labels import NICHE_SUFFIX
from stdistill.tl._evaluate import NAMES

MAX_CODE = 255
METHODS = {**NAMES, schema.KMEANS: "k-means"}
UNLIKE = (1.0, OUTSIDE)
"""How unlike the training a cell may be, from usual to not to be trusted (`stdistill.tl.verdict`)."""
SCALES = {
    "confidence": (
        "Confidence",
        (0.0, 1.0),
        "viridis",
        "How sure the student is of a cell, among tissue that it knows",
    ),
    "ood": (
        "Unlike training",
        UNLIKE,
        "YlOrRd",
        "How far the H&E around a cell is from that of the training: 1 is usual, from "
        f"{UNLIKE[1]:.1f} on it is not to be trusted",
    ),
}
"""Endings of columns with numbers: title, range, colour map, and what it says."""


@dataclass(frozen=True)
class Layer:
    """One picture over the H&E."""

    key: str
    """Column of ``.obs``; names its folder."""
    title: str
    codes: Pixels
    """(n,) of the cells, 0 where there is nothing to show."""
    colors: list[str]
    """Of the codes 1, 2, …"""
    names: list[str] = field(default_factory=list)
    """Of categories; empty for numbers."""
    limits: tuple[float, float] | None = None
    """Of numbers: what the first and the last code stand for."""
    about: str = ""
    sizes: list[int] = field(default_factory=list)
    """Of categories: cells."""

    @property
    def shrink(self) -> Callable[[Pixels], Pixels]:
        """What halves its picture."""
        return mean_code if self.limits else most_common

    @property
    def palette(self) -> list[int]:
        """Red, green and blue of all codes, from 0 on."""
        from matplotlib.colors import to_rgb

        return [0, 0, 0, *(round(255 * value) for color in self.colors for value in to_rgb(color))]

    @property
    def ramp(self) -> list[str]:
        """Some of the colours of numbers, from the lowest to the highest."""
        return self.colors[:: max(1, len(self.colors) // 8)]


def find_layers(cells: AnnData) -> list[Layer]:
    """List the niches of all methods, those of students last, and of students how sure they are."""
    keys = [str(key) for key in cells.obs if isinstance(cells.obs[key].dtype, pd.CategoricalDtype)]
    niches = sorted((key for key in keys if key.endswith(NICHE_SUFFIX)), key=lambda key: key.startswith(schema.STUDENT))
    layers = [_categories(cells, key) for key in niches if cells.obs[key].notna().any()]
    for key in niches:
        prefix = key.removesuffix(NICHE_SUFFIX)
        if not prefix.startswith(schema.STUDENT):
            continue
        for ending in SCALES:
            column = f"{prefix}_{ending}"
            if column in cells.obs and cells.obs[column].notna().any():
                layers.append(_numbers(cells, column, ending))
    return layers


def method_title(prefix: str) -> str:
    """Name a method as people do: ``"student_k10"`` becomes ``"Student, 10 niches"``."""
    method, _, k = prefix.partition("_k") if prefix.rpartition("_k")[2].isdigit() else (prefix, "", "")
    return METHODS.get(method, method.replace("_", " ").capitalize()) + (f", {k} niches" if k else "")


def _categories(cells: AnnData, key: str) -> Layer:
    column = cells.obs[key].cat
    names = [str(name) for name in column.categories]
    known = column.codes[column.codes >= 0].to_numpy().astype(np.int64)
    # Of more categories than there are codes some share one.
    codes = column.codes.to_numpy().astype(np.int64)
    codes = np.where(codes >= 0, codes % MAX_CODE + 1, 0).astype(np.uint8)
    sizes = np.bincount(known, minlength=len(names)).tolist()
    colors = category_colors(cells, key, names, None, {})
    return Layer(
        key,
        method_title(key.removesuffix(NICHE_SUFFIX)),
        codes,
        [_hex(color) for color in colors[:MAX_CODE]],
        names,
        sizes=sizes,
    )


def _numbers(cells: AnnData, key: str, ending: str) -> Layer:
    import matplotlib as mpl

    title, limits, cmap, about = SCALES[ending]
    values = cells.obs[key].to_numpy(dtype=np.float64)
    share = (values - limits[0]) / (limits[1] - limits[0])
    codes = np.where(np.isnan(share), 0, 1 + np.round(np.clip(share, 0, 1) * (MAX_CODE - 1))).astype(np.uint8)
    colors = [_hex(color) for color in mpl.colormaps[cmap](np.linspace(0, 1, MAX_CODE))]
    prefix = key.removesuffix(f"_{ending}")
    suffix = "" if prefix == schema.STUDENT else f" ({method_title(prefix)})"
    return Layer(key, title + suffix, codes, colors, limits=limits, about=about)


def _hex(color: str | npt.NDArray[np.floating]) -> str:
    from matplotlib.colors import to_hex

    return to_hex(color)  # type: ignore[arg-type]
