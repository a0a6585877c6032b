"""Encoders by name: those of the catalogue, those of timm, and the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._support.warn import warn
from stdistill.encoders._access import TIMEOUT_S, check
from stdistill.encoders._catalogue import CATALOGUE, RUNS_CODE
from stdistill.encoders._checkpoint import find_weights, fingerprint
from stdistill.encoders._encoder import DenseEncoder, Encoder
from stdistill.encoders._hub import RANDOM, is_local
from stdistill.encoders._loaders import timm as timm_loader
from stdistill.encoders._module import hash_weights

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"
PAPERS, BUILT_IN = "uni2-h", "texture"
"""What "auto" stands for: the encoder of Hizmi et al. 2026, and the one that needs no weights."""

_own: dict[str, Encoder] = {}


def registered() -> dict[str, Encoder]:
    """Return the encoders that have a name here; where the user took one of the catalogue's, the user's."""
    return CATALOGUE | _own


def get(name: str, *, weights: str | Path | None = None, trust_remote_code: bool = False) -> Encoder:
    """Look up an encoder by name.

    Parameters
    ----------
    name
        A name of :func:`stdistill.encoders.list`, or any name of timm: ``"vit_small_patch16_224"``, with a tag
        (``"resnet50.a1_in1k"``), of the Hugging Face hub (``"hf-hub:owner/model"``) or of a folder with timm's
        ``config.json`` (``"local-dir:path"``). Models of timm are normalised and resized as their own configuration
        says.
    weights
        Where the weights are, instead of the hub: a file (``.safetensors``, or what ``torch.save`` wrote), or a folder
        with ``model.safetensors`` or ``pytorch_model.bin``, such as a copy of the repository; encoders of transformers
        need its ``config.json`` too. ``"random"``: none, but random ones, the same every time, for trying things out
        without a download; the name then ends in ``-random``.
    trust_remote_code
        Whether Python code from the encoder's repository may run, where it has some (Hibou).

    Returns
    -------
    The encoder. Nothing is downloaded or loaded yet, but for the description of a model of ``"hf-hub:"``.

    Raises
    ------
    KeyError
        When no encoder and no model of timm has that name.
    FileNotFoundError
        When there is nothing at `weights`.
    ValueError
        When `weights` cannot replace what the encoder has or holds none (a pointer of Git LFS, a web page), or it needs
        `trust_remote_code`.

    Notes
    -----
    Weights are read as tensors only; pickled code in a file is refused.

    Examples
    --------
    >>> import stdistill as sd
    >>> sd.encoders.get("uni2-h").precision
    'bfloat16'
    >>> sd.encoders.get("vit_tiny_patch16_224", weights="random").dim
    192
    """
    if not isinstance(name, str):
        msg = f"name must be a name of sd.encoders.list() or of timm, found {type(name).__name__}."
        raise TypeError(msg)
    source = _own_source(weights)
    known = registered().get(name)
    if known is None:
        if not timm_loader.is_timm_name(name):
            raise KeyError(_suggest(name))
        encoder = timm_loader.describe(name, source=source)
    elif source is None:
        encoder = known
    elif name in _own or known.source is None:
        why = "it was registered with its own" if name in _own else "it has none"
        msg = f"The weights of {name!r} cannot be replaced: {why}."
        raise ValueError(msg)
    else:
        load: Callable[..., nn.Module] = known.load
        encoder = replace(known, source=source, load=partial(load, source=source))
    if name in RUNS_CODE and name not in _own and not trust_remote_code:
        repository = CATALOGUE[name].source
        msg = (
            f"{name!r} is built by Python code of the repository {repository}, which could do anything on this "
            f"machine. Look at it at https://huggingface.co/{repository}/tree/main, then pass "
            f'sd.encoders.get("{name}", trust_remote_code=True), or --trust-remote-code to a command.'
        )
        raise ValueError(msg)
    if source == RANDOM:
        return replace(encoder, name=f"{encoder.name}-random", licence="none", commercial=True, gated=False)
    if encoder.source is not None and is_local(encoder.source):
        return replace(encoder, revision=fingerprint(find_weights(Path(encoder.source))))
    return encoder


def register(encoder: Encoder, *, overwrite: bool = False) -> None:
    """Give an encoder a name for the rest of the session.

    Parameters
    ----------
    encoder
        The encoder; its name is the one it gets.
    overwrite
        Replace an encoder that has the name already.

    Returns
    -------
    `None`.

    Raises
    ------
    TypeError
        When it is not an :class:`stdistill.encoders.Encoder`.
    ValueError
        When the name is taken and `overwrite` is not set.

    Notes
    -----
    Registered encoders belong to this process: processes that it starts do not know them.

    Examples
    --------
    >>> import torch
    >>> import stdistill as sd
    >>> colour = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> sd.encoders.register(sd.encoders.from_module(colour, mean=(0, 0, 0), std=(1, 1, 1), name="colour"))
    >>> "colour" in sd.encoders.list().index
    True
    """
    if not isinstance(encoder, Encoder):
        raise TypeError(_not_an_encoder(encoder))
    if encoder.name == AUTO:
        msg = f"{AUTO!r} stands for {PAPERS!r} or {BUILT_IN!r}; give the encoder another name."
        raise ValueError(msg)
    if encoder.name in registered() and not overwrite:
        msg = f"There is an encoder {encoder.name!r} already: give this one another name, or pass overwrite=True."
        raise ValueError(msg)
    _own[encoder.name] = encoder


def resolve(encoder: str | Encoder | Sequence[str | Encoder]) -> list[Encoder]:
    """Return the encoders that are meant, each checked to be at hand; ``"auto"`` is decided here."""
    if isinstance(encoder, str) or not isinstance(encoder, Sequence):
        encoder = [encoder]
    found = [_resolve(one) for one in encoder]
    names = [one.name for one in found]
    if not names or len(set(names)) < len(names):
        msg = f"encoder must name one encoder, or several different ones; found {names}."
        raise ValueError(msg)
    return found


def _resolve(encoder: str | Encoder) -> Encoder:
    if not isinstance(encoder, str | Encoder):
        raise TypeError(_not_an_encoder(encoder))
    if isinstance(encoder, DenseEncoder):
        return _resolve(encoder.of).dense()
    if encoder == AUTO:
        return _auto()
    found = get(encoder) if isinstance(encoder, str) else encoder
    revision = check(found)
    built_in = CATALOGUE.get(found.name)
    if revision is None and found.source is None and (built_in is None or found.load is not built_in.load):
        revision = hash_weights(found.load())  # of an encoder of one's own, which does not say which weights it has
    return found if revision == found.revision else replace(found, revision=revision)


def _auto() -> Encoder:
    papers = get(PAPERS)
    try:
        return replace(papers, revision=check(papers, timeout_s=TIMEOUT_S))
    except OSError as error:
        reason = str(error)
    warn(
        f'encoder="auto" uses the built-in encoder {BUILT_IN!r}, not {PAPERS!r}, the encoder of the paper. It gives '
        "statistics of colour and texture: for trying things out, no pathology foundation model. Name an encoder for "
        f"final features; encoder={BUILT_IN!r} silences this warning. {reason}"
    )
    return get(BUILT_IN)


def _own_source(weights: str | Path | None) -> str | None:
    """Return the source of the weights that the user gives, if any."""
    if weights is None:
        return None
    if weights == RANDOM:
        return RANDOM
    path = Path(weights).expanduser().resolve()
    find_weights(path)
    return str(path)


def _suggest(name: str) -> str:
    import timm

    names = [AUTO, *registered()]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    near += difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.8)
    meant = f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
    return (
        f"There is no encoder {name!r}.{meant} There are: {', '.join(names)}, and every name of timm.list_models(). "
        'For a checkpoint of your own: sd.encoders.get("name of its architecture", weights="path").'
    )


def _not_an_encoder(found: object) -> str:
    from torch import nn

    if isinstance(found, nn.Module):
        return (
            f"A bare module ({type(found).__name__}) does not say how its images are normalised: wrap it with "
            "sd.encoders.from_module(module, mean=…, std=…, input_px=…)."
        )
    return f"Expected a name of sd.encoders.list() or an Encoder, found {type(found).__name__}."
