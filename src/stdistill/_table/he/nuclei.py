"""Nuclei of an H&E as shapes in µm, and a table that is linked to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._slide.affine import apply_affine, inside
from stdistill._support.arrays import Float64s, Floats
from stdistill._table import schema
from stdistill._table.checks import held_beside
from stdistill._table.he.images import get_image
from stdistill._table.he.place import systems_of_um
from stdistill._table.he.slide_record import SlideRecord, write_slide_record
from stdistill._table.records import read_record, write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

STEP = "detect_nuclei"
COLUMNS = ("area_um2", "eccentricity", "solidity", "haematoxylin")
"""What is measured of each nucleus."""
POINT_RADIUS_UM = 3.0
"""Radius of the circle that stands for a nucleus of which only the centre is known."""


@dataclass(frozen=True)
class NucleusTable:
    """What is to be written of each nucleus; all have n rows."""

    outlines: npt.NDArray[np.object_]
    """Polygons in pixels, or points where only centres are known."""
    centroids: Floats
    """(n, 2), x and y in pixels."""
    columns: dict[str, Float64s]
    """Of the table."""
    ids: npt.NDArray[Any] | None = None
    """Integers or strings; `None`: 1 … n."""


def check_free(sdata: SpatialData, shapes_key: str, table_key: str) -> None:
    """Raise unless shapes and table can be written: neither is there, or both are nuclei that were found before.

    These are replaced as long as nothing was made of them, which would be lost.
    """
    before = sdata.tables.get(table_key)
    record = {} if before is None else read_record(before, STEP)
    if before is not None and not record:
        msg = (
            f"There is a table {table_key!r} already, which sd.pp.detect_nuclei did not write: give the nuclei another "
            'name with table_key=, such as "nuclei_table".'
        )
        raise ValueError(msg)
    if before is not None and (made := held_beside(before, (*COLUMNS, "region", schema.INSTANCE))):
        msg = (
            f"The table {table_key!r} of nuclei that were found before holds {', '.join(made)}, which would be lost. "
            "Give the new nuclei other names with table_key= and shapes_key=, or delete the table first: "
            f"del sdata.tables[{table_key!r}], sdata.shapes[{str(record.get('shapes_key'))!r}]."
        )
        raise ValueError(msg)
    kinds = {(kind, name) for kind, name, _ in sdata.gen_elements()}
    taken = [name for kind, name in kinds if name == table_key and kind != "tables"]
    if taken or shapes_key == table_key:
        msg = f"{table_key!r} is the name of another element: give the nuclei's table another one with table_key=."
        raise ValueError(msg)
    others = [name for kind, name in kinds if name == shapes_key and kind != "shapes"]
    if others or (shapes_key in sdata.shapes and record.get("shapes_key") != shapes_key):
        msg = (
            f"There is an element {shapes_key!r} already, which is linked to no table of sd.pp.detect_nuclei: give the "
            "nuclei another name with shapes_key=."
        )
        raise ValueError(msg)


def write_nuclei(
    sdata: SpatialData,
    nuclei: NucleusTable,
    place: SlideRecord,
    /,
    *,
    shapes_key: str,
    table_key: str,
    **parameters: Any,
) -> None:
    """Write nuclei as shapes in µm, in all coordinate systems of the image, with a table that annotates them."""
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel, TableModel

    image = get_image(sdata, str(place.image_key))
    um_to_px = np.asarray(place.um_to_px)
    px_to_um = np.linalg.inv(um_to_px)
    n = len(nuclei.outlines)
    ids = np.arange(1, n + 1) if nuclei.ids is None else nuclei.ids
    outlines = shapely.transform(nuclei.outlines, lambda points: apply_affine(px_to_um, points))
    frame = gpd.GeoDataFrame({"geometry": outlines}, index=ids)
    if (shapely.get_type_id(outlines) == shapely.GeometryType.POINT).all():
        frame["radius"] = POINT_RADIUS_UM
    shapes = ShapesModel.parse(frame, transformations=systems_of_um(image, um_to_px))
    obs = pd.DataFrame(nuclei.columns, index=[str(each) for each in ids])
    obs["region"] = pd.Categorical([shapes_key] * n)
    obs[schema.INSTANCE] = ids
    adata = AnnData(obs=obs, obsm={schema.SPATIAL: apply_affine(px_to_um, nuclei.centroids)})
    on_image = float(inside(nuclei.centroids, place.shape).mean()) if place.shape is not None else None
    write_slide_record(adata, replace(place, n_cells=n, share_on_image=on_image, share_on_tissue=None))
    write_record(adata, STEP, image_key=place.image_key, mpp=place.mpp, shapes_key=shapes_key, **parameters)
    table = TableModel.parse(adata, region=shapes_key, region_key="region", instance_key=schema.INSTANCE)
    for elements, key, element in ((sdata.tables, table_key, table), (sdata.shapes, shapes_key, shapes)):
        if key in elements:
            del elements[key]
        elements[key] = element
