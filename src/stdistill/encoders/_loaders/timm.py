"""Encoders built by timm: those of the catalogue from their exact arguments, any other by its timm name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdistill.encoders._checkpoint import find_weights, load_into
from stdistill.encoders._encoder import Encoder
from stdistill.encoders._hub import RANDOM, explain, fetch, hub_errors

if TYPE_CHECKING:
    from torch import nn

SEED = 0
"""Seed of random weights."""
HUB, FOLDER = "hf-hub:", "local-dir:"
"""timm's prefixes for models that a ``config.json`` describes."""


def load(
    name: str,
    architecture: str,
    *,
    arguments: Mapping[str, Any],
    source: str,
    revision: str | None = None,
    swiglu: bool = False,
    class_and_mean: bool = False,
) -> nn.Module:
    """Build an encoder of the catalogue with weights from the hub, a local file or folder, or random ones."""
    from stdistill.encoders._loaders.passes import fold_scales
    from stdistill.encoders._loaders.pooling import ClassAndMean

    build = partial(build_network, architecture, arguments, swiglu=swiglu)
    network = _seeded(build) if source == RANDOM else load_into(build, fetch(name, source, revision), name=name)
    fold_scales(network)
    if class_and_mean:
        network = ClassAndMean(network, int(network.num_prefix_tokens))  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)


def build_network(architecture: str, arguments: Mapping[str, Any], *, swiglu: bool = False) -> nn.Module:
    """Build a network of timm without weights and without a classifier."""
    import timm
    from torch import nn

    from stdistill.encoders._loaders.passes import SwiGLU

    layers: dict[str, Any] = {"mlp_layer": SwiGLU, "act_layer": nn.SiLU} if swiglu else {}
    return timm.create_model(architecture, pretrained=False, num_classes=0, **layers, **arguments)


def is_timm_name(name: str) -> bool:
    """Whether timm can build a model of that name."""
    import timm

    return name.startswith((HUB, FOLDER)) or timm.is_model(name)


def describe(name: str, *, source: str | None) -> Encoder:
    """Describe a model of timm by its own configuration.

    `source` replaces its pretrained weights: a local file or folder, or ``"random"``.
    """
    import timm
    import torch
    from timm.data import resolve_data_config  # type: ignore[attr-defined]

    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER)).expanduser().resolve()
        name, source = f"{FOLDER}{folder}", source or str(find_weights(folder))
    try:
        with hub_errors(partial(explain, name, name.removeprefix(HUB)), name.removeprefix(HUB)), torch.device("meta"):
            network = build_network(name, {})
    except RuntimeError as error:  # an unknown tag of a known architecture
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        msg = f"timm cannot build {name!r}: {error} Pretrained variants of it: {tags}."
        raise ValueError(msg) from error
    card: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    weights = str(source or card.get("hf_hub_id") or card.get("url") or "")
    if not weights:
        msg = f'timm has no pretrained weights for {name!r}. Give weights="path", or weights="random" to try it out.'
        raise ValueError(msg)
    data = resolve_data_config(pretrained_cfg=card)  # type: ignore[no-untyped-call]
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        msg = f"{name!r} takes images of {channels} × {height} × {width}; expected RGB crops as high as wide."
        raise ValueError(msg)
    with torch.device("meta"), torch.inference_mode():
        shape = tuple(network.eval()(torch.empty(1, channels, height, width)).shape)
    if len(shape) != 2:
        msg = f"{name!r} gives an output of shape {shape} per crop; expected one vector, (1, dim)."
        raise ValueError(msg)
    resize_px = math.floor(height / data["crop_pct"])
    pretrained = source is None
    return Encoder(
        name=_key(name, card.get("tag") if pretrained else None),
        dim=shape[1],
        load=partial(load_by_name, name, source=None if pretrained else weights, repository=weights),
        mean=data["mean"],
        std=data["std"],
        input_px=height,
        resize_px=resize_px if resize_px > height else None,
        interpolation=data["interpolation"] if data["interpolation"] in {"bilinear", "bicubic"} else "bicubic",
        source=weights,
        licence=str(card.get("license") or "unknown") if pretrained else "unknown",
        gated=None if name.startswith(HUB) else False,
        n_params=sum(parameter.numel() for parameter in network.parameters()),
        reference=str(card.get("origin_url") or "https://github.com/huggingface/pytorch-image-models"),
        pooling=str(getattr(network, "global_pool", "")) or "as timm pools",
    )


def load_by_name(name: str, *, source: str | None, repository: str) -> nn.Module:
    """Build a model of timm by name, with its pretrained weights unless another source is given."""
    import timm

    build = partial(build_network, name, {})
    if source == RANDOM:
        network = _seeded(build)
    elif source is None and not name.startswith(HUB):
        with hub_errors(partial(explain, name, repository), repository):
            network = timm.create_model(name, pretrained=True, num_classes=0)
    else:
        with hub_errors(partial(explain, name, repository), repository):
            path = fetch(name, source or repository, None)
            network = load_into(build, path, name=name, ignored=_classifiers(name))
    return network.eval().requires_grad_(False)


def _classifiers(name: str) -> tuple[str, ...]:
    """Name the layers of a pretrained network that an encoder has no use for."""
    import torch

    with torch.device("meta"):
        card: dict[str, Any] = build_network(name, {}).pretrained_cfg  # type: ignore[assignment]
    classifiers = card.get("classifier") or ()
    return (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)


def _seeded(build: partial[nn.Module]) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def _key(name: str, tag: str | None) -> str:
    """Make a name that can be a key: folders by their last part, and with the tag that says which weights."""
    if name.startswith(FOLDER):
        name = Path(name.removeprefix(FOLDER)).name
    if tag and "." not in name and not name.startswith(HUB):
        name = f"{name}.{tag}"
    return re.sub(r"[^\w.-]+", "-", name.removeprefix(HUB), flags=re.ASCII).lstrip("_")
