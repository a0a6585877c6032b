"""Where µm lie on an H&E, also where there are no cells yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._slide.affine import FloatArray, check_affine
from stdistill._support.checks import check_key
from stdistill._table.he.placement import image_shape
from stdistill._table.he.slide_record import read_slide_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

UM = "um"
"""Coordinate system in µm."""
XY = ("x", "y")


def find_um_to_px(sdata: SpatialData, image_key: str) -> FloatArray:
    """Return the affine map (3 × 3) of µm to the pixels of an image.

    The image states it, in the coordinate system ``"um"``, or a record of the slide does.

    Raises
    ------
    KeyError
        When the image is not there.
    ValueError
        When µm are not known, or stretched on the image.
    """
    from spatialdata.transformations import get_transformation

    hint = "Read one with sd.pp.read_slide, or name yours with image_key=."
    check_key(image_key, sdata.images, "an image of the SpatialData", argument="image_key", hint=hint)
    image = sdata.images[image_key]
    systems = get_transformation(image, get_all=True)
    if UM in systems:
        matrix: FloatArray = np.linalg.inv(systems[UM].to_affine_matrix(input_axes=XY, output_axes=XY))
    else:
        records = [read_slide_record(each) for each in (sdata, *sdata.tables.values())]
        of_image = (image_key, image_shape(image))
        known = [
            one.um_to_px
            for one in records
            if one is not None and one.um_to_px is not None and (one.image_key, one.shape) == of_image
        ]
        if not known:
            msg = (
                f"µm are not known on the image {image_key!r}: it is in no coordinate system {UM!r}, and there is no "
                "record of its slide. Read it with sd.pp.read_slide, or set the transformation: "
                f"set_transformation(sdata[{image_key!r}], Scale([mpp, mpp], axes=('x', 'y')), 'um')."
            )
            raise ValueError(msg)
        matrix = known[0]
    check_affine(matrix, f"The map of µm to the pixels of {image_key!r}")
    return matrix


def systems_of_um(image: Any, um_to_px: FloatArray) -> dict[str, Any]:
    """Return the transformations of what is in µm to all coordinate systems of an image, and to ``"um"``."""
    from spatialdata.transformations import Affine, Identity, get_transformation

    systems: dict[str, Any] = {}
    for name, transformation in get_transformation(image, get_all=True).items():
        matrix = transformation.to_affine_matrix(input_axes=XY, output_axes=XY) @ um_to_px
        systems[name] = Affine(matrix, input_axes=XY, output_axes=XY)
    return {**systems, UM: Identity()}
