"""Where µm lie on an H&E, also where there are no cells yet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._slide.affine import affine_scale, check_affine
from stdistill._support.arrays import Floats
from stdistill._table.he.images import get_image, image_shape
from stdistill._table.he.slide_record import GIVEN, SlideRecord, read_slide_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

UM = "um"
"""Coordinate system in µm."""
XY = ("x", "y")
IMAGE = "image"
"""Source of a slide of which only an image of a SpatialData is known."""


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
        matrix = np.linalg.inv(systems[UM].to_affine_matrix(input_axes=XY, output_axes=XY))
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


def find_um_to_px(sdata: SpatialData, image_key: str) -> Floats:
    """Return the affine map (3 × 3) of µm to the pixels of an image.

    Raises
    ------
    KeyError
        When the image is not there.
    ValueError
        When µm are not known, or sheared or stretched on it.
    """
    place = find_place(sdata, image_key)
    if place is None or place.um_to_px is None:
        msg = (
            f"µm are not known on the image {image_key!r}: it is in no coordinate system {UM!r}, and there is no "
            "record of its slide. Read it with sd.pp.read_slide, or set the transformation: "
            f"set_transformation(sdata[{image_key!r}], Scale([mpp, mpp], axes=('x', 'y')), 'um')."
        )
        raise ValueError(msg)
    return place.um_to_px


def systems_of_um(image: Any, um_to_px: Floats) -> dict[str, Any]:
    """Return the transformations of what is in µm to all coordinate systems of an image, and to ``"um"``."""
    from spatialdata.transformations import Affine, Identity, get_transformation

    systems: dict[str, Any] = {}
    for name, transformation in get_transformation(image, get_all=True).items():
        matrix = transformation.to_affine_matrix(input_axes=XY, output_axes=XY) @ um_to_px
        is_same = np.allclose(matrix, np.eye(3), atol=1e-9)
        systems[name] = Identity() if is_same else Affine(matrix, input_axes=XY, output_axes=XY)
    return {**systems, UM: Identity()}
