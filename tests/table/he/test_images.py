from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from spatialdata.models import Image2DModel

from stdistill._table.he.images import is_rgb, slide_levels

PIXELS = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (None, [0, 1, 2]),
        (["r", "g", "b"], [0, 1, 2]),
        (["b", "g", "r"], [2, 1, 0]),  # as OpenCV reads them
        (["Green", "Blue", "Red"], [2, 0, 1]),
        (["channel_0", "channel_1", "channel_2"], [0, 1, 2]),
    ],
)
def test_channels_go_by_their_names(names: Sequence[str] | None, order: list[int]) -> None:
    image = Image2DModel.parse(PIXELS[:3], dims=("c", "y", "x"), c_coords=names)
    assert is_rgb(image)
    np.testing.assert_array_equal(slide_levels(image, "he")[0].pixels, PIXELS[:3][order])


def test_opacity_stays_the_fourth() -> None:
    pixels = PIXELS.copy()
    pixels[3] = 255
    image = Image2DModel.parse(pixels, dims=("c", "y", "x"), c_coords=["b", "g", "r", "a"])
    np.testing.assert_array_equal(slide_levels(image, "he")[0].pixels, pixels[[2, 1, 0]])


def test_markers_are_no_colours() -> None:
    image = Image2DModel.parse(PIXELS[:3], dims=("c", "y", "x"), c_coords=["DAPI", "CD45", "PanCK"])
    assert not is_rgb(image)
    with pytest.raises(
        ValueError, match=r"named dapi, cd45, panck; an H&E is expected as RGB.*set_channel_names\('if'"
    ):
        slide_levels(image, "if")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_other_numbers_than_those_of_an_he(dtype: type) -> None:
    """A picture of 0 … 1, or of 16 bits, is told how to become one of 8 bits."""
    image = Image2DModel.parse(PIXELS[:3].astype(dtype), dims=("c", "y", "x"), c_coords=["r", "g", "b"])
    with pytest.raises(
        ValueError, match=r"those of 0 … 1 times 255.*Image2DModel\.parse\(pixels\.astype\(.uint8.\)"
    ) as said:
        slide_levels(image, "he")
    assert "set_channel_names" not in str(said.value)
