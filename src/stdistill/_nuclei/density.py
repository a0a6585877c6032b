"""Pixels as methods want them: optical density, at the size that they are made for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

NUCLEUS_PX = 14.0
"""Diameter of a nucleus of usual size in the images that all methods are made for."""
TYPICAL_UM = 6.0
"""Diameter of a nucleus of usual size: the one below which half of all nuclear area lies (our choice, by eye)."""
DARKEST = 8
"""Grey level of 255 below which all counts as equally dark; scanners differ in what black is (our choice)."""


def optical_density(rgb: Tensor) -> Tensor:
    """Natural logarithm of white (255) over each channel of 8-bit RGB, of any shape, in float32."""
    return -(rgb.float().clamp(min=DARKEST) / 255).log()


def resized_density(pixels: npt.NDArray[np.uint8], height: int, width: int) -> Tensor:
    """Optical density (3, height, width) of RGB pixels (h, w, 3) after resizing them, smoothed where they shrink."""
    # Contiguous RGB pixels of 8 bits are resized by vectorised code, without a copy in float.
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    resized = functional.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return optical_density(resized[0])
