"""How a composition model is built and what it learns by: the arguments of every function that fits one."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, get_args

import numpy as np

from stdistill._support.checks import check_choice, check_integer
from stdistill._training.arguments import DEFAULTS, Standardization, TrainingArguments, check_training

Method = Literal["mlp", "ridge"]
Output = Literal["linear", "softmax"]
PearsonAxis = Literal["flat", "type", "spot"]


class CompositionArguments(TypedDict, total=False):
    """What a composition model is, and what it learns by.

    Parameters
    ----------
    method
        ``"ridge"``: a linear regression, whose penalty is chosen on held-out groups; of what follows it has
        `use_neighbors` and `standardize` alone, and `n_members` as the number of such choices. ``"mlp"``: networks of
        Sun, Zhu and Qiu 2025, averaged with that regression.
    use_neighbors
        Also read the mean features of each row and its neighbours (:func:`stdistill.pp.neighborhoods`).
    standardize
        Features are brought to the mean and spread of all ``"training"`` rows; or with ``"slide"`` those of each slide
        to that of all of its own rows, in training and of whatever is predicted: what a stain and a scanner do to a
        slide as a whole is then taken away. So is what its tissue as a whole differs by: slides should hold the same
        tissues in similar parts, and be predicted whole. Features of rows that are not trained on count in the mean of
        their slide.
    width, depth, dropout
        `depth` linear layers in all, the inner ones of this width, and the share of their outputs set to 0 in training.
    output
        ``"linear"``: abundances of any size, 0 or more. ``"softmax"``: shares, of networks without the regression; the
        rows of the target sum to 1.
    mae_weight, pearson_weight
        λ₁ and λ₂ of the loss MSE + λ₁ · MAE − λ₂ · r, of abundances on the scale of each type in the training.
    pearson_axis
        What r correlates: ``"flat"``, all values of a batch; ``"type"``, each type over the rows; ``"spot"``, each row
        over the types.
    n_members
        Networks that are averaged. Another held-out group says of each for how long it learns from all rows.
    patience
        Epochs without a better loss on the held-out rows before a network stops; its best epoch counts.
    """

    method: Method
    use_neighbors: bool
    standardize: Standardization
    width: int
    depth: int
    dropout: float
    output: Output
    mae_weight: float
    pearson_weight: float
    pearson_axis: PearsonAxis
    n_members: int
    patience: int


class FittingArguments(CompositionArguments, TrainingArguments, total=False):
    """Both."""


COMPOSITION_DEFAULTS: FittingArguments = {
    **DEFAULTS,
    "method": "mlp",
    "use_neighbors": False,
    "standardize": "training",
    "width": 512,
    "depth": 7,
    "dropout": 0.0,
    "output": "linear",
    "mae_weight": 0.5,
    "pearson_weight": 0.5,
    "pearson_axis": "flat",
    "n_members": 5,
    "patience": 20,
    "batch_size": 64,
    "learning_rate": 3e-4,
    "weight_decay": 1e-4,
}


def check_fitting(arguments: FittingArguments) -> None:
    """Raise when an argument is out of range."""
    check_training(arguments)
    choices = (
        ("method", get_args(Method)),
        ("standardize", get_args(Standardization)),
        ("output", get_args(Output)),
        ("pearson_axis", get_args(PearsonAxis)),
    )
    values: dict[str, Any] = dict(arguments)
    for name, allowed in choices:
        check_choice(values[name], name, allowed)
    for name in ("width", "depth", "n_members", "patience"):
        check_integer(values[name], name, minimum=1)
    for name in ("mae_weight", "pearson_weight", "dropout"):
        value = values[name]
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_number or not 0 <= value < np.inf:
            msg = f"{name} must be a finite number, 0 or more, found {value!r}."
            raise ValueError(msg)
    if not isinstance(arguments["use_neighbors"], bool | np.bool_):
        msg = f"use_neighbors must be True or False, found {arguments['use_neighbors']!r}."
        raise TypeError(msg)
    if arguments["dropout"] >= 1:
        msg = f"dropout must be less than 1, found {arguments['dropout']!r}."
        raise ValueError(msg)
    if arguments["method"] == "ridge" and arguments["output"] == "softmax":
        msg = "A ridge regression predicts abundances: output='softmax' goes with method='mlp'."
        raise ValueError(msg)


def network_arguments(arguments: FittingArguments) -> dict[str, Any]:
    """Take those of `CompositionNetwork`."""
    return {
        "width": arguments["width"],
        "depth": arguments["depth"],
        "dropout": float(arguments["dropout"]),
        "output": arguments["output"],
    }
