"""RGB whole-slide TIFFs as lazy multi-scale images: tiles are decoded when their pixels are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from stdistill._support.warn import warn

RGB = ("r", "g", "b")
LARGE_PX = 4096
"""A side beyond which an image without a pyramid or without tiles is worth a warning."""
PLAIN_COMPRESSIONS = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.ZSTD,
)
OME_UNITS_UM = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True)
class SlideImage:
    """An RGB image on disk."""

    levels: list[Any]
    """Dask arrays (3, height, width) uint8, the full resolution first; one chunk a tile."""
    mpp: float | None
    """µm per pixel as the file states it, `None` where it does not."""


@dataclass(frozen=True)
class TiffLevel:
    """One pyramid level of a TIFF as an array that reads only the tiles under what is asked for.

    It holds no open file, so it can be sent to other processes.
    """

    path: Path
    modified_ns: int
    level: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        tile = self._decode_tile(key)
        if tile is not None:
            return tile
        return np.asarray(_open_level(self.path, self.modified_ns, self.level, os.getpid())[key])

    def _decode_tile(self, key: Any) -> npt.NDArray[Any] | None:
        """Decode what is exactly one tile, in the calling thread: zarr would do so in a single one for all callers."""
        page = _open_page(self.path, self.modified_ns, self.level, os.getpid())
        if not page.is_tiled or page.axes != "YXS" or page.shape != self.shape:
            return None
        rows, columns, samples = key
        place, within = zip(divmod(rows.start, page.tilelength), divmod(columns.start, page.tilewidth), strict=True)
        end = min(rows.start + page.tilelength, self.shape[0]), min(columns.start + page.tilewidth, self.shape[1])
        if any(within) or (rows.stop, columns.stop) != end:
            return None
        number = place[0] * -(-self.shape[1] // page.tilewidth) + place[1]
        offset, n_bytes = page.dataoffsets[number], page.databytecounts[number]
        ((data, _),) = page.parent.filehandle.read_segments([offset], [n_bytes])
        tile, *_ = page.decode(data, number, jpegtables=page.jpegtables)
        if tile is None:  # left out of the file
            return None
        return np.asarray(tile[0, : rows.stop - rows.start, : columns.stop - columns.start, samples])


@lru_cache(maxsize=64)
def _open_page(path: Path, modified_ns: int, level: int, process: int) -> Any:
    """Open the first page of a level, for many threads; cached as that of :func:`_open_level` is."""
    tiff = tifffile.TiffFile(path)
    tiff.filehandle.set_lock(True)
    return tiff.series[0].levels[level].keyframe


@lru_cache(maxsize=64)
def _open_level(path: Path, modified_ns: int, level: int, process: int) -> Any:
    """Open a level.

    A file that was written anew in the meantime has another `modified_ns`. A forked process must not share the open
    file of its parent, whose reading position would be its own.
    """
    return zarr.open(tifffile.imread(path, aszarr=True, series=0, level=level), mode="r")


def read_slide_image(path: str | Path) -> SlideImage:
    """Open an RGB TIFF (OME-TIFF or any other that tifffile reads) without decoding it.

    Parameters
    ----------
    path
        The file. Its first series is taken: RGB, 8 bit, axes in any order, pyramidal or not. An alpha channel
        is left out.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is no TIFF, not whole, not RGB, or not 8 bit.
    """
    path = Path(path).absolute()
    if not path.is_file():
        msg = f"There is no H&E image {path}" + (", which is a folder." if path.is_dir() else ".")
        raise FileNotFoundError(msg)
    try:
        with tifffile.TiffFile(path) as tiff:
            return _open(tiff, path)
    except tifffile.TiffFileError as error:
        msg = f"{path.name} is no TIFF ({error}). Convert it, for example with `vips tiffsave --pyramid --tile`."
        raise ValueError(msg) from error


def _open(tiff: tifffile.TiffFile, path: Path) -> SlideImage:
    if not tiff.series:
        msg = f"{path.name} holds no image: copy it again, or export the H&E anew."
        raise ValueError(msg)
    series = tiff.series[0]
    _check_whole(series, path)
    axes = series.axes
    channel_axis = _channel_axis(axes, series.shape, path)
    _check_pixels(series.dtype, series.shape[channel_axis], series.keyframe, path)
    _warn_if_slow(series, path)
    modified_ns = path.stat().st_mtime_ns
    levels = [
        _as_cyx(TiffLevel(path, modified_ns, number, tuple(level.shape), level.dtype), axes, channel_axis)
        for number, level in enumerate(series.levels)
    ]
    return SlideImage(levels=levels, mpp=_stated_mpp(tiff))


def _check_whole(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise when pixels are said to lie behind the end of the file, as in one that was not copied to its end."""
    size = path.stat().st_size
    for level in series.levels:
        page = level.keyframe
        end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > size:
            msg = f"{path.name} is truncated: it has {size} bytes and should have at least {end}. Copy it again."
            raise ValueError(msg)


def _channel_axis(axes: str, shape: tuple[int, ...], path: Path) -> int:
    channel = [axis for axis, name in enumerate(axes) if name in "SC"]
    extra = [name for axis, name in enumerate(axes) if name not in "SCYX" and shape[axis] > 1]
    if len(channel) == 1 and not extra and {"Y", "X"} <= set(axes):
        return channel[0]
    found = " × ".join(f"{name} {size}" for name, size in zip(axes, shape, strict=True))
    msg = (
        f"{path.name} is no RGB image: its axes are {found}; expected Y, X and one of three colours. "
        + ("Is it the DAPI (morphology) image? " if not channel else "")
        + "Export the H&E as RGB."
    )
    raise ValueError(msg)


def _check_pixels(dtype: np.dtype[Any], n_channels: int, page: Any, path: Path) -> None:
    if dtype != np.uint8:
        msg = (
            f"{path.name} has pixels of type {dtype}; an H&E is expected as 8-bit RGB (uint8). Convert it, for "
            "example with `vips cast in.tif out.tif uchar --shift`."
        )
        raise ValueError(msg)
    photometric = page.photometric
    has_alpha = n_channels == 4 and photometric == tifffile.PHOTOMETRIC.RGB
    if n_channels != 3 and not has_alpha:
        msg = (
            f"{path.name} has {n_channels} channel{'s' * (n_channels > 1)}; an H&E has three (red, green, blue). "
            "Is it an immunofluorescence or DAPI image? Export the H&E as RGB."
        )
        raise ValueError(msg)
    # JPEG and JPEG 2000 decoders turn YCbCr into RGB; nothing does so for other compressions.
    is_decoded = photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in PLAIN_COMPRESSIONS
    if photometric == tifffile.PHOTOMETRIC.MINISBLACK:
        warn(f"{path.name} does not say that its three channels are red, green and blue; they are taken to be.")
    elif photometric != tifffile.PHOTOMETRIC.RGB and not is_decoded:
        msg = f"{path.name} stores its colours as {photometric.name}; an H&E is expected as RGB. Convert it."
        raise ValueError(msg)
    if has_alpha:
        warn(f"{path.name} has a fourth (alpha) channel, which is left out.")


def _warn_if_slow(series: tifffile.TiffPageSeries, path: Path) -> None:
    if max(series.shape) <= LARGE_PX:
        return
    lacks = [
        name for name, there in (("tiles", series.keyframe.is_tiled), ("pyramid", series.is_pyramidal)) if not there
    ]
    if lacks:
        warn(
            f"{path.name} has no {' and no '.join(lacks)}: reading will be slow. Convert it once, for example "
            "with `vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg --Q 90 --bigtiff`."
        )


def _as_cyx(level: TiffLevel, axes: str, channel_axis: int) -> Any:
    import dask.array as da

    chunks = _open_level(level.path, level.modified_ns, level.level, os.getpid()).chunks
    array = da.from_array(level, chunks=chunks, meta=np.empty((0,) * level.ndim, level.dtype))
    squeezed = tuple(axis for axis, name in enumerate(axes) if name not in "SCYX")
    order = (channel_axis, axes.index("Y"), axes.index("X"))
    return da.transpose(array, order + squeezed)[(slice(3), ..., *(0 for _ in squeezed))]


def _stated_mpp(tiff: tifffile.TiffFile) -> float | None:
    """µm per pixel from the OME-XML; other TIFFs state it in too many ways to be trusted."""
    if not tiff.ome_metadata:
        return None
    image = tifffile.xml2dict(tiff.ome_metadata).get("OME", {}).get("Image", {})
    pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
    unit = OME_UNITS_UM.get(pixels.get("PhysicalSizeXUnit", "µm"))
    size = pixels.get("PhysicalSizeX")
    return float(size) * unit if size and unit else None
