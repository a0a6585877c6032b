"""A slide as spatialdata's multi-scale image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._formats.slides.image import RGB, SlideImage
from stdistill._support.arrays import Floats

if TYPE_CHECKING:
    from xarray import DataTree

AXES = ("c", "y", "x")


def slide_element(image: SlideImage, um_to_px: Floats, pixel_size: float | None) -> DataTree:
    """Make a lazy multi-scale image, whose own coordinates are pixels of the full resolution.

    Parameters
    ----------
    image
        The slide.
    um_to_px
        Affine map (3 × 3) of µm to its pixels.
    pixel_size
        µm per pixel of the coordinate system ``"global"``: that of a Xenium slide, whose morphology image it is; `None`
        where it is the slide's own pixels, and µm are the system ``"um"``.
    """
    from spatialdata.transformations import Affine, Identity, Scale, set_transformation
    from xarray import DataArray, Dataset, DataTree

    scales = {}
    for number, level in enumerate(image.levels):
        y, x = (
            np.linspace(0, full, n + 1)[:-1] + full / n / 2
            for n, full in zip(level.shape[1:], image.shape, strict=True)
        )
        pixels = DataArray(level, dims=AXES, coords={"c": list(RGB), "y": y, "x": x}, name="image")
        scales[f"scale{number}"] = Dataset({"image": pixels})
    element = DataTree.from_dict(scales)
    px_to_um = np.linalg.inv(um_to_px)
    # Over all axes of the image, the form in which spatialdata reads them back from disk.
    systems: dict[str, Any]
    if pixel_size is None:
        systems = {"global": Identity(), "um": Scale([1, px_to_um[1, 1], px_to_um[0, 0]], axes=AXES)}
    else:
        to_global = Affine(
            np.diag([1 / pixel_size, 1 / pixel_size, 1.0]) @ px_to_um, input_axes=("x", "y"), output_axes=("x", "y")
        )
        systems = {"global": Affine(to_global.to_affine_matrix(AXES, AXES), input_axes=AXES, output_axes=AXES)}
    set_transformation(element, systems, set_all=True)
    return element
