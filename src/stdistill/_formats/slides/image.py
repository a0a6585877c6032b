"""What is known of an image on disk that is to be a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stdistill._formats.slides.lazy import as_dask
from stdistill._formats.slides.level import Level
from stdistill._formats.slides.reduced import with_small_levels
from stdistill._formats.slides.resolution import StatedMpp

RGB = ("r", "g", "b")


@dataclass(frozen=True)
class SlideImage:
    """An RGB image on disk."""

    stored: Sequence[Level]
    """Its levels, the full resolution first."""
    format: str
    """Such as ``"svs"``, ``"ome"``, ``"jpeg"`` or ``"mirax"``."""
    digest: str
    """Tells the file from others without all of it being read."""
    stated: StatedMpp | None = None
    """µm per pixel as the file states it, `None` where it does not."""
    scene: str | None = None
    """Name of the scene, where the file names its images."""
    bounds: tuple[int, int, int, int] | None = None
    """Left, top, width and height in pixels of what was scanned, where the file states it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width at full resolution."""
        return self.stored[0].shape[1], self.stored[0].shape[2]

    @cached_property
    def levels(self) -> list[Any]:
        """Dask arrays (3, height, width) uint8: the stored levels, and smaller ones where none of these is small."""
        return [as_dask(level) for level in with_small_levels(self.stored)]
