"""A few crops as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from stdistill._slide.crops import CropCutter
from stdistill._slide.windows import read_windows
from stdistill._support.arrays import Floats
from stdistill._table.he.placement import HEFrame
from stdistill._table.he.plans import plan_slides

if TYPE_CHECKING:
    from spatialdata import SpatialData


def read_crops(
    sdata: SpatialData,
    frames: Sequence[HEFrame],
    centers: Floats,
    rows: npt.NDArray[np.int64],
    crop_px: int,
    mpp: float | None,
) -> npt.NDArray[np.uint8]:
    """Cut the crops (m, `crop_px`, `crop_px`, 3) of the cells in these rows of the table, all of which lie on an image.

    The parameters are those of :func:`stdistill._table.he.plans.plan_slides`.
    """
    chosen = [replace(frame, cells=np.intersect1d(frame.cells, rows)) for frame in frames]
    crops = np.empty((len(rows), crop_px, crop_px, 3), dtype=np.uint8)
    for slide in plan_slides(sdata, [frame for frame in chosen if len(frame.cells)], centers, crop_px, mpp):
        plan = slide.plan
        for window, pixels in zip(plan.windows, read_windows(plan.level, plan.windows, slide.background), strict=True):
            everything = slice(0, window.stop - window.start)
            cutter = CropCutter(torch.from_numpy(pixels), plan, window)
            images = cutter.images(cutter.cut(everything), everything, crop_px, "bilinear")
            pictures = images.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            for cell, picture in zip(plan.order[window.start : window.stop], pictures, strict=True):
                crops[rows == cell] = picture
    return crops
