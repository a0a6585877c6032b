"""Types of arrays, and of what is done to them in several rooms."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Float64s: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Rows: TypeAlias = npt.NDArray[np.intp]
"""Numbers of rows, or of categories."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Colours, or samples that become colours."""
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
"""How images are resampled; antialiased in either case."""
