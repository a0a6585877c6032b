"""Encoders made of the user's own modules."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stdistill._support.arrays import Interpolation
from stdistill._support.files import digest
from stdistill.encoders._checkpoint import as_fingerprint
from stdistill.encoders._encoder import Encoder, Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
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
    The encoder. Its revision is a hash of the module's weights and one of its structure, so that features of other
    weights, or of the same in another network, are told apart. What code a ``forward`` of your own runs is not in it:
    give another `name` to another version of it.

    Raises
    ------
    TypeError
        When `module` is not a ``torch.nn.Module``.
    ValueError
        When `mean`, `std` or a size is not what is expected; by its ``load``, when the module was changed since.

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
    revision = _revision(module)
    return Encoder(
        name=name or re.sub(r"[^\w.-]+", "-", type(module).__name__, flags=re.ASCII).lstrip("_") or "module",
        dim=dim,
        load=partial(_copy, module, revision),
        mean=tuple(mean),  # type: ignore[arg-type]
        std=tuple(std),  # type: ignore[arg-type]
        input_px=input_px,
        resize_px=resize_px,
        interpolation=interpolation,
        precision=precision,
        revision=revision,
        licence=licence,
        n_params=sum(parameter.numel() for parameter in module.parameters()),
        pooling="the module's own",
    )


def _copy(module: nn.Module, revision: str) -> nn.Module:
    """Copy a module for one run, which must be the one that was described."""
    if _revision(module) != revision:
        msg = (
            f"The {type(module).__name__} was changed since sd.encoders.from_module: its weights or settings are no "
            "longer those that the encoder's revision stands for. Call sd.encoders.from_module again."
        )
        raise ValueError(msg)
    return copy.deepcopy(module).cpu().float().eval().requires_grad_(False)


def _revision(module: nn.Module) -> str:
    return f"{hash_weights(module)}.{_hash_structure(module)}"


def hash_weights(module: nn.Module) -> str:
    """Hash the weights of a module, as they are recorded."""
    import torch

    parts: list[str | npt.NDArray[np.uint8]] = [type(module).__qualname__]
    for key, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            parts.append(f"{key} {value.dtype} {tuple(value.shape)}")
            parts.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return as_fingerprint(digest(*parts))


def _hash_structure(module: nn.Module) -> str:
    """Hash what the weights do not tell: which layers, with which settings, in which order."""
    weights = module.state_dict()
    parts = [repr(module)]
    for name, part in module.named_modules():
        if not type(part).__module__.startswith("torch."):  # those say all of their settings in the line above
            settings = {key: value for key, value in vars(part).items() if key[0] != "_" and key != "training"}
            parts.append(f"{name} {type(part).__qualname__} {_spell(settings)}")
    for name, value in module.named_buffers():
        if name not in weights:
            parts.append(f"{name} {value.dtype} {value.tolist()}")
    return digest(*(f"{part}\n" for part in parts))[:8]


def _spell(value: Any) -> str:
    """Write a setting such that it reads the same in every process: of what has no text of its own, the type."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_spell(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_spell(each) for each in value) + "]"
    if isinstance(value, partial):
        return f"{_spell(value.func)} of {_spell(value.args)} {_spell(value.keywords)}"
    text = repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__)) if " at 0x" in text else text
