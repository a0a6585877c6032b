"""Regression: a network learns abundances from features."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stdistill._support.arrays import Floats, Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.objective import Objective
from stdistill._training.sampling import BatchRequest
from stdistill.models.composition.arguments import PearsonAxis
from stdistill.models.composition.loss import composition_loss
from stdistill.models.composition.network import CompositionNetwork
from stdistill.models.features import ReadableRows, as_tensor


class LossWeights(NamedTuple):
    """What counts in the loss besides the squared error."""

    mae_weight: float
    pearson_weight: float
    pearson_axis: PearsonAxis


class Places(NamedTuple):
    """Features (n, n_features) and abundances (n, types) of some rows."""

    features: Tensor
    targets: Tensor


class PlacesDataset(Dataset[Places]):
    """Makes the batch of a request."""

    def __init__(self, rows: ReadableRows, targets: Floats) -> None:
        self.rows = rows
        self.targets = targets

    def __getitem__(self, request: BatchRequest) -> Places:
        features = as_tensor(self.rows[request.rows])
        return Places(features, torch.from_numpy(self.targets[request.rows]))


class Regression(Objective):
    """Trains a network on abundances.

    Parameters
    ----------
    network
        With the scale of the training set.
    rows, targets
        Features, and abundances (n, types) as float32.
    weights
        Of the loss.
    fitting, validation
        Rows to learn from and to stop early by.
    arguments, fingerprint
        See `Objective`.
    """

    tile_size: ClassVar[int] = 1
    """Features are read row by row, and a correlation wants rows that are not alike."""

    def __init__(
        self,
        network: CompositionNetwork,
        rows: ReadableRows,
        targets: Floats,
        weights: LossWeights,
        *,
        fitting: Integers,
        validation: Integers,
        arguments: TrainingArguments,
        fingerprint: dict[str, Any],
    ) -> None:
        data = PlacesDataset(rows, targets)
        super().__init__(network, data, fitting, arguments, fingerprint, validation=validation)
        self.weights = weights

    def loss(self, batch: Places) -> tuple[Tensor, int]:
        """Compare abundances on the scale of the training."""
        targets = self.network.scale_targets(batch.targets)  # type: ignore[operator]
        predicted = self.network(batch.features).float()
        return composition_loss(predicted, targets, **self.weights._asdict()), len(targets)
