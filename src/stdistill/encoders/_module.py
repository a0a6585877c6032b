"""Encoders made of the user's own modules."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from stdistill._support.arrays import Interpolation
from stdistill._support.files import digest
from stdistill.encoders._checkpoint import as_fingerprint
from stdistill.encoders._encoder import Encoder, Precision

if TYPE_CHECKING:
    from torch import nn


def from_module(
    module: nn.Module,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    input_px: int | None = None,
    resize_px: int | None = None,
    interpolation: Interpolation = "bilinear",
    precision: Precision = "float32",
    name: str | None = None,
    dim: int | None = None,
    licence: str = "unknown",
) -> Encoder:
    """Make an encoder of any module.

    Parameters
    ----------
    module
        Takes normalised crops (b, 3, h, w) in float32, gives features (b, d). It is copied whenever it is loaded, and
        stays as it is.
    mean, std
        Normalisation of RGB in [0, 1], three numbers each.
    input_px
        Side that the module takes, in pixels; `None`: crops go in as they are.
    resize_px
        Side that crops are resampled to before the centre of `input_px` is cut out; `None`: `input_px`.
    interpolation
        How crops are resampled, ``"bilinear"`` or ``"bicubic"``.
    precision
        Arithmetic on a GPU: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    name
        Recorded with the features; `None`: the name of the module's class.
    dim
        Features per crop; `None`: found out when it is first run.
    licence
        Licence of the weights, recorded with the features.

    Returns
    -------
    The encoder. Its revision is a hash of the module's weights, so that features of other weights are told apart.

    Raises
    ------
    TypeError
        When `module` is not a ``torch.nn.Module``.
    ValueError
        When `mean`, `std` or a size is not what is expected.

    Examples
    --------
    >>> import torch
    >>> import stdistill as sd
    >>> mean_colour = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> encoder = sd.encoders.from_module(mean_colour, mean=(0, 0, 0), std=(1, 1, 1), name="mean-colour")
    >>> encoder.load()(torch.ones(2, 3, 8, 8)).shape
    torch.Size([2, 3])
    """
    from torch import nn

    if not isinstance(module, nn.Module):
        msg = f"module must be a torch.nn.Module, found {type(module).__name__}."
        raise TypeError(msg)
    return Encoder(
        name=name or re.sub(r"[^\w.-]+", "-", type(module).__name__, flags=re.ASCII).lstrip("_") or "module",
        dim=dim,
        load=partial(_copy, module),
        mean=tuple(mean),  # type: ignore[arg-type]
        std=tuple(std),  # type: ignore[arg-type]
        input_px=input_px,
        resize_px=resize_px,
        interpolation=interpolation,
        precision=precision,
        revision=_hash_weights(module),
        licence=licence,
        n_params=sum(parameter.numel() for parameter in module.parameters()),
        pooling="the module's own",
    )


def _copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().float().eval().requires_grad_(False)


def _hash_weights(module: nn.Module) -> str:
    import torch

    parts: list[str | bytes] = [type(module).__qualname__]
    for key, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            parts.append(f"{key} {value.dtype} {tuple(value.shape)}")
            parts.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return as_fingerprint(digest(*parts))
