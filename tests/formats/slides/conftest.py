from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

Pixels = npt.NDArray[np.uint8]
GLASS = np.array([238.0, 236, 234])
APERIO = "Aperio Image Library v12.0.15 \r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q=70{words}"


@pytest.fixture(scope="session")
def draw() -> Callable[..., Pixels]:
    """Draw round pieces of tissue on glass, smooth enough for JPEG to keep them; their colours tell places apart."""

    def draw(height: int, width: int, *, seed: int = 0, n: int = 6) -> Pixels:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        density = np.zeros((height, width, 3))
        for _ in range(n):
            top, left, radius = (
                rng.uniform(0, height),
                rng.uniform(0, width),
                rng.uniform(0.05, 0.15) * (height + width),
            )
            stain = rng.uniform([0.2, 0.5, 0.2], [0.7, 1.0, 0.5])
            density += np.exp(-((((y - top) ** 2 + (x - left) ** 2) / radius**2) ** 2))[..., None] * stain
        return np.rint(GLASS * np.exp(-density)).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def halve() -> Callable[[Pixels, int], list[Pixels]]:
    """The levels of a pyramid, each the mean of 2 × 2 pixels of the one before."""

    def halve(pixels: Pixels, n_levels: int) -> list[Pixels]:
        levels = [pixels]
        for _ in range(n_levels - 1):
            height, width = (n // 2 * 2 for n in levels[-1].shape[:2])
            blocks = levels[-1][:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
            levels.append(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8))
        return levels

    return halve


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write levels as the pages of a plain TIFF, tiled and uncompressed unless asked otherwise."""

    def write(levels: Sequence[Pixels], name: str = "slide.tif", *, first: Any = None, **options: Any) -> Path:
        path = tmp_path / name
        own = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
        options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, **options}
        with tifffile.TiffWriter(path, **own) as tiff:
            for number, level in enumerate(levels):
                tiff.write(level, **options, **((first or {}) if number == 0 else {}))
        return path

    return write


@pytest.fixture
def write_svs(tmp_path: Path) -> Callable[..., Path]:
    """Write levels and a thumbnail as Aperio does."""

    def write_svs(levels: Sequence[Pixels], name: str = "slide.svs", *, words: str, **options: Any) -> Path:
        path = tmp_path / name
        height, width = levels[0].shape[:2]
        tiled = {"tile": (256, 256), "photometric": "rgb", "metadata": None, **options}
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(levels[0], description=APERIO.format(width=width, height=height, words=words), **tiled)
            tiff.write(levels[-1][:64, :64].copy(), photometric="rgb", metadata=None, description="Aperio thumbnail")
            for level in levels[1:]:
                tiff.write(level, description="Aperio level", **tiled)
        return path

    return write_svs


@pytest.fixture
def write_ome(tmp_path: Path) -> Callable[..., Path]:
    """Write images with their pyramids as an OME-TIFF."""

    def write_ome(
        images: Sequence[Sequence[Pixels]],
        name: str = "slide.ome.tif",
        *,
        axes: str = "YXS",
        metadata: Sequence[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        own = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
        options = {"tile": (128, 128), "photometric": "rgb", **options}
        with tifffile.TiffWriter(path, ome=True, **own) as tiff:
            for number, levels in enumerate(images):
                words = {"axes": axes, **(metadata[number] if metadata else {})}
                tiff.write(levels[0], subifds=len(levels) - 1, metadata=words, **options)
                for level in levels[1:]:
                    tiff.write(level, subfiletype=1, **options)
        return path

    return write_ome


@pytest.fixture(scope="session")
def leave_out() -> Callable[..., None]:
    """Take tiles or strips out of a TIFF, as scanners leave out those that show glass."""

    def leave_out(path: Path, page: int, numbers: Sequence[int], *, offsets: bool = True) -> None:
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            tags = tiff.pages[page].aspage().tags
            for kind in ("ByteCounts", *(["Offsets"] if offsets else [])):
                tag = tags.get(f"Tile{kind}") or tags[f"Strip{kind}"]
                values = list(tag.value)
                for number in numbers:
                    values[number] = 0
                tag.overwrite(values)

    return leave_out
