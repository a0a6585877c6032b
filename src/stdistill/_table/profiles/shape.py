"""The shape of nuclei, or of cells: from the table, or from the outlines or the masks that it annotates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._nuclei.given import outline_measures
from stdistill._support.arrays import Float64s, Rows
from stdistill._table.checks import get_centers, get_table, is_spatialdata
from stdistill._table.he.centroids import element_centroids, whole_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

MEASURES = ("area_um2", "eccentricity", "solidity")
AREA_COLUMNS = ("nucleus_area",)
"""Of Xenium, in µm²."""
NUCLEI = "nucleus_boundaries"
"""Outlines of nuclei beside those of the cells, as Xenium has them."""
ENOUGH_CELLS = 20_000
"""Masks are looked at window by window, in random order, until so many cells were measured."""

Shapes = tuple[dict[str, Float64s], str]


def measure_shapes(data: AnnData | SpatialData, rows: Rows, table_key: str) -> Shapes | None:
    """Return measures of the shape of the cells in these rows, NaN where there are none, and where they are from.

    The first of these that is there: the columns that :func:`stdistill.pp.detect_nuclei` wrote; outlines of nuclei;
    the outlines or the masks that the table annotates; Xenium's areas of nuclei. `None` when none is.
    """
    table = get_table(data, table_key)
    columns = [name for name in MEASURES if name in table.obs]
    if columns:
        return {name: _column(table, name, rows) for name in columns}, "columns of .obs"
    found = _measure_elements(data, table, rows) if is_spatialdata(data) else None
    if found is not None:
        return found
    for name in AREA_COLUMNS:
        if name in table.obs:
            return {"area_um2": _column(table, name, rows)}, f".obs[{name!r}]"
    return None


def _column(table: AnnData, name: str, rows: Rows) -> Float64s:
    values: Float64s = pd.to_numeric(table.obs[name].iloc[rows], errors="coerce").to_numpy(np.float64)
    return values


def _measure_elements(data: SpatialData, table: AnnData, rows: Rows) -> Shapes | None:
    """Measure outlines or masks of the one element that the table annotates, or of the nuclei beside it."""
    from spatialdata.models import get_table_keys

    if not table.uns.get("spatialdata_attrs"):
        return None
    regions, _, instance_key = get_table_keys(table)
    names = [regions] if isinstance(regions, str) else list(regions)
    if len(names) != 1 or names[0] not in data:
        return None
    instances = table.obs[instance_key].to_numpy()
    if NUCLEI in data.shapes:
        shapes = data.shapes[NUCLEI]
        owners = shapes["cell_id"] if "cell_id" in shapes else shapes.index.to_series()
        own = instances if "cell_id" not in table.obs else table.obs["cell_id"].to_numpy()
        return _measure_outlines(shapes, owners.to_numpy(), own[rows], 1.0), f"outlines {NUCLEI!r}"
    if names[0] in data.shapes and "radius" in data.shapes[names[0]]:  # a circle has no shape
        return None
    scale = _um_per_unit(data[names[0]], instances, get_centers(table), names[0])
    if names[0] in data.labels:
        return _measure_masks(data.labels[names[0]], instances[rows], scale), f"masks {names[0]!r}"
    shapes = data.shapes[names[0]]
    return _measure_outlines(shapes, shapes.index.to_numpy(), instances[rows], scale), f"outlines {names[0]!r}"


def _um_per_unit(element: Any, instances: npt.NDArray[Any], centers: Float64s, region: str) -> float:
    """Say how many µm one unit of an element is, by how far its centroids and the table's lie apart."""
    found, centroids = element_centroids(element, instances, region)
    spread = [np.linalg.norm(places - places.mean(axis=0)) for places in (centers[found], centroids)]
    return float(spread[0] / spread[1]) if spread[1] > 0 else float("nan")


def _measure_outlines(
    shapes: Any, owners: npt.NDArray[Any], wanted: npt.NDArray[Any], scale: float
) -> dict[str, Float64s]:
    """Measure the polygons of the cells that are wanted; of a cell with several nuclei the mean."""
    place = pd.Index(wanted).get_indexer(owners)
    there = np.flatnonzero(place >= 0)
    area, eccentricity, solidity = outline_measures(shapes.geometry.to_numpy()[there])
    numbers = np.bincount(place[there], minlength=len(wanted))
    values = dict(zip(MEASURES, (area * scale**2, eccentricity, solidity), strict=True))
    return {
        name: np.divide(
            np.bincount(place[there], each, len(wanted)), numbers, out=np.full(len(wanted), np.nan), where=numbers > 0
        )
        for name, each in values.items()
    }


def _measure_masks(labels: Any, wanted: npt.NDArray[Any], scale: float) -> dict[str, Float64s]:
    """Measure the masks of cells by scikit-image, of those that lie wholly inside a window."""
    from skimage.measure import regionprops_table

    places = pd.Index(wanted)
    values = {name: np.full(len(wanted), np.nan) for name in MEASURES}
    for _, _, window in whole_labels(labels):
        window[~np.isin(window, wanted)] = 0
        found = regionprops_table(window, properties=("label", "area", "eccentricity", "solidity"))
        at = places.get_indexer(found["label"])
        values["area_um2"][at] = found["area"] * scale**2
        values["eccentricity"][at], values["solidity"][at] = found["eccentricity"], found["solidity"]
        if np.isfinite(values["area_um2"]).sum() >= ENOUGH_CELLS:
            break
    return values
