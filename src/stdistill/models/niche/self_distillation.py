"""Self-distillation: a teacher that learns niches without labels, from a student that learns from it."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.objective import Objective
from stdistill.models.niche.arguments import Centering
from stdistill.models.niche.batches import Neighborhoods, TokenBatch
from stdistill.models.niche.network import NicheNetwork, PrototypeHead
from stdistill.models.niche.plain.means import neighborhood_means
from stdistill.models.niche.use import NicheUse, check_not_collapsed
from stdistill.models.niche.views import ViewDataset, Views

STUDENT_TEMPERATURE = 0.1
TEACHER_TEMPERATURE = 0.04
CENTER_MOMENTUM = 0.9
SINKHORN_ITERATIONS = 3
"""As DINO and DINOv2."""
TEACHER_MOMENTUM = 0.99
"""Rises to 1 along a cosine, as in DINO, which starts at 0.996 for runs of many more steps."""
START = 0.3
"""Share of the steps in which the targets are the k-means clusters of the neighbourhood means (our choice)."""


class SelfDistillation(Objective):
    """Trains a student to see in parts of a neighbourhood what its teacher sees in the whole of it.

    The teacher is the moving average of the student (DINO: Caron et al. 2021).

    Parameters
    ----------
    network
        The student, with a head of prototypes.
    neighborhoods
        Cells with their features and their graph.
    clusters
        (k, n_features), means of neighbourhood means, in standardised features: where the niches start.
    centering
        How the teacher is kept from collapse.
    fitting
        Cells to learn from, in spatial order.
    arguments, fingerprint
        See `Objective`.
    """

    center: Tensor
    clusters: Tensor
    network: NicheNetwork

    def __init__(
        self,
        network: NicheNetwork,
        neighborhoods: Neighborhoods,
        clusters: Tensor,
        *,
        centering: Centering,
        fitting: Integers,
        arguments: TrainingArguments,
        fingerprint: dict[str, Any],
    ) -> None:
        super().__init__(network, ViewDataset(neighborhoods), fitting, arguments, fingerprint)
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("center", torch.zeros(len(clusters)))
        self.register_buffer("clusters", clusters)
        self.centering = centering
        self.use = NicheUse(len(clusters), len(network.class_token))

    @property
    def is_starting(self) -> bool:
        """Whether the targets are still the clusters."""
        return self.trainer.global_step < math.ceil(START * self.n_steps)

    def loss(self, batch: Views) -> tuple[Tensor, int]:
        """Return the cross-entropy of the student's niches, seen in each part, with the teacher's."""
        with torch.no_grad():
            read = self.teacher.embed(batch.whole)
            cosines = self.teacher.head(read).float()
            targets = self._clustered(batch.whole) if self.is_starting else self._targets(cosines)
            momentum = 0.0 if self.is_starting else CENTER_MOMENTUM
            self.center.lerp_(self._reduce(cosines.mean(dim=0), "mean"), 1 - momentum)
            # Balanced targets hide a collapse: the labels will be the largest cosines (see `finish`).
            balanced = self.centering == "sinkhorn" and not self.is_starting
            self.use.update(targets, read, cosines.argmax(dim=1) if balanced else None)
        log_seen = functional.log_softmax(self.network(batch.parts).float() / STUDENT_TEMPERATURE, dim=-1)
        loss = -(targets * log_seen.view(-1, *targets.shape)).sum(dim=-1).mean()
        return loss, len(targets)

    def _clustered(self, batch: TokenBatch) -> Tensor:
        means = neighborhood_means(batch, self.teacher.standardize(batch.features))
        return functional.one_hot(torch.cdist(means, self.clusters).argmin(dim=1), len(self.clusters)).float()

    def _targets(self, cosines: Tensor) -> Tensor:
        if self.centering == "centering":
            return functional.softmax((cosines - self.center) / TEACHER_TEMPERATURE, dim=-1)
        # Sinkhorn and Knopp: niches of even size in each step, over all processes (Caron et al. 2020).
        targets = ((cosines - 1) / TEACHER_TEMPERATURE).exp()  # at least e^-50: neither sum is 0
        for _ in range(SINKHORN_ITERATIONS):
            targets = targets / self._reduce(targets.sum(dim=0), "sum")
            targets = targets / targets.sum(dim=1, keepdim=True)
        return targets

    def _reduce(self, values: Tensor, how: str) -> Tensor:
        """Over all processes."""
        reduced: Tensor = self.trainer.strategy.reduce(values, reduce_op=how)
        return reduced

    def on_train_epoch_start(self) -> None:
        """Seed by epoch; the teacher sees without dropout."""
        super().on_train_epoch_start()
        self.teacher.eval()

    def on_train_batch_end(self, *args: Any) -> None:
        """Let the teacher follow, at once while the niches start and slowly from then on; watch for a collapse."""
        done = min(1.0, self.trainer.global_step / self.n_steps)
        momentum = 0.0 if self.is_starting else 1 - (1 - TEACHER_MOMENTUM) * (1 + math.cos(math.pi * done)) / 2
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)
        # At the end of the epoch it would be late for the history.
        if self.trainer.is_last_batch or self.trainer.global_step >= self.n_steps:
            self._log_use()

    def _log_use(self) -> None:
        measures = self.use.compute()
        self.use.reset()
        self.log_dict(measures, on_step=False, on_epoch=True, batch_size=1)
        check_not_collapsed(measures, len(self.clusters), self.current_epoch)

    def finish(self) -> NicheNetwork:
        """Return the teacher, whose outputs from now on are its centred cosines in units of its temperature."""
        head = cast(PrototypeHead, self.teacher.head)
        if self.centering == "centering":
            head.center.copy_(self.center)
        head.temperature.fill_(TEACHER_TEMPERATURE)
        return self.teacher.eval()
