"""From features and abundances to trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._support.files import digest
from stdistill._training.arguments import default_epochs
from stdistill._training.callbacks import VALIDATION_LOSS
from stdistill._training.fingerprint import fingerprint_run
from stdistill._training.state import own_torch_state
from stdistill._training.trainer import fit, seeded
from stdistill.models.composition.arguments import FittingArguments, network_arguments
from stdistill.models.composition.folds import Fold, Tissue, hold_out
from stdistill.models.composition.network import CompositionNetwork
from stdistill.models.composition.regression import LossWeights, Regression
from stdistill.models.composition.ridge import Ridge, fit_ridge
from stdistill.models.features import ReadableRows, as_tensor, digest_rows, feature_statistics, standardize

ROWS_SEEN = 100_000
"""Rows that training sees by default, all epochs together, within `EPOCHS`, unless it stops before (our choice)."""
EPOCHS = (5, 200)
NO_LAYERS: dict[str, Any] = {"width": 1, "depth": 0, "dropout": 0.0, "output": "linear"}
"""The network that a ridge regression is."""


class FittedComposition(NamedTuple):
    """Trained networks and how they came about."""

    members: list[CompositionNetwork]
    history: pd.DataFrame
    size: dict[str, Any]
    """Arguments of the networks."""
    training: dict[str, Any]
    """Numbers of rows and epochs, or the penalty."""


@own_torch_state()
def fit_composition(
    rows: ReadableRows,
    targets: Floats,
    training: Mask,
    groupings: Sequence[Integers],
    tissue: Callable[[], Tissue],
    arguments: FittingArguments,
) -> FittedComposition:
    """Fit the networks, or the regression, that the arguments describe.

    Parameters
    ----------
    rows, targets
        Features as the networks see them, and abundances (n, types) as float32.
    training
        (n,), the rows to train on; they have both.
    groupings, tissue
        What is held out of them, see `hold_out`.
    arguments
        How to fit, complete.
    """
    cells = np.flatnonzero(training)
    if not np.ptp(targets[cells], axis=0).any():
        msg = f"Each type is equally abundant in all of the {len(cells)} training rows: there is nothing to learn."
        raise ValueError(msg)
    folds = hold_out(training, groupings, tissue, n=arguments["n_members"], seed=arguments["seed"])
    scale = _find_scale(rows, targets, cells)
    if arguments["method"] == "ridge":
        ridge = _fit_ridge(rows, targets, cells, folds, scale)
        network = _new_network(scale, NO_LAYERS, seed=0)
        network.set_ridge(torch.from_numpy(ridge.weights), torch.from_numpy(ridge.intercept))
        record = {"n_training_cells": len(cells), "penalty": ridge.penalty}
        return FittedComposition([network], pd.DataFrame(index=pd.Index([], name="epoch")), NO_LAYERS, record)
    if arguments["max_epochs"] is None:
        arguments = {**arguments, "max_epochs": default_epochs(len(cells), ROWS_SEEN, EPOCHS)}
    fitted = _fit_members(rows, targets, cells, folds, scale, arguments)
    if arguments["output"] == "linear":
        ridge = _fit_ridge(rows, targets, cells, folds, scale)
        for network in fitted.members:
            network.average_with(torch.from_numpy(ridge.weights), torch.from_numpy(ridge.intercept))
    return fitted


def _fit_members(
    rows: ReadableRows,
    targets: Floats,
    cells: Integers,
    folds: Sequence[Fold],
    scale: _Scale,
    arguments: FittingArguments,
) -> FittedComposition:
    """Train networks on all rows, each for as long as was best for another that learned without the rows of a fold."""
    size, patience = network_arguments(arguments), arguments["patience"]
    weights = LossWeights(arguments["mae_weight"], arguments["pearson_weight"], arguments["pearson_axis"])
    # Only a checkpoint has to know its features from others.
    seen = None if arguments["checkpoint_dir"] is None else digest_rows(rows, cells)

    def learn(fold: Fold, seed: int, folder: str, **until: int) -> tuple[CompositionNetwork, pd.DataFrame]:
        own: FittingArguments = {**arguments, "seed": seed}
        if arguments["checkpoint_dir"] is not None:
            own["checkpoint_dir"] = Path(arguments["checkpoint_dir"]) / folder
        network = _new_network(scale, size, seed)
        objective = Regression(
            network,
            rows,
            targets,
            weights,
            fitting=fold.fitting,
            validation=fold.held_out,
            arguments=own,
            fingerprint=fingerprint_run(
                own,
                *weights,
                patience,
                n_training_cells=len(cells),
                data=digest(targets[cells]),
                features=seen,
                fold=digest(fold.fitting, fold.held_out),
                network=str(sorted(size.items())),
            ),
        )
        return network, fit(objective, **until)

    all_rows = Fold(cells, cells[:0])
    members, histories, n_epochs = [], [], []
    for number in range(arguments["n_members"]):
        seed, folder = arguments["seed"] + number, f"member_{number}"
        _, stopped = learn(folds[number % len(folds)], seed, folder, patience=patience)
        best = int(stopped[VALIDATION_LOSS].fillna(np.inf).argmin()) + 1
        network, history = learn(all_rows, seed, f"{folder}/all_rows", n_epochs=best)
        histories += [stopped.assign(member=number, all_rows=False), history.assign(member=number, all_rows=True)]
        members.append(network)
        n_epochs.append(len(history))
    return FittedComposition(
        members, pd.concat(histories), size, {"n_training_cells": len(cells), "n_epochs": n_epochs}
    )


def _fit_ridge(rows: ReadableRows, targets: Floats, cells: Integers, folds: Sequence[Fold], scale: _Scale) -> Ridge:
    """Fit a ridge regression on the scale of the training; its penalty predicts the held-out rows of the folds best."""
    network = _new_network(scale, NO_LAYERS, seed=0)

    def read(some: Integers) -> tuple[Any, Any]:
        features = standardize(as_tensor(rows[some]), network.mean, network.std)
        scaled = network.scale_targets(torch.from_numpy(targets[some]))
        return features.double().numpy(), scaled.double().numpy()

    return fit_ridge(read, cells, folds)


class _Scale(NamedTuple):
    """Mean and spread of features and of abundances in the training rows, as `CompositionNetwork.set_scale` takes."""

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor


def _find_scale(rows: ReadableRows, targets: Floats, cells: Integers) -> _Scale:
    mean, std = feature_statistics([rows], cells)
    if not (std > 0).any():
        msg = f"All {len(cells)} training rows have the same features: nothing can be told from them."
        raise ValueError(msg)
    taught = targets[cells].astype(np.float64)
    spread = np.where(np.ptp(taught, axis=0) > 0, taught.std(axis=0), 0)  # rounding makes a constant vary
    return _Scale(mean, std, torch.from_numpy(taught.mean(axis=0)), torch.from_numpy(spread))


def _new_network(scale: _Scale, size: dict[str, Any], seed: int) -> CompositionNetwork:
    """Build a network with random weights and the scale of the training rows."""
    with seeded(seed):
        network = CompositionNetwork(len(scale.mean), len(scale.target_mean), **size)
    network.set_scale(*scale)
    return network
