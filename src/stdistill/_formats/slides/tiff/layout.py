"""How the colours of an image lie in the pages of a TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tifffile

IMAGES = "IQ"
"""Axes by which tifffile stacks pages of one size that belong to no series."""


@dataclass(frozen=True)
class Layout:
    """Axes of a series, as tifffile finds them."""

    axes: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, series: tifffile.TiffPageSeries) -> Layout:
        """Take them from a series or a level of one."""
        return cls(series.axes, tuple(series.shape))

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; 0 for an axis that is not there."""
        return self.sizes.get("Y", 0), self.sizes.get("X", 0)

    @property
    def n_images(self) -> int:
        """Images of one size that are stacked."""
        return next((n for name, n in self.sizes.items() if name in IMAGES), 1)

    @property
    def n_channels(self) -> int:
        """Samples of a pixel, or channels of an image; 0 when there is no axis of them or several."""
        found = [n for name, n in self.sizes.items() if name in "SC"]
        return found[0] if len(found) == 1 else 0

    @property
    def is_plane(self) -> bool:
        """Whether it has rows and columns, and no other axes than those of channels and images."""
        return {"Y", "X"} <= set(self.axes) <= {*"YXSC", *IMAGES} and len(set(self.axes)) == len(self.axes)

    def __str__(self) -> str:
        return " × ".join(f"{name} {size}" for name, size in self.sizes.items())


@dataclass(frozen=True)
class Plane:
    """Where some samples of every pixel are: a page, and the first of its segments."""

    page: Any
    first_segment: int


def planes(series: tifffile.TiffPageSeries, image: int) -> list[Plane]:
    """List where the samples of an image are, in their order: one place for all of them, or one for each."""
    layout = Layout.of(series)
    page = series.keyframe
    n_separate = layout.n_channels if "C" in layout.axes else 1
    pages: list[Any] = [series[image * n_separate + number] for number in range(n_separate)]
    if n_separate > 1 or page.planarconfig != tifffile.PLANARCONFIG.SEPARATE:
        return [Plane(each, 0) for each in pages]
    n_segments = len(pages[0].dataoffsets) // layout.n_channels
    return [Plane(pages[0], number * n_segments) for number in range(layout.n_channels)]
