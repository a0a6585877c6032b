"""Periodic Gaussian random fields, and fast ways to sample rasters inside compiled kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stdistill._support.jit import njit

FloatImage = npt.NDArray[np.float32]

TEXTURE_SIZE = 1024
"""Rows and columns of a texture: a power of two, so that sampling wraps round by a mask."""


def random_field(
    rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float, *, roughness: float = 0.0
) -> FloatImage:
    """Return a Gaussian random field of zero mean and unit variance.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        Rows and columns.
    wavelength_px
        Typical distance between neighbouring bumps, in pixels.
    roughness
        Share of the amplitude that sits in a power-law tail of finer detail, 0 for a smooth field.
    """
    # Padding by one wavelength keeps opposite edges from being copies of each other.
    pad = int(np.ceil(wavelength_px))
    padded = tuple(_even(n + pad) for n in shape)
    spectrum = np.fft.rfft2(rng.standard_normal(padded))
    fy = np.fft.fftfreq(padded[0])[:, None]
    fx = np.fft.rfftfreq(padded[1])[None, :]
    relative = np.hypot(fx, fy) * wavelength_px
    smooth = np.exp(-0.5 * (2.0 * relative) ** 2)
    field = _unit(np.fft.irfft2(spectrum * smooth, s=padded))
    if roughness:
        tail = np.where(relative > 0.5, np.maximum(relative, 0.5) ** -2.0, 0.0)
        field = (1 - roughness) * field + roughness * _unit(np.fft.irfft2(spectrum * tail, s=padded))
    return _unit(field[: shape[0], : shape[1]]).astype(np.float32)


def periodic_texture(rng: np.random.Generator, low_px: float, high_px: float) -> FloatImage:
    """Return a tileable band-passed noise texture with wavelengths between ``low_px`` and ``high_px``."""
    spectrum = np.fft.rfft2(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE)))
    frequency = np.hypot(np.fft.fftfreq(TEXTURE_SIZE)[:, None], np.fft.rfftfreq(TEXTURE_SIZE)[None, :])
    band = np.exp(-((frequency * low_px) ** 2)) - np.exp(-((frequency * high_px) ** 2))
    return _unit(np.fft.irfft2(spectrum * band, s=(TEXTURE_SIZE, TEXTURE_SIZE))).astype(np.float32)


def _even(n: int) -> int:
    """Round up to an even number."""
    return n + n % 2


def _unit(field: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scale a field to zero mean and unit variance."""
    centred = field - field.mean()
    return np.asarray(centred / max(float(centred.std()), 1e-12))


@njit(nogil=True, cache=True, inline="always")
def sample_texture(texture: FloatImage, x: float, y: float) -> float:
    """Sample a periodic texture bilinearly at any ``x``, ``y`` in texture pixels."""
    fx, fy = np.floor(x), np.floor(y)
    tx, ty = np.float32(x - fx), np.float32(y - fy)
    x0, y0 = int(fx) & (TEXTURE_SIZE - 1), int(fy) & (TEXTURE_SIZE - 1)
    x1, y1 = (x0 + 1) & (TEXTURE_SIZE - 1), (y0 + 1) & (TEXTURE_SIZE - 1)
    top = texture[y0, x0] + tx * (texture[y0, x1] - texture[y0, x0])
    bottom = texture[y1, x0] + tx * (texture[y1, x1] - texture[y1, x0])
    return float(top + ty * (bottom - top))


@njit(nogil=True, cache=True, inline="always")
def sample_raster(raster: npt.NDArray[np.generic], x: float, y: float) -> float:
    """Sample a raster bilinearly at ``x``, ``y`` in raster pixels (corner based), clamped at the edges."""
    rows, columns = raster.shape
    gx = min(max(x - 0.5, 0.0), columns - 1.001)
    gy = min(max(y - 0.5, 0.0), rows - 1.001)
    x0, y0 = int(gx), int(gy)
    tx, ty = np.float32(gx - x0), np.float32(gy - y0)
    top = raster[y0, x0] * (np.float32(1) - tx) + raster[y0, x0 + 1] * tx
    bottom = raster[y0 + 1, x0] * (np.float32(1) - tx) + raster[y0 + 1, x0 + 1] * tx
    return float(top * (np.float32(1) - ty) + bottom * ty)


def sample_many(
    raster: npt.NDArray[np.generic], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Sample a raster bilinearly at many places."""
    values = np.empty(len(x))
    _sample_many(values, raster, x, y)
    return values


@njit(nogil=True, cache=True)
def _sample_many(
    values: npt.NDArray[np.float64],
    raster: npt.NDArray[np.generic],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
) -> None:
    """Fill ``values`` with the raster at every place."""
    for i in range(len(values)):
        values[i] = sample_raster(raster, x[i], y[i])


@njit(nogil=True, cache=True, inline="always")
def smoothstep(x: float) -> float:
    """Rise from 0 to 1 as ``x`` does, without corners."""
    t = min(max(x, 0.0), 1.0)
    return t * t * (3 - 2 * t)
