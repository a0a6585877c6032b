"""Distillation: a student learns a teacher's soft niches, or labels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq
from scipy.special import logsumexp
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.objective import Objective
from stdistill._training.sampling import BatchRequest
from stdistill.models.niche.batches import Neighborhoods, TokenBatch
from stdistill.models.niche.network import NicheNetwork

TARGET_ENTROPY = 0.25
"""Mean entropy of the softened teacher at the default temperature, as a share of that of even niches (our choice)."""


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² · mean KL(softmax(teacher / τ) ‖ softmax(student / τ)): Hizmi et al. 2026, equation 1.

    Parameters
    ----------
    student, teacher
        Logits (n, k).
    temperature
        τ.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def default_temperature(logits: npt.NDArray[np.floating[Any]]) -> float:
    """Find the temperature at which a teacher's softened niches have a given mean entropy.

    Whatever the scale of the logits (cosines, or those of a classifier), the student then sees equally soft niches:
    the mean entropy is `TARGET_ENTROPY` · log k. The rule is our choice; the paper states no temperature.

    Parameters
    ----------
    logits
        (n, k), finite.
    """
    k = logits.shape[1]
    centered = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    spread = float(-centered.min())
    if k == 1 or spread == 0:
        return 1.0

    def surplus(log_temperature: float) -> float:
        scaled = centered / math.exp(log_temperature)
        log_p = scaled - logsumexp(scaled, axis=1, keepdims=True)
        entropy: float = -(np.exp(log_p) * log_p).sum(axis=1).mean()
        return entropy - TARGET_ENTROPY * math.log(k)

    low, high = math.log(spread) - 12, math.log(spread) + 3
    if surplus(low) >= 0:  # most cells are ties, whatever the temperature
        return math.exp(low)
    return math.exp(brentq(surplus, low, high, xtol=1e-3))


class Taught(NamedTuple):
    """Neighbourhoods and what is to be learned of them."""

    seen: TokenBatch
    targets: Tensor
    """(n_centers, k) logits, or (n_centers,) labels."""


class TaughtDataset(Dataset[Taught]):
    """Makes the batch of a request: its cells' neighbourhoods and targets, of which a device needs no more.

    Each batch shows the slide with one of its looks, drawn anew in training, and the same every time in validation.
    """

    def __init__(self, neighborhoods: Neighborhoods, targets: Tensor) -> None:
        self.neighborhoods = neighborhoods
        self.targets = targets

    def __getitem__(self, request: BatchRequest) -> Taught:
        cells = self.neighborhoods
        seed = request.seed or (int(request.rows[0]),)
        look = int(np.random.default_rng(seed).integers(len(cells.looks)))
        seen = cells.batch(cells.tokens(request.rows), look)
        return Taught(seen, self.targets[torch.from_numpy(request.rows)])


class Distillation(Objective):
    """Trains a student network on a teacher's logits, or on labels.

    Parameters
    ----------
    network
        The student.
    neighborhoods
        Cells with their features and their graph.
    targets
        (n, k) float logits of the teacher, or (n,) int64 labels.
    temperature
        τ; `None` for labels, which are learned by cross-entropy.
    fitting, validation
        Cells to learn from, in spatial order, and cells to stop early by.
    arguments, fingerprint
        See `Objective`.
    """

    def __init__(
        self,
        network: NicheNetwork,
        neighborhoods: Neighborhoods,
        targets: Tensor,
        temperature: float | None,
        *,
        fitting: Integers,
        validation: Integers,
        arguments: TrainingArguments,
        fingerprint: dict[str, Any],
    ) -> None:
        data = TaughtDataset(neighborhoods, targets)
        super().__init__(network, data, fitting, arguments, fingerprint, validation=validation)
        self.temperature = temperature

    def loss(self, batch: Taught) -> tuple[Tensor, int]:
        """Compare student and teacher on the centres of a batch."""
        read, targets = self.network(batch.seen), batch.targets
        if self.temperature is None:
            return functional.cross_entropy(read, targets), len(targets)
        # While it trains, the network's outputs are logits in units of τ (see `finish`), so that they start out as
        # soft as the teacher, whatever the scale of its logits.
        return distillation_loss(read.float() * self.temperature, targets, self.temperature), len(targets)

    def finish(self) -> None:
        """Let the network's outputs be logits on the scale of the teacher's."""
        if self.temperature is not None:
            with torch.no_grad():
                for parameter in cast(NicheNetwork, self.network).head.parameters():
                    parameter.mul_(self.temperature)
