"""How an encoder is run: on prepared crops, or on a whole window with the places of its crops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stdistill._slide.crops import show_grid
from stdistill._slide.plan import CropPlan, Window
from stdistill._support.arrays import Float64s
from stdistill._training.state import own_torch_state
from stdistill.encoders._encoder import Encoder, Precision

BLOCK_PX = 2048
"""Crops of larger windows are taken together in squares of this side, which bounds memory."""
STRIP_PX = 64
"""Rows that are normalised at once."""


class WindowEncoder(Protocol):
    """A module that encodes all crops of a window together."""

    grid_px: int
    """Windows begin and end at multiples of this, counted from the corner of the slide."""

    def encode_window(self, image: Tensor, origins: Tensor, side_px: int) -> Tensor:
        """Encode square crops of a normalised window (3, h, w), by their upper left corners (n, 2) in it, as (n, d).

        What comes out depends neither on the window nor on the other crops, but for rounding.
        """


def prepare(images: Tensor, encoder: Encoder) -> Tensor:
    """Cut the centre that the encoder takes, and normalise it."""
    if encoder.input_px is not None:
        margin = (images.shape[-1] - encoder.input_px) // 2
        images = images[..., margin : margin + encoder.input_px, margin : margin + encoder.input_px]
    return _normalize(images, encoder)


def _normalize(images: Tensor, encoder: Encoder) -> Tensor:
    """Normalise RGB (..., 3, h, w) from 0 to 255."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (encoder.mean, encoder.std))
    return (images / 255 - mean) / std


def prepared_px(encoder: Encoder, crop_px: int) -> int:
    """Side that crops are resampled to before :func:`prepare`."""
    return encoder.resize_px or encoder.input_px or crop_px


def run_encoder(encoder: Encoder, module: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    """Encode prepared images (b, 3, h, w) as (b, d), and check what comes out."""
    dtype = getattr(torch, precision)
    with torch.autocast(images.device.type, dtype=dtype, enabled=precision != "float32"):
        features = module(images)
    return check_features(encoder, features, len(images))


def check_features(encoder: Encoder, features: Tensor, n_crops: int) -> Tensor:
    """Return what an encoder gave for some crops in float32; raise unless it is (crops, d)."""
    width = "d" if encoder.dim is None else encoder.dim
    found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != n_crops:
        msg = f"The encoder {encoder.name!r} returned {found} for {n_crops} crops; expected ({n_crops}, {width})."
        raise ValueError(msg)
    if encoder.dim is not None and features.shape[1] != encoder.dim:
        msg = f"The encoder {encoder.name!r} returned {found}; it was announced to give {encoder.dim} features."
        raise ValueError(msg)
    return features.float()


@own_torch_state()
def measure_dim(encoder: Encoder, module: nn.Module, crop_px: int) -> int:
    """Try how many features an encoder gives, on the device where its module is.

    Raises
    ------
    ValueError
        When the module cannot take crops of that side.
    """
    side = encoder.input_px or crop_px
    place = next((weights.device for weights in module.parameters()), torch.device("cpu"))
    try:
        with torch.inference_mode():
            return run_encoder(encoder, module, torch.zeros(2, 3, side, side, device=place), "float32").shape[1]
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:  # timm's, and torch's, of shapes that do not go together
        msg = (
            f"The module of the encoder {encoder.name!r} failed when it was tried on {side} px: {error} If it takes "
            "another side, say which with input_px=: crops are resampled to it."
        )
        raise ValueError(msg) from error


def encode_window(
    encoder: Encoder,
    module: nn.Module,
    pixels: Tensor,
    plan: CropPlan,
    window: Window,
    crop_px: int,
    precision: Precision,
) -> Tensor:
    """Encode all crops of a window (height, width, 3) uint8 without cutting them: (n, d)."""
    taking = cast("WindowEncoder", module)
    scale = plan.box_side / crop_px  # pixels of the level under one of a crop
    margin = (encoder.seen_px(crop_px) - crop_px) // 2
    origins = plan.boxes[window.start : window.stop] / scale
    rows, order = [], []
    for crops in _blocks(origins, crop_px):
        low = np.floor((origins[crops].min(axis=0) - margin) / taking.grid_px).astype(int) * taking.grid_px
        high = np.ceil((origins[crops].max(axis=0) + crop_px + margin) / taking.grid_px).astype(int)
        high *= taking.grid_px
        image = torch.empty(3, *(high - low)[::-1].tolist(), device=pixels.device)
        for top in range(low[1], high[1], STRIP_PX):  # so that passes over pixels are made in the cache
            begin, end = np.array([low[0], top]), np.array([high[0], min(top + STRIP_PX, high[1])])
            shown = show_grid(pixels, (window.left, window.top), scale, begin, end, encoder.interpolation)
            image[:, top - low[1] : end[1] - low[1]] = _normalize(shown, encoder)
        with torch.autocast(image.device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
            features = taking.encode_window(image, torch.from_numpy(origins[crops] - low), crop_px)
        rows.append(check_features(encoder, features, len(crops)))
        order.append(crops)
    places = torch.from_numpy(np.argsort(np.concatenate(order))).to(pixels.device)
    return torch.cat(rows)[places]


def _blocks(origins: Float64s, crop_px: int) -> Iterator[npt.NDArray[np.int64]]:
    """Group crops by squares, unless all lie in one or little more."""
    if np.all(np.ptp(origins, axis=0) <= 1.5 * BLOCK_PX):
        yield np.arange(len(origins))
        return
    squares = np.floor((origins + crop_px / 2) / BLOCK_PX).astype(np.int64)
    _, which = np.unique(squares, axis=0, return_inverse=True)
    for square in range(which.max() + 1):
        yield np.flatnonzero(which == square)
