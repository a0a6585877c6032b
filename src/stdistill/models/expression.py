"""The expression encoder: scVI, trained on arrays of counts, saved as safetensors and JSON, and applied."""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from stdistill._support.quiet import quiet
from stdistill._support.threads import one_thread
from stdistill._training.callbacks import Epochs
from stdistill._training.devices import environment
from stdistill._training.state import own_torch_state
from stdistill.models.saved import Card, SavedModel
from stdistill.models.seen import SEEN, Seen, recall, to_tensors
from stdistill.models.sharing.description import Description, Part, count, known

ARCHITECTURE = {
    "n_hidden": 128,
    "n_layers": 1,
    "dropout_rate": 0.1,
    "dispersion": "gene",
    "gene_likelihood": "zinb",
    "latent_distribution": "normal",
}
"""scVI's defaults, written out so that a saved model is rebuilt alike should they change."""

TRAINING_SHARE = 0.9
"""scVI's default; the rest tells how well the model does on cells it was not fitted to."""

PATIENCE = 10
"""Epochs without a lower loss on the held-out cells after which the training ends."""

MIN_CELLS = 10
"""With fewer none would be held out."""

LATENT_BATCH = 4096
"""Two to three times as fast as scVI's default of 128 on panels of a few hundred genes, and 82 MB at 5,000."""


@dataclass(frozen=True)
class ExpressionCard(Card):
    """What an expression model says of itself."""

    genes: list[str]
    libraries: list[str]
    """Slides that the decoder knows, in its order."""
    n_latent: int


class ExpressionModel(SavedModel):
    """A trained scVI model.

    Parameters
    ----------
    card
        Its genes, slides and size, and how it was trained.
    weights
        The tensors of scVI's module; and what it remembers of the cells that it was fitted on.
    history
        ``elbo_train``, the loss, one row per epoch.
    """

    kind: ClassVar[str] = "expression"
    card_type: ClassVar[type[ExpressionCard]] = ExpressionCard
    card: ExpressionCard

    def __init__(self, card: ExpressionCard, weights: dict[str, Tensor], history: pd.DataFrame) -> None:
        self.card = card
        self.history = history
        self._weights = {name: tensor for name, tensor in weights.items() if name != SEEN}
        self.seen: Seen | None = recall(weights)

    def describe(self) -> Description:
        """Say what it is, for people."""
        card = self.card
        cells = card.training.get("n_training_cells")
        trained = known(card.tissue, count(len(card.libraries), "slide"), count(cells, "cell"))
        return Description(
            title=f"a scVI model of {len(card.genes)} genes",
            purpose=f"It tells in {card.n_latent} numbers what a cell expresses, from its counts.",
            sections={"Trained on": trained},
            use='model.save("scvi")\nsd.pp.embed_expression(adata, model="scvi")',
            parts_name="Genes",
            parts=[Part(name) for name in card.genes],
            unrecorded=["tissue"] if card.tissue is None else [],
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of scVI's module, and `seen`."""
        return {**self._weights, **to_tensors(self.seen)}

    @classmethod
    def restore(cls, card: ExpressionCard, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        """Make the model again; one empty cell tells whether the weights fit, before anything is computed."""
        if not any(card.n_latent in tensor.shape for tensor in weights.values()):
            msg = f"the card asks for a latent of {card.n_latent} dimensions, which no tensor has"
            raise RuntimeError(msg)
        model = cls(card, weights, history)
        try:
            model.encode(np.zeros((1, len(card.genes)), dtype=np.float32))
        except (ValueError, AttributeError, TypeError) as error:
            raise RuntimeError(str(error)) from error
        return model

    def encode(self, counts: Any) -> npt.NDArray[np.float32]:
        """Return the posterior means (n, n_latent) of `counts` (n, genes).

        scVI's encoder does not see which slide a cell is from (only its decoder does), so that all are passed as the
        first. It runs on the CPU whatever the model was trained on, so that a saved model gives the bits it gave then.
        """
        card = self.card
        first = np.zeros(counts.shape[0], dtype=np.int64)
        libraries = pd.Categorical.from_codes(first, categories=pd.Index(card.libraries))
        with _registered(counts, card.genes, libraries, card.n_latent) as model:
            model.module.load_state_dict(self._weights)
            model.module.eval()
            model.is_trained = True
            latent: npt.NDArray[np.float32] = model.get_latent_representation(batch_size=LATENT_BATCH)
        return latent


def train(
    counts: Any,
    genes: list[str],
    libraries: pd.Series,
    cells: npt.NDArray[np.integer],
    *,
    n_latent: int,
    max_epochs: int | None,
    batch_size: int,
    seed: int,
    accelerator: str,
    devices: int | list[int] | str,
) -> ExpressionModel:
    """Train scVI on the rows `cells` of `counts` (n, genes), of which no copy is made.

    `libraries` names each row's slide. With `max_epochs` all of these are trained; without, the training ends when the
    loss on the held-out cells has not fallen for `PATIENCE` epochs, or after as many as scVI would choose.
    """
    if len(cells) < MIN_CELLS:
        msg = f"There are {len(cells)} cells to train on, and scVI needs at least {MIN_CELLS}."
        raise ValueError(msg)
    stops_early = max_epochs is None
    if max_epochs is None:
        max_epochs = _default_epochs(len(cells))
    names = sorted(libraries.iloc[cells].unique())
    # Slides without training cells go by the name of another: the decoder never sees them.
    slides = pd.Categorical(libraries.where(libraries.isin(names), names[0]), categories=names)
    fitted, held_out = _hold_out(cells, batch_size, seed)
    others = np.setdiff1d(np.arange(counts.shape[0]), cells)
    with _registered(counts, genes, slides, n_latent, seed=seed) as model:
        model.train(
            max_epochs=max_epochs,
            batch_size=batch_size,
            accelerator=accelerator,
            devices=devices,
            datasplitter_kwargs={"external_indexing": [fitted, held_out, others]},
            check_val_every_n_epoch=1 if stops_early else max_epochs,
            early_stopping=stops_early,
            early_stopping_monitor="elbo_validation",
            early_stopping_patience=PATIENCE,
            early_stopping_min_delta=0.0,
            enable_progress_bar=False,  # it writes a line per step into a log file
            callbacks=[Epochs(max_epochs, "scVI")],
            plugins=environment(1 if devices == "auto" else devices),  # scvi-tools takes one of them
            benchmark=None,  # leaves a flag of cuDNN, which has no part in this, as the user has it
        )
        weights = {name: tensor.cpu().contiguous() for name, tensor in model.module.state_dict().items()}
        history = {name: frame[name].astype(float).tolist() for name, frame in model.history.items()}
    if not np.isfinite(history["elbo_train"]).all():
        msg = "The training of scVI diverged: its loss is not finite. Look at the largest counts of the table."
        raise RuntimeError(msg)
    training = {
        "n_training_cells": len(cells),
        "max_epochs": max_epochs,
        "n_epochs": len(history["elbo_train"]),
        "batch_size": batch_size,
        "seed": seed,
        "elbo_validation": history["elbo_validation"][-1],
        "scvi_version": scvi.__version__,
    }
    losses = pd.DataFrame({"elbo_train": history["elbo_train"]}).rename_axis("epoch")
    versions = {package: version(package) for package in ("stdistill", "scvi-tools", "torch")}
    card = ExpressionCard(genes, names, n_latent, training=training, versions=versions)
    model = ExpressionModel(card, weights, losses)
    model.known_sha256 = model.sha256
    return model


def _default_epochs(n_cells: int) -> int:
    """Return the number of epochs that scVI would choose; it would count the cells not trained on as well."""
    return max(1, min(400, round(20_000 / n_cells * 400)))


def _hold_out(
    cells: npt.NDArray[np.integer], batch_size: int, seed: int
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Part `cells` into those that are fitted and those that are held out, as scVI does when it splits itself."""
    n_fitted = math.ceil(TRAINING_SHARE * len(cells))
    last_batch = n_fitted % batch_size
    if last_batch < 3:  # too few for batch normalisation
        n_fitted -= last_batch
    n_held_out = len(cells) - n_fitted
    shuffled = cells[np.random.RandomState(seed).permutation(len(cells))]
    return shuffled[n_held_out:], shuffled[:n_held_out]


@contextlib.contextmanager
def _registered(
    counts: Any, genes: list[str], libraries: pd.Categorical[Any], n_latent: int, *, seed: int = 0
) -> Iterator[scvi.model.SCVI]:
    """Yield a new scVI model on a table of its own, which shares `counts`, and leave no trace of either.

    scVI notes tables in their `.uns` and `.obs` and keeps them alive in a register, draws from the global random
    number generators, and prints. Its layers round otherwise with another number of threads, so it always has one: the
    same seed gives the same bits on a machine that is busy and on one that is not.
    """
    with contextlib.ExitStack() as stack:
        for each in (own_torch_state(), isolate_rng(), quiet(), one_thread(), warnings.catch_warnings()):
            stack.enter_context(each)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        warnings.filterwarnings("ignore", module=r"(lightning|scvi)\.")  # of nothing that a user can change
        torch.manual_seed(seed)
        obs = pd.DataFrame({"library": libraries}, index=pd.RangeIndex(counts.shape[0]).astype(str))
        adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
        scvi.model.SCVI.setup_anndata(adata, batch_key="library")
        model = scvi.model.SCVI(adata, n_latent=n_latent, **ARCHITECTURE)
        try:
            yield model
        finally:
            model.deregister_manager(adata)
