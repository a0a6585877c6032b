"""Encoders built by the optional package transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stdistill.encoders._hub import RANDOM, commit, fetch, is_local

if TYPE_CHECKING:
    from torch import nn


def load(
    name: str,
    *,
    pooling: Literal["class", "class_and_mean", "pooler"],
    source: str,
    revision: str | None = None,
    runs_code: bool = False,
) -> nn.Module:
    """Build an encoder from a repository of the hub, or from a folder with a copy of one (config.json and weights)."""
    if source == RANDOM:
        msg = f"The architecture of {name!r} is known only from its repository: there are no random weights for it."
        raise ValueError(msg)
    try:
        from transformers import AutoModel
    except ImportError as error:
        msg = f'The encoder {name!r} needs the package transformers: pip install "stdistill[transformers]"'
        raise ImportError(msg) from error
    from stdistill.encoders._loaders.pooling import ClassAndMean, ClassToken, PoolerOutput, Tokens

    weights = fetch(name, source, revision)
    try:
        network, report = AutoModel.from_pretrained(
            weights.parent if is_local(source) else source,
            revision=None if is_local(source) else commit(weights),
            trust_remote_code=runs_code,
            weights_only=True,
            output_loading_info=True,
        )
    except ImportError as error:
        if not runs_code:
            raise
        msg = (
            f"The code of {source} cannot be imported ({error}). It may be written for an older transformers: "
            'try pip install "transformers<5".'
        )
        raise ImportError(msg) from error
    if missing := sorted(report["missing_keys"]):
        msg = f"{weights} does not hold the weights of {name!r}: {len(missing)} are missing ({', '.join(missing[:3])})."
        raise ValueError(msg)
    if pooling == "pooler":
        encoder: nn.Module = PoolerOutput(network)
    elif pooling == "class":
        encoder = ClassToken(Tokens(network))
    else:
        encoder = ClassAndMean(Tokens(network), 1)
    return encoder.float().eval().requires_grad_(False)
