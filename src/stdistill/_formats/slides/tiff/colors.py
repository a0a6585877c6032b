"""What the samples of a TIFF mean, and how they become RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tifffile

from stdistill._formats.slides.tiff.layout import Layout
from stdistill._slide.glass import Color, over_glass
from stdistill._support.arrays import Pixels
from stdistill._support.warn import warn

Alpha = Literal["unassociated", "associated"]

PLAIN_COMPRESSIONS = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.ZSTD,
    tifffile.COMPRESSION.LERC,
)
"""Those whose decoders give samples as they were stored; all others turn YCbCr into RGB."""
JPEG_2000 = (
    tifffile.COMPRESSION.APERIO_JP2000_YCBC,
    tifffile.COMPRESSION.APERIO_JP2000_RGB,
    tifffile.COMPRESSION.JPEG_2000_LOSSY,
    tifffile.COMPRESSION.JPEG2000,
)
HEADER_BYTES = 4096
"""Of a JPEG 2000 codestream: more than it takes to say how it is coded."""
ALPHA: dict[int, Alpha] = {
    tifffile.EXTRASAMPLE.UNSPECIFIED: "unassociated",
    tifffile.EXTRASAMPLE.ASSOCALPHA: "associated",
    tifffile.EXTRASAMPLE.UNASSALPHA: "unassociated",
}
# Full-range YCbCr to RGB (ITU-R BT.601, as in JFIF): shares of Cb - 128 and Cr - 128 in each colour.
FROM_CB = np.array([0.0, -0.344136, 1.772], np.float32)
FROM_CR = np.array([1.402, -0.714136, 0.0], np.float32)


@dataclass(frozen=True)
class Colors:
    """How samples become RGB."""

    alpha: Alpha | None
    """How transparent pixels are stored, where there is a fourth sample for it."""
    is_ycbcr: bool
    """Whether decoded samples are YCbCr."""

    def to_rgb(self, samples: Pixels, glass: Color) -> Pixels:
        """Turn samples (height, width, n) into RGB over glass, as a transparent slide lies on it."""
        rgb: Pixels = from_ycbcr(samples[..., :3]) if self.is_ycbcr else samples[..., :3]
        if self.alpha is None:
            return rgb
        return over_glass(rgb, samples[..., 3], glass, is_multiplied=self.alpha == "associated")


def from_ycbcr(samples: Pixels) -> Pixels:
    """Turn YCbCr (height, width, 3) of the full range into RGB."""
    y, cb, cr = (samples[..., number, None].astype(np.float32) for number in range(3))
    colors = y + (cb - 128) * FROM_CB + (cr - 128) * FROM_CR
    rgb: Pixels = np.clip(colors + 0.5, 0, 255).astype(np.uint8)
    return rgb


def find_colors(layout: Layout, dtype: np.dtype[Any] | None, page: Any, name: str) -> Colors:
    """Tell what the samples of an image mean.

    Raises
    ------
    ValueError
        When it is no RGB of 8 bits, and nothing that can be turned into it.
    """
    if not layout.is_plane or layout.n_channels == 0:
        msg = (
            f"{name} is no RGB image: its axes are {layout}; expected Y, X and one of three colours. "
            + ("Is it the DAPI (morphology) image? " if layout.n_channels == 0 else "")
            + "Export the H&E as RGB."
        )
        raise ValueError(msg)
    if dtype != np.uint8:
        msg = (
            f"{name} has pixels of type {dtype}; an H&E is expected as 8-bit RGB (uint8). Is it a fluorescence image? "
            "If not, convert it, for example with `vips cast in.tif out.tif uchar --shift`."
        )
        raise ValueError(msg)
    n_channels, photometric = layout.n_channels, page.photometric
    has_alpha = n_channels == 4 and photometric == tifffile.PHOTOMETRIC.RGB
    if n_channels != 3 and not has_alpha:
        msg = (
            f"{name} has {n_channels} channel{'s' * (n_channels > 1)}; an H&E has three (red, green, blue). "
            "Is it an immunofluorescence or DAPI image? Export the H&E as RGB."
        )
        raise ValueError(msg)
    is_decoded = (
        photometric == tifffile.PHOTOMETRIC.YCBCR
        and page.compression not in PLAIN_COMPRESSIONS
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
    )
    if photometric == tifffile.PHOTOMETRIC.MINISBLACK:
        warn(f"{name} does not say that its three channels are red, green and blue; they are taken to be.")
    elif photometric != tifffile.PHOTOMETRIC.RGB and not is_decoded:
        stored = getattr(photometric, "name", photometric)
        msg = f"{name} stores its colours as {stored}; an H&E is expected as RGB. Convert it."
        raise ValueError(msg)
    return Colors(_find_alpha(page, name) if has_alpha else None, gives_ycbcr(page))


def _find_alpha(page: Any, name: str) -> Alpha | None:
    kind = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNSPECIFIED
    if kind == tifffile.EXTRASAMPLE.UNSPECIFIED:
        warn(f"{name} does not say what its fourth channel is; it is taken to be opacity (alpha).")
    return ALPHA[kind]


def gives_ycbcr(page: Any) -> bool:
    """Whether the decoder of a page gives YCbCr, as that of JPEG 2000 does with what was stored so.

    It converts by itself only colours of which there are fewer pixels than of brightness.
    """
    stored = page.compression == tifffile.COMPRESSION.APERIO_JP2000_YCBC or (
        page.compression in JPEG_2000 and page.photometric == tifffile.PHOTOMETRIC.YCBCR
    )
    if not stored:
        return False
    handle = page.parent.filehandle
    for offset, n_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset > 0 and n_bytes > 0:
            handle.seek(offset)
            return not _gives_rgb(handle.read(min(n_bytes, HEADER_BYTES)))
    return False


def _gives_rgb(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream is decoded to RGB: by its own colour transform, or as subsampled YCbCr."""
    start = codestream.find(b"\xff\x4f\xff\x51")  # SOC and SIZ (ISO 15444-1, annex A)
    if start < 0:
        return True
    size = codestream[start + 2 :]
    n_components = int.from_bytes(size[38:40])
    steps = {size[41 + 3 * number : 43 + 3 * number] for number in range(n_components)}
    default = codestream.find(b"\xff\x52", start)  # COD
    has_transform = default >= 0 and codestream[default + 8] == 1
    is_boxed_ycbcr = b"colr\x01\x00\x00\x00\x00\x00\x12" in codestream[:start]  # enumerated colour space 18, sYCC
    return has_transform or len(steps) > 1 or is_boxed_ycbcr
