"""Alignment: both sides of a tile are brought together, and those of different tiles apart."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from stdistill._support.arrays import Integers
from stdistill._training.arguments import TrainingArguments
from stdistill._training.objective import Objective, adamw
from stdistill.models.alignment.contrast import alignment, info_nce, overlapping, uniformity
from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.alignment.tiles import PIXELS, TileBatch, TileDataset


class Alignment(Objective):
    """Trains both sides by contrast at each scale, whose losses are summed (Jeong et al. 2025, section 5.3).

    Under several processes the tiles of all of them are negatives: two processes with half of a batch each learn what
    one learns from the whole.

    Parameters
    ----------
    network
        With the scale of the training set.
    data
        The tiles.
    side_um
        Side of a tile.
    fitting
        Tiles to learn from.
    arguments, fingerprint
        See `Objective`.
    encoder
        Makes features of each scale of pixels, where the tiles are read as such; those of its parameters that have
        gradients learn.
    """

    tile_size: ClassVar[int] = 1
    """Negatives are to come from all over the tissue."""

    network: AlignmentNetwork

    def __init__(
        self,
        network: AlignmentNetwork,
        data: TileDataset,
        side_um: float,
        *,
        fitting: Integers,
        arguments: TrainingArguments,
        fingerprint: dict[str, Any],
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(network, data, fitting, arguments, fingerprint)
        self.side_um = side_um
        self.encoder = encoder
        self.strict_loading = encoder is None

    def loss(self, batch: TileBatch) -> tuple[Tensor, int]:
        """Contrast the tiles of the batch, of all processes together."""
        if self.encoder is not None:
            batch = batch._replace(images=self.encoder(batch.images[PIXELS]))
        he, expression = self.network(batch)
        n, first, excluded = len(batch.slide), 0, overlapping(batch.slide, batch.centers, self.side_um)
        self._log_spread(he, expression, n)
        if self.trainer.world_size > 1:
            first = self.trainer.global_rank * n
            slide, centers = self._gather(batch.slide), self._gather(batch.centers)
            excluded = overlapping(slide, centers, self.side_um)[first : first + n]
            he, expression = ({scale: self._gather(each[scale]) for scale in each} for each in (he, expression))
        scale = self.network.contrast_scale()
        losses = [info_nce(he[name].float(), expression[name].float(), scale, excluded, first) for name in he]
        return torch.stack(losses).sum(), n

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Let what is pretrained learn more slowly."""
        return adamw(self.network, self.arguments, n_steps=self.n_steps, pretrained=self.encoder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what does not learn: it may be gigabytes, and the encoder brings it again."""
        super().on_save_checkpoint(checkpoint)
        for name, each in self.named_parameters():
            if not each.requires_grad:
                del checkpoint["state_dict"][name]

    def _gather(self, values: Tensor) -> Tensor:
        """Put the rows of all processes one after the other; gradients flow back to each."""
        gathered = self.all_gather(values, sync_grads=values.requires_grad)
        return gathered.flatten(0, 1)  # type: ignore[union-attr]

    def _log_spread(self, he: dict[str, Tensor], expression: dict[str, Tensor], n: int) -> None:
        """Log how near partners are, and how evenly each side is spread: it would be 0 if all tiles were the same."""
        with torch.no_grad():
            for scale, ours in he.items():
                theirs = expression[scale]
                found = {
                    "alignment": alignment(ours, theirs),
                    "uniformity_he": uniformity(ours),
                    "uniformity_expression": uniformity(theirs),
                }
                for name, value in found.items():
                    self.log(f"{name}_{scale}", value, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
