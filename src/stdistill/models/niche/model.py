"""What users hold: a trained niche network and its card."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from stdistill._support.arrays import Floats, Integers
from stdistill._support.cpus import ordered_map
from stdistill._support.progress import Progress
from stdistill._training.computing import computing
from stdistill._training.devices import torch_device
from stdistill._training.sampling import spatial_order
from stdistill._training.state import tensor_cores
from stdistill.models.by_slide import as_seen
from stdistill.models.features import known_rows
from stdistill.models.niche.batches import Neighborhoods, TokenBatch
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.saved import SavedModel, build_with
from stdistill.models.seen import SEEN, Seen, recall, to_tensors
from stdistill.models.sharing.description import Description
from stdistill.models.sharing.niche import commonest, describe
from stdistill.models.usual import FORMER_PREFIX, PREFIX, UsualFeatures

PREDICTION_BATCH_CPU = 512
PREDICTION_BATCH_GPU = 2048
"""Cells at once: neighbouring ones, whose neighbourhoods share most cells. Smaller batches leave a GPU idle."""
BATCHES_AHEAD = 2
"""Batches that are made, one after the other, while others are computed with."""
BAR_AFTER_S = 3.0
"""A shorter prediction shows no bar."""


class NicheModel(SavedModel):
    """A trained niche model: maps a cell's neighbourhood to niche logits.

    :func:`stdistill.tl.nolan` and :func:`stdistill.tl.distill` return one, and :func:`stdistill.tl.predict` applies it
    to a slide.

    Parameters
    ----------
    network
        The network, trained.
    card
        What it is: kind, niches, features, encoder, radius, training.
    history
        One row per epoch of training: losses and what else was measured.
    usual
        What the features of the training were like, of a student.
    seen
        What it remembers of the cells that it was fitted on: sorted numbers, one of each.

    Returns
    -------
    The model.

    Raises
    ------
    ValueError
        By its methods, when features or files are not those of the model.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    >>> adata.obs["region"] = np.where(adata.obsm["spatial"][:, 0] < 150, "left", "right")
    >>> student = sd.tl.distill(adata, teacher_key="region", max_epochs=2)
    >>> student.save("student")
    >>> sd.models.NicheModel.load("student").card.niches
    ['left', 'right']
    """

    kind: ClassVar[str] = "niche"
    card_type: ClassVar[type[ModelCard]] = ModelCard
    card: ModelCard

    def __init__(
        self,
        network: NicheNetwork,
        card: ModelCard,
        history: pd.DataFrame,
        usual: UsualFeatures | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)  # torch may compute other bits for weights to be trained
        self.card = card
        self.history = history
        self.usual = usual
        self.seen = seen

    def describe(self) -> Description:
        """Say what it is, for people."""
        return describe(self.card, self.usual)

    @property
    def radius_um(self) -> float:
        """Radius of the neighbourhoods, in µm."""
        return self.card.radius_um

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's tensors, with mean and spread of the features of the training cells; `usual` and `seen`."""
        usual = {} if self.usual is None else self.usual.tensors()
        return {**self.network.state_dict(), **usual, **to_tensors(self.seen)}

    @classmethod
    def restore(cls, card: ModelCard, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        """Build the network that the card describes, with these weights."""
        own = {name: part for name, part in weights.items() if not name.startswith((PREFIX, FORMER_PREFIX, SEEN))}
        network = build_with(card.build_network, own, depth=card.network["depth"])
        return cls(network, card, history, UsualFeatures.from_tensors(weights), recall(weights))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        licence: str | None = None,
        tissue: str | None = None,
        composition: pd.DataFrame | None = None,
        private: bool = False,
    ) -> str:
        """Put the model on the Hugging Face hub, with a page that says what it is.

        One commit of four files: those of `save`, and ``README.md``, which is written from the card. What is given
        here is kept on the card.

        Parameters
        ----------
        repo_id
            The repository, ``"owner/name"``; it is made where it is not there.
        licence
            Terms of the model. By default those of the encoder that it learned through, of several the strictest;
            given ones must demand as much. Needed where these are not known.
        tissue
            What it was trained on, in your words: organ, species, disease, preparation.
        composition
            Cell types of the niches, as :func:`stdistill.tl.composition` returns them; the three commonest of each are
            kept.
        private
            Whether a new repository is seen by its owners alone.

        Returns
        -------
        The commit, which ``from_pretrained(revision=)`` takes.

        Raises
        ------
        ValueError
            When the terms are not known, or the given ones allow more than those of the encoder; the weights are not
            those that the card was written for; or the composition is not of the model's niches.
        PermissionError
            When nobody is logged in (``hf auth login``), or may not write there.
        ConnectionError
            When the hub cannot be reached.
        """
        told: dict[str, Any] = {} if composition is None else {"cell_types": commonest(composition, self.card.niches)}
        card = replace(self.card, tissue=tissue or self.card.tissue, **told)
        return self._push(repo_id, card, licence, private=private)

    def predict(
        self,
        features: Floats | Tensor,
        indptr: Integers,
        indices: Integers,
        centers: Floats,
        *,
        cells: Integers | None = None,
        slides: Integers | None = None,
        batch_size: int | None = None,
        device: torch.device | str = "auto",
        progress_bar: bool = True,
    ) -> npt.NDArray[np.float32]:
        """Niche logits of cells, batch by batch.

        Parameters
        ----------
        features
            (n, n_features) array, memory map or tensor; a row with a NaN is a cell without features.
        indptr, indices
            The graph in CSR form: the cells within `radius_um` of each cell, without itself.
        centers
            (n, 2), µm.
        cells
            The cells to predict, by default all. A cell without features gets no prediction.
        slides
            (n,), number of each cell's slide, for a model that standardises features by slide; by default all are of
            one.
        batch_size
            Cells at once, by default 512 on a CPU and 2,048 on a GPU.
        device
            Where to compute, ``"cpu"``, ``"cuda"`` or ``"mps"``; by default the fastest there is. A GPU of NVIDIA's
            multiplies numbers of 32 bits with 10 bits behind the point (TF32).
        progress_bar
            Show progress on the standard error, where it takes more than a few seconds: a bar in a terminal or a
            notebook, a line a minute elsewhere.

        Returns
        -------
        (n, k) logits; NaN for cells without a prediction.

        Raises
        ------
        ValueError
            When the features are not of the model's dimension, or hold infinite values.
        MemoryError
            When the device has no room for so many cells at once.
        """
        if features.ndim != 2 or features.shape[1] != self.card.n_features:
            msg = (
                f"The features have shape {tuple(features.shape)}; the model was trained on {self.card.n_features} "
                f"features per cell ({self.card.feature_key})."
            )
            raise ValueError(msg)
        known = known_rows(features)
        wanted = known.copy()
        if cells is not None:
            wanted[:] = False
            wanted[cells] = known[cells]
        logits = np.full((len(centers), self.card.k), np.nan, dtype=np.float32)
        chosen = np.flatnonzero(wanted)
        if not len(chosen):
            return logits
        slides = np.zeros(len(centers), dtype=np.intp) if slides is None else slides
        seen = as_seen(features, slides, known, self.card.standardize)
        neighborhoods = Neighborhoods(
            seen, indptr, indices, centers, self.radius_um, known=known, max_tokens=self.card.max_tokens
        )
        chosen = chosen[spatial_order(centers[chosen])]
        place = torch.device(torch_device(device) if isinstance(device, str) else device)
        at_once = batch_size or (PREDICTION_BATCH_CPU if place.type == "cpu" else PREDICTION_BATCH_GPU)

        def make(part: Integers) -> TokenBatch:
            batch = neighborhoods.batch(neighborhoods.tokens(part))
            return batch.pin_memory() if place.type == "cuda" else batch

        parts = np.array_split(chosen, math.ceil(len(chosen) / at_once))
        progress = Progress(len(chosen), "Niches", "cells", delay=BAR_AFTER_S) if progress_bar else None
        found = []
        try:
            with computing(self.network, place, at_once) as (_, threads), tensor_cores():
                for part, batch in zip(
                    parts, ordered_map(make, parts, n_threads=1, n_ahead=BATCHES_AHEAD), strict=True
                ):
                    threads.adjust()
                    found.append(self.network(batch.to(place, non_blocking=True)).float())
                    if progress is not None:
                        progress.advance(len(part))
                logits[chosen] = torch.cat(found).cpu().numpy()  # once: a GPU would wait for each copy
        finally:
            if progress is not None:
                progress.close()
        return logits
