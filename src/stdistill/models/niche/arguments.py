"""How large a niche network is: the arguments of every function that trains one."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from stdistill._support.checks import check_choice, check_integer
from stdistill._training.arguments import DEFAULTS, TrainingArguments

Head = Literal["linear", "prototypes"]
Centering = Literal["centering", "sinkhorn"]
"""How the teacher of a self-distillation is kept from giving all cells one niche."""

SIZES = {
    "small": {"width": 128, "depth": 2, "n_heads": 4},
    "base": {"width": 384, "depth": 4, "n_heads": 8},
}
"""Presets (our choice): one that trains in minutes on two CPU cores, and one of the size of a small vision transformer.

The paper states neither width nor depth."""
N_FREQUENCIES = 6
"""The highest resolves a 32nd of the radius (our choice): about 2 µm, less than a nucleus."""


class NetworkArguments(TypedDict, total=False):
    """How large a niche network is, and how much of a neighbourhood it reads.

    Parameters
    ----------
    size
        ``"small"`` (width 128, 2 layers, 4 heads) trains in minutes on two CPU cores. ``"base"`` (384, 4, 8) is larger;
        whether it finds better niches was not measured.
    width, depth, n_heads
        Width of the tokens, number of layers, heads of each; by default those of `size`.
    n_frequencies
        Frequencies of the encoding of positions.
    dropout
        Share of activations set to 0 in training.
    max_tokens
        Cells of a neighbourhood to keep, those nearest to its centre; by default all. The share of cells that it
        touches is recorded.
    """

    size: Literal["small", "base"]
    width: int | None
    depth: int | None
    n_heads: int | None
    n_frequencies: int
    dropout: float
    max_tokens: int | None


class NicheArguments(NetworkArguments, TrainingArguments, total=False):
    """Both."""


TEACHER_DEFAULTS: NicheArguments = {
    **DEFAULTS,
    "size": "small",
    "width": None,
    "depth": None,
    "n_heads": None,
    "n_frequencies": N_FREQUENCIES,
    "dropout": 0.0,
    "max_tokens": None,
}
STUDENT_DEFAULTS: NicheArguments = {**TEACHER_DEFAULTS, "dropout": 0.1, "batch_size": 128, "weight_decay": 0.05}


def network_size(arguments: NicheArguments, head: Head) -> dict[str, Any]:
    """Take the preset `size`, and what is set beside it, as arguments of `NicheNetwork`."""
    size, dropout = arguments["size"], arguments["dropout"]
    check_choice(size, "size", list(SIZES))
    given = {"width": arguments["width"], "depth": arguments["depth"], "n_heads": arguments["n_heads"]}
    chosen = {**SIZES[size], **{name: value for name, value in given.items() if value is not None}}
    chosen["n_frequencies"] = arguments["n_frequencies"]
    for name, value in chosen.items():
        check_integer(value, name, minimum=1)
    if chosen["width"] % chosen["n_heads"]:
        msg = f"width={chosen['width']} is not a multiple of n_heads={chosen['n_heads']}."
        raise ValueError(msg)
    if not 0 <= dropout < 1:
        msg = f"dropout must be at least 0 and less than 1, found {dropout!r}."
        raise ValueError(msg)
    if arguments["max_tokens"] is not None:
        check_integer(arguments["max_tokens"], "max_tokens", minimum=1)
    return {**chosen, "dropout": float(dropout), "head": head}
