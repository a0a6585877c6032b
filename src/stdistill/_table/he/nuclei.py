"""Nuclei of an H&E as shapes in µm, and a table that is linked to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._slide.affine import Float64Array, FloatArray, affine_scale, apply_affine, check_affine
from stdistill._table import schema
from stdistill._table.he.placement import get_image, image_shape
from stdistill._table.he.slide_record import GIVEN, SlideRecord, read_slide_record, write_slide_record
from stdistill._table.records import read_record, write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

STEP = "detect_nuclei"
UM = "um"
"""Coordinate system in µm."""
POINT_RADIUS_UM = 3.0
"""Radius of the circle that stands for a nucleus of which only the centre is known."""
IMAGE = "image"
"""Source of a slide of which only an image of a SpatialData is known."""


@dataclass(frozen=True)
class NucleusTable:
    """What is to be written of each nucleus; all have n rows."""

    outlines: npt.NDArray[np.object_]
    """Polygons in pixels, or points where only centres are known."""
    centroids: FloatArray
    """(n, 2), x and y in pixels."""
    columns: dict[str, Float64Array]
    """Of the table."""
    ids: npt.NDArray[Any] | None = None
    """Integers or strings; `None`: 1 … n."""


def find_place(sdata: SpatialData, image_key: str) -> SlideRecord | None:
    """Return the record of an image, with its map of µm to pixels; `None` where none is known.

    The image itself states it, in the coordinate system ``"um"``, or a record of the slide.

    Raises
    ------
    KeyError
        When the image is not there.
    ValueError
        When µm are sheared or stretched on it.
    """
    from spatialdata.transformations import get_transformation

    image = get_image(sdata, image_key)
    shape = image_shape(image)
    known = [record for each in (sdata, *sdata.tables.values()) if (record := read_slide_record(each)) is not None]
    # What an earlier call assumed of an image is not known.
    stated = [one for one in known if one.source != IMAGE]
    record = next((one for one in stated if (one.image_key, one.shape) == (image_key, shape)), None)
    systems = get_transformation(image, get_all=True)
    if UM in systems:
        matrix = np.linalg.inv(systems[UM].to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y")))
        check_affine(matrix, f"The map of µm to the pixels of {image_key!r}")
        mpp = 1 / affine_scale(matrix)
        found = SlideRecord(IMAGE, image_key=image_key, shape=shape) if record is None else record
        return replace(found, um_to_px=matrix, mpp=mpp)
    return record if record is not None and record.um_to_px is not None else None


def assume_place(sdata: SpatialData, image_key: str, mpp: float, source: str = GIVEN) -> SlideRecord:
    """Make the record of an image of which nothing but its µm per pixel is known."""
    return SlideRecord(
        IMAGE,
        image_key=image_key,
        mpp=mpp,
        mpp_source=source,
        um_to_px=np.diag([1 / mpp, 1 / mpp, 1.0]),
        shape=image_shape(get_image(sdata, image_key)),
    )


def check_free(sdata: SpatialData, shapes_key: str, table_key: str) -> None:
    """Raise unless shapes and table can be written: neither is there, or both are nuclei that were found before."""
    before = sdata.tables.get(table_key)
    if before is not None and not read_record(before, STEP):
        msg = (
            f"There is a table {table_key!r} already, which sd.pp.detect_nuclei did not write: give the nuclei another "
            'name with table_key=, such as "nuclei_table".'
        )
        raise ValueError(msg)
    others = [name for kind, name, _ in sdata.gen_elements() if name == shapes_key and kind != "shapes"]
    if others or (shapes_key in sdata.shapes and before is None):
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
    from spatialdata.transformations import Affine, Identity, get_transformation

    image = get_image(sdata, str(place.image_key))
    um_to_px = np.asarray(place.um_to_px)
    px_to_um = np.linalg.inv(um_to_px)
    n = len(nuclei.outlines)
    ids = np.arange(1, n + 1) if nuclei.ids is None else nuclei.ids
    outlines = shapely.transform(nuclei.outlines, lambda points: apply_affine(px_to_um, points))
    frame = gpd.GeoDataFrame({"geometry": outlines}, index=ids)
    if (shapely.get_type_id(outlines) == shapely.GeometryType.POINT).all():
        frame["radius"] = POINT_RADIUS_UM
    systems: dict[str, Any] = {UM: Identity()}
    for name, transformation in get_transformation(image, get_all=True).items():
        matrix = transformation.to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y")) @ um_to_px
        is_same = np.allclose(matrix, np.eye(3), atol=1e-9)
        systems[name] = Identity() if is_same else Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
    shapes = ShapesModel.parse(frame, transformations=systems)
    obs = pd.DataFrame(nuclei.columns, index=[str(each) for each in ids])
    obs["region"] = pd.Categorical([shapes_key] * n)
    obs[schema.INSTANCE] = ids
    adata = AnnData(obs=obs, obsm={schema.SPATIAL: apply_affine(px_to_um, nuclei.centroids)})
    write_slide_record(adata, replace(place, n_cells=n))
    write_record(adata, STEP, image_key=place.image_key, mpp=place.mpp, shapes_key=shapes_key, **parameters)
    table = TableModel.parse(adata, region=shapes_key, region_key="region", instance_key=schema.INSTANCE)
    for elements, key, element in ((sdata.tables, table_key, table), (sdata.shapes, shapes_key, shapes)):
        if key in elements:
            del elements[key]
        elements[key] = element
