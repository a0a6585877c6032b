"""The last blocks of an encoder's vision transformer: which they are, and an encoder with others in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from stdistill._support.files import digest
from stdistill.encoders._catalogue import CATALOGUE
from stdistill.encoders._checkpoint import as_fingerprint
from stdistill.encoders._encoder import UNKNOWN_REVISION, Encoder
from stdistill.encoders._loaders import timm as timm_loader

if TYPE_CHECKING:
    from torch import Tensor, nn

FINETUNED = "-finetuned"
"""Ends the name of an encoder with other last blocks."""


def unfreeze_last(encoder: Encoder, module: nn.Module, n_blocks: int) -> None:
    """Let the last blocks of a vision transformer, and the norm behind them, have gradients, and nothing else.

    Parameters
    ----------
    encoder
        Of which `module` is.
    module
        What its ``load`` built.
    n_blocks
        Number of blocks.

    Raises
    ------
    ValueError
        When the module holds no vision transformer of timm, or one of fewer blocks.
    """
    from timm.models import VisionTransformer

    found = [part for part in module.modules() if isinstance(part, VisionTransformer)]
    if len(found) != 1:
        of_timm = [name for name, one in CATALOGUE.items() if getattr(one.load, "func", None) is timm_loader.load]
        msg = (
            f"The encoder {encoder.name!r} holds {len(found) or 'no'} vision transformers of timm, whose last blocks "
            f"could learn; expected one. There is one in {', '.join(of_timm)}, in the models of timm that are called "
            "vit_…, and in what sd.encoders.from_module makes of one."
        )
        raise ValueError(msg)
    (transformer,) = found
    if n_blocks > len(transformer.blocks):
        msg = f"The encoder {encoder.name!r} has {len(transformer.blocks)} blocks: {n_blocks} of them cannot learn."
        raise ValueError(msg)
    module.requires_grad_(False)
    for part in (*list(transformer.blocks)[-n_blocks:], transformer.norm, transformer.fc_norm):
        part.requires_grad_(True)


def with_blocks(encoder: Encoder, tensors: Mapping[str, Tensor]) -> Encoder:
    """Return an encoder that has other tensors in the place of some of its own.

    Parameters
    ----------
    encoder
        The encoder, which stays as it is.
    tensors
        By their names in the module that its ``load`` builds.
    """
    parts = (part for name, value in sorted(tensors.items()) for part in (name, value.numpy()))
    return replace(
        encoder,
        name=f"{encoder.name}{FINETUNED}",
        load=partial(_load, encoder, dict(tensors)),
        source=None,  # there is nothing to fetch that has this revision
        revision=as_fingerprint(digest(encoder.revision or UNKNOWN_REVISION, *parts)),
    )


def _load(encoder: Encoder, tensors: dict[str, Tensor]) -> nn.Module:
    module = encoder.load()
    unexpected = module.load_state_dict(tensors, strict=False).unexpected_keys
    if unexpected:
        msg = f"The encoder {encoder.name!r} has no {unexpected[0]}: the tuned blocks are of another encoder."
        raise ValueError(msg)
    return module
