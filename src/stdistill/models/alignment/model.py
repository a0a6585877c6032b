"""What users hold: a trained alignment and its card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from stdistill._support.arrays import Floats, Integers
from stdistill._training.computing import computing
from stdistill.models.alignment.card import AlignmentCard
from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.alignment.tiles import CellGraphs, Graphs, as_float
from stdistill.models.saved import SavedModel, build_with
from stdistill.models.seen import SEEN, Seen, recall, to_tensors
from stdistill.models.sharing.alignment import describe
from stdistill.models.sharing.description import Description

PREDICTION_BATCH = 64
BLOCKS = "encoder."
"""Begins the names of the encoder's tensors among the weights."""
Embeddings = dict[str, npt.NDArray[np.float32]]


class AlignmentModel(SavedModel):
    """A trained alignment: embeds tiles by their H&E, and by the expression of their cells, in one space.

    :func:`stdistill.tl.align` returns one, and :func:`stdistill.tl.predict` applies it to a slide.

    Parameters
    ----------
    network
        Trained.
    card
        What it is: scales, features, encoder, training.
    history
        One row per epoch: losses, and how near partners and how far apart tiles are.
    seen
        What it remembers of the tiles that it was fitted on: sorted numbers, one of each.
    blocks
        Tensors of the encoder that learned with it, by their names in the encoder's module.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        By its methods, when features or files are not those of the model.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=800))
    >>> sd.pp.embed_expression(sdata, max_epochs=1)
    >>> sd.pp.tiles(sdata)
    >>> sd.pp.embed_tiles(sdata, encoder="texture")
    >>> model = sd.tl.align(sdata, max_epochs=2, progress_bar=False)
    >>> model.save("alignment")
    >>> sd.models.AlignmentModel.load("alignment").card.scales
    ['micro', 'meso', 'macro']
    """

    kind: ClassVar[str] = "alignment"
    card_type: ClassVar[type[AlignmentCard]] = AlignmentCard
    card: AlignmentCard

    def __init__(
        self,
        network: AlignmentNetwork,
        card: AlignmentCard,
        history: pd.DataFrame,
        seen: Seen | None = None,
        blocks: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.card = card
        self.history = history
        self.seen = seen
        self.blocks = dict(blocks or {})

    def describe(self) -> Description:
        """Say what it is, for people."""
        return describe(self.card)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's tensors, those of the encoder that learned, and `seen`."""
        blocks = {f"{BLOCKS}{name}": each for name, each in self.blocks.items()}
        return {**self.network.state_dict(), **blocks, **to_tensors(self.seen)}

    @classmethod
    def restore(cls, card: AlignmentCard, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        """Build the network that the card describes, with these weights."""
        blocks = {name.removeprefix(BLOCKS): each for name, each in weights.items() if name.startswith(BLOCKS)}
        if bool(blocks) != (card.finetuned is not None):
            msg = f"{len(blocks)} tensors are of an encoder, and of one that learned the card says {card.finetuned}."
            raise LookupError(msg)
        own = {name: each for name, each in weights.items() if name != SEEN and not name.startswith(BLOCKS)}
        network = build_with(card.build_network, own, depth=len(card.inputs))
        return cls(network, card, history, recall(weights), blocks)

    def embed_he(
        self,
        images: Mapping[str, Floats],
        *,
        tiles: Integers | None = None,
        batch_size: int = PREDICTION_BATCH,
        device: str = "auto",
    ) -> Embeddings:
        """Embed tiles by their H&E.

        Parameters
        ----------
        images
            (n, d) features of each scale.
        tiles
            The tiles to embed, by default all.
        batch_size
            Tiles at once.
        device
            Where to compute, ``"cpu"``, ``"cuda"`` or ``"mps"``; by default the fastest there is.

        Returns
        -------
        (n, n_dims) of each scale, rows of unit length; NaN for tiles that are not embedded.
        """
        n = len(next(iter(images.values())))

        def embed(part: Integers, place: torch.device) -> dict[str, Tensor]:
            return self.network.embed_he({scale: as_float(images[scale], part).to(place) for scale in self.card.scales})

        return self._in_batches(embed, n, tiles, batch_size, device)

    def embed_expression(
        self,
        graphs: CellGraphs,
        *,
        tiles: Integers | None = None,
        batch_size: int = PREDICTION_BATCH,
        device: str = "auto",
    ) -> Embeddings:
        """Embed tiles by what their cells express.

        Parameters
        ----------
        graphs
            The cells of the tiles, with the card's `radius_um` and `max_pairs`.
        tiles, batch_size, device
            As of `embed_he`.

        Returns
        -------
        (n, n_dims) of each scale, rows of unit length; NaN for tiles that are not embedded.
        """

        def embed(part: Integers, place: torch.device) -> dict[str, Tensor]:
            return self.network.embed_expression(self._graphs(graphs, part, place), len(part))

        return self._in_batches(embed, len(graphs.n_cells), tiles, batch_size, device)

    def embed_cells(
        self, graphs: CellGraphs, *, batch_size: int = PREDICTION_BATCH, device: str = "auto"
    ) -> Embeddings:
        """Embed the cells of tiles by what they and the cells around them express, at all three scales.

        Parameters
        ----------
        graphs, batch_size, device
            As of `embed_expression`.

        Returns
        -------
        (n_cells, width) of each scale; NaN for cells of no tile.
        """
        width = self.card.network["width"]
        found = {
            scale: np.full((len(graphs.cells), width), np.nan, dtype=np.float32) for scale in ("micro", "meso", "macro")
        }
        with computing(self.network, device, batch_size) as (place, threads):
            for part in _parts(np.flatnonzero(graphs.n_cells), batch_size):
                threads.adjust()
                rows = graphs.order[graphs.rows(part)[0]]
                for scale, cells in self.network.expression.cells(self._graphs(graphs, part, place)).items():
                    found[scale][rows] = cells.cpu().numpy()
        return found

    def _graphs(self, graphs: CellGraphs, tiles: Integers, place: torch.device) -> Graphs:
        made = graphs.batch(tiles, with_candidates=self.card.network["edges"] != "none")
        return Graphs(*(each.to(place) for each in made))

    def _in_batches(
        self,
        embed: Callable[[Integers, torch.device], dict[str, Tensor]],
        n: int,
        tiles: Integers | None,
        batch_size: int,
        device: str,
    ) -> Embeddings:
        chosen = np.arange(n) if tiles is None else tiles
        n_dims = self.card.network["n_dims"]
        found = {scale: np.full((n, n_dims), np.nan, dtype=np.float32) for scale in self.card.scales}
        with computing(self.network, device, batch_size) as (place, threads):
            for part in _parts(chosen, batch_size):
                threads.adjust()
                for scale, vectors in embed(part, place).items():
                    found[scale][part] = vectors.cpu().numpy()
        return found


def _parts(tiles: Integers, batch_size: int) -> list[Integers]:
    return np.array_split(tiles, math.ceil(len(tiles) / batch_size)) if len(tiles) else []
