"""The expression encoder: scVI, trained on arrays of counts, saved as safetensors and JSON, and applied."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.utilities.seed import isolate_rng
from safetensors import SafetensorError
from safetensors.torch import load_file, save

CARD = "card.json"
WEIGHTS = "weights.safetensors"
FORMAT = 1
"""Of the card: a saved model of another format is refused."""

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

MIN_CELLS = 10
"""With fewer none would be held out."""

LATENT_BATCH = 4096
"""Two to three times as fast as scVI's default of 128 on panels of a few hundred genes, and 82 MB at 5,000."""


@dataclass(frozen=True)
class ExpressionModel:
    """A trained scVI model: its weights, and what is needed to rebuild and to judge it."""

    genes: list[str]
    libraries: list[str]
    """Slides that the decoder knows, in its order."""
    n_latent: int
    training: dict[str, Any]
    """Number of cells, parameters, the loss (evidence lower bound) and the version of scVI."""
    weights: dict[str, torch.Tensor]

    @property
    def sha256(self) -> str:
        """Fingerprint of the weights: latents of two models must never meet."""
        return hashlib.sha256(save(self.weights)).hexdigest()

    def encode(self, counts: Any) -> npt.NDArray[np.float32]:
        """Return the posterior means (n, n_latent) of `counts` (n, genes).

        scVI's encoder does not see which slide a cell is from (only its decoder does), so that all are passed as the
        first. It runs on the CPU whatever the model was trained on, so that a saved model gives the bits it gave then.
        """
        first = np.zeros(counts.shape[0], dtype=np.int64)
        libraries = pd.Categorical.from_codes(first, categories=pd.Index(self.libraries))
        with _registered(counts, self.genes, libraries, self.n_latent) as model:
            model.module.load_state_dict(self.weights)
            model.module.eval()
            model.is_trained = True
            latent: npt.NDArray[np.float32] = model.get_latent_representation(batch_size=LATENT_BATCH)
        return latent

    def save(self, folder: Path) -> None:
        """Write the model to `folder`, which appears when all of it is written."""
        card = {
            "format": FORMAT,
            "genes": self.genes,
            "libraries": self.libraries,
            "n_latent": self.n_latent,
            "training": self.training,
        }
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            (new / WEIGHTS).write_bytes(save(self.weights))
            (new / CARD).write_text(json.dumps(card, indent=1) + "\n")
            new.rename(folder)


def load(folder: Path) -> ExpressionModel:
    """Read a model that `ExpressionModel.save` wrote."""
    absent = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if absent:
        theirs = " scVI's own files are not read, because opening them can run code." * (folder / "model.pt").is_file()
        msg = (
            f"There is no expression model in {folder}: {' and '.join(absent)} not found. "
            f"sd.pp.embed_expression writes one with save=.{theirs}"
        )
        raise FileNotFoundError(msg)
    try:
        card = json.loads((folder / CARD).read_text())
        if card.pop("format") != FORMAT:
            msg = f"its format is not {FORMAT}"
            raise ValueError(msg)
        model = ExpressionModel(**card, weights=load_file(folder / WEIGHTS))
        # One empty cell tells whether the weights fit, before anything is computed.
        model.encode(np.zeros((1, len(model.genes)), dtype=np.float32))
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        msg = f"The expression model in {folder} cannot be read ({error}). Write it anew with save=."
        raise ValueError(msg) from error
    return model


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

    `libraries` names each row's slide.
    """
    if len(cells) < MIN_CELLS:
        msg = f"There are {len(cells)} cells to train on, and scVI needs at least {MIN_CELLS}."
        raise ValueError(msg)
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
            check_val_every_n_epoch=max_epochs,
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
        "batch_size": batch_size,
        "seed": seed,
        "elbo_train": history["elbo_train"],
        "elbo_validation": history["elbo_validation"][-1],
        "scvi_version": scvi.__version__,
    }
    return ExpressionModel(genes, names, n_latent, training, weights)


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
    number generators, and prints.
    """
    with isolate_rng(), _quiet():
        torch.manual_seed(seed)
        obs = pd.DataFrame({"library": libraries}, index=pd.RangeIndex(counts.shape[0]).astype(str))
        adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
        scvi.model.SCVI.setup_anndata(adata, batch_key="library")
        model = scvi.model.SCVI(adata, n_latent=n_latent, **ARCHITECTURE)
        try:
            yield model
        finally:
            model.deregister_manager(adata)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence hints of Lightning and scVI that concern nothing a user can change; the progress bar goes to stderr."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.filterwarnings("ignore", module=r"(lightning|scvi)\.")
            yield
    finally:
        logger.setLevel(level)
