"""How an alignment is built and what it learns by: the arguments of `sd.tl.align`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, get_args

import numpy as np

from stdistill._support.checks import check_choice, check_integer, check_positive
from stdistill._training.arguments import DEFAULTS, TrainingArguments, check_training

Edges = Literal["stochastic", "all", "none"]
Scale = Literal["micro", "meso", "macro"]


class AlignmentArguments(TypedDict, total=False):
    """What an alignment is, and what it learns by.

    Parameters
    ----------
    scales
        Those that are aligned, of ``"micro"``, ``"meso"`` and ``"macro"``.
    edges
        Which edges are added between places: ``"stochastic"``, weighed by what the cells at both ends are and drawn in
        training; ``"all"``; or ``"none"``, so that only near cells of one micro place are connected.
    radius_um
        Cells of one micro place within this distance are connected: that at which they act on each other, if it is
        known (docs/concepts/alignment).
    max_pairs
        Pairs of cells of a tile and scale that may get an edge: of denser tiles the nearest.
    edge_temperature
        Of the draws of edges: the lower, the nearer to 0 or 1.
    width, hidden, n_dims
        Of the cells' vectors, of the hidden layer of the H&E side, and of the shared space, for each scale.
    place_dropout
        Share of a tile's micro places whose cells are left out in training, others each time: few tiles are learned by
        heart otherwise.
    dropout
        Share of activations that is set to 0 in training.
    temperature
        Of the contrast when training begins; it is learned.
    finetune_blocks
        Last blocks of the encoder's vision transformer that learn as well, at a hundredth of the learning rate and
        without decay. Training then reads pixels and encodes the crops of each tile, 21 at all scales, in each epoch: a
        matter of a GPU, and of a small `batch_size`. 0: the features that are there are read.
    """

    scales: Sequence[Scale]
    edges: Edges
    radius_um: float
    max_pairs: int
    edge_temperature: float
    width: int
    hidden: int
    n_dims: int
    place_dropout: float
    dropout: float
    temperature: float
    finetune_blocks: int


class FittingArguments(AlignmentArguments, TrainingArguments, total=False):
    """Both."""


ALIGNMENT_DEFAULTS: FittingArguments = {
    **DEFAULTS,
    "scales": ("micro", "meso", "macro"),
    "edges": "stochastic",
    "radius_um": 20.0,
    "max_pairs": 5000,
    "edge_temperature": 0.5,
    "width": 64,
    "hidden": 256,
    "n_dims": 64,
    "place_dropout": 0.5,
    "dropout": 0.1,
    "temperature": 0.1,
    "finetune_blocks": 0,
    "batch_size": 96,
    "learning_rate": 3e-3,
    "weight_decay": 1.0,
}


def check_fitting(arguments: FittingArguments) -> None:
    """Raise when an argument is out of range."""
    check_training(arguments)
    check_integer(arguments["batch_size"], "batch_size", minimum=2)  # a tile alone has nothing to be told from
    values: dict[str, Any] = dict(arguments)
    scales = values["scales"]
    if isinstance(scales, str) or not scales or set(scales) - set(get_args(Scale)) or len(set(scales)) < len(scales):
        msg = f"scales must be some of {list(get_args(Scale))}, each once, found {scales!r}."
        raise ValueError(msg)
    check_choice(values["edges"], "edges", get_args(Edges))
    for name in ("max_pairs", "width", "hidden", "n_dims"):
        check_integer(values[name], name, minimum=1)
    check_integer(values["finetune_blocks"], "finetune_blocks", minimum=0)
    for name in ("radius_um", "edge_temperature", "temperature"):
        check_positive(values[name], name)
    for name in ("place_dropout", "dropout"):
        value = values[name]
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 1:
            msg = f"{name} must be a number from 0 to less than 1, found {value!r}."
            raise ValueError(msg)


def network_arguments(arguments: FittingArguments) -> dict[str, Any]:
    """Take those of `AlignmentNetwork`."""
    names = ("width", "hidden", "n_dims", "edges", "edge_temperature", "dropout", "temperature")
    values: dict[str, Any] = dict(arguments)
    return {name: values[name] for name in names}
