"""How a teacher uses its niches, and whether it has collapsed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

COLLAPSED = 0.999
"""Share of the cells in one niche from which on a run has collapsed (our choice)."""


class NicheUse(Metric):
    """Collects over an epoch, and over all processes, what shows a collapse.

    Parameters
    ----------
    k
        Number of niches.
    width
        Dimension of the read-outs.
    """

    full_state_update = False
    counts: Tensor
    entropies: Tensor
    total: Tensor
    moments: Tensor

    def __init__(self, k: int, width: int) -> None:
        super().__init__()
        # Small variances beside large means need float64, which Apple's accelerators do not have.
        self.precise = torch.float32 if torch.backends.mps.is_available() else torch.float64
        for name, shape in (("counts", (k,)), ("entropies", ()), ("total", (width,)), ("moments", (width, width))):
            self.add_state(name, torch.zeros(shape, dtype=self.precise), dist_reduce_fx="sum")

    def update(self, targets: Tensor, read: Tensor, labels: Tensor | None = None) -> None:
        """Add the targets (n, k), the read-outs (n, width) and the niches (n,) of a batch; by default the targets'."""
        labels = targets.argmax(dim=1) if labels is None else labels
        self.counts += labels.bincount(minlength=len(self.counts))
        targets, read = targets.to(self.precise), read.to(self.precise)
        self.entropies -= torch.xlogy(targets, targets).sum()
        self.total += read.sum(dim=0)
        with torch.autocast(read.device.type, enabled=False):
            self.moments += read.T @ read

    def compute(self) -> dict[str, float]:
        """Measures of the epoch, under the names of the history.

        ``occupied_niches``
            Number of niches that some cell is in.
        ``largest_niche``
            Share of the cells in the largest.
        ``size_entropy``
            Entropy of the niches' sizes: 1 when they are even, 0 when there is one.
        ``target_entropy``
            Mean entropy of a cell's target: 1 when it could be any niche, 0 when it is surely one.
        ``effective_rank``
            Number of dimensions that the read-outs vary in: the exponential of the entropy of their covariance's
            normalised eigenvalues (Roy and Vetterli 2007).
        """
        states = (self.counts, self.entropies, self.total, self.moments)
        counts, entropies, total, moments = (state.cpu().double() for state in states)
        n = counts.sum()
        shares = counts / n
        most = max(math.log(len(shares)), torch.finfo(torch.float64).tiny)
        mean = total / n
        variances = torch.linalg.eigvalsh(moments / n - torch.outer(mean, mean)).clamp(min=0)
        spectrum = variances / variances.sum().clamp(min=torch.finfo(torch.float64).tiny)
        return {
            "occupied_niches": float((counts > 0).sum()),
            "largest_niche": float(shares.max()),
            "size_entropy": float(torch.special.entr(shares).sum()) / most,
            "target_entropy": float(entropies / n) / most,
            "effective_rank": float(torch.special.entr(spectrum).sum().exp()),
        }


def check_not_collapsed(measures: dict[str, Any], k: int, epoch: int) -> None:
    """Raise a `RuntimeError` when nearly all cells are in one of several niches."""
    if k == 1 or measures["largest_niche"] < COLLAPSED:
        return
    msg = (
        f"The niches collapsed in epoch {epoch}: {measures['largest_niche']:.1%} of the training cells are in one of "
        f"k={k} niches (effective rank of the read-outs {measures['effective_rank']:.1f}). Check that the features "
        "differ between places, try fewer niches, a lower learning_rate or a larger batch_size, or "
        'centering="sinkhorn", which makes targets of even size.'
    )
    raise RuntimeError(msg)
