"""What users hold: a trained niche network and its card."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from stdistill._training.sampling import spatial_order
from stdistill.models.niche.batches import Floats, Integers, Neighborhoods, known_rows
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.network import NicheNetwork

FORMAT = "stdistill niche model"
FORMAT_VERSION = 2
CARD, WEIGHTS, HISTORY = "card.json", "weights.safetensors", "history.csv"
PREDICTION_BATCH = 512
"""Cells at once: neighbouring ones, whose neighbourhoods share most cells."""


class NicheModel:
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

    def __init__(self, network: NicheNetwork, card: ModelCard, history: pd.DataFrame) -> None:
        self.network = network.eval().requires_grad_(False)  # torch may compute other bits for weights to be trained
        self.card = card
        self.history = history

    def __repr__(self) -> str:
        card = self.card
        return (
            f"NicheModel({card.kind}, k={card.k}, {card.feature_key} with {card.n_features} features, "
            f"radius {card.radius_um:.1f} µm)"
        )

    @property
    def radius_um(self) -> float:
        """Radius of the neighbourhoods, in µm."""
        return self.card.radius_um

    @property
    def sha256(self) -> str:
        """Fingerprint of the weights: that of their file in a saved model."""
        return _digest(self._weights())

    def predict(
        self,
        features: Floats | Tensor,
        indptr: Integers,
        indices: Integers,
        centers: Floats,
        *,
        cells: Integers | None = None,
        batch_size: int = PREDICTION_BATCH,
        device: torch.device | str = "auto",
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
        batch_size
            Cells at once.
        device
            Where to compute, by default on a GPU when there is one.

        Returns
        -------
        (n, k) logits; NaN for cells without a prediction.

        Raises
        ------
        ValueError
            When the features are not of the model's dimension, or hold infinite values.
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
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        neighborhoods = Neighborhoods(
            features, indptr, indices, centers, self.radius_um, known=known, max_tokens=self.card.max_tokens
        )
        chosen = chosen[spatial_order(centers[chosen])]
        home = self.network.mean.device
        self.network.eval().to(device)
        with torch.inference_mode():
            for part in np.array_split(chosen, math.ceil(len(chosen) / batch_size)):
                batch = neighborhoods.batch(neighborhoods.tokens(part)).to(device)
                logits[part] = self.network(batch).float().cpu().numpy()
        self.network.to(home)
        return logits

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``card.json``, ``weights.safetensors`` and ``history.csv``.

        The folder appears when all of it is written. Nothing is pickled.

        Parameters
        ----------
        folder
            Folder to write; must not exist, unless `overwrite`.
        overwrite
            Replace a model that was saved there. Nothing else is ever replaced.

        Raises
        ------
        FileExistsError
            When the folder exists, and `overwrite` is not set or it holds no model.
        """
        folder = Path(folder)
        if folder.exists() and not (overwrite and _is_model(folder)):
            what = "another model: give overwrite=True to replace it" if _is_model(folder) else "something else"
            msg = f"{folder} exists already and holds {what}."
            raise FileExistsError(msg)
        contents = {WEIGHTS: self._weights(), HISTORY: self.history.to_csv().encode()}
        card = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": self.card.to_dict(),
            "sha256": {name: _digest(content) for name, content in contents.items()},
        }
        card["sha256"][CARD] = _digest(_canonical(card))  # type: ignore[index]
        contents[CARD] = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False).encode()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            for name, content in contents.items():
                (new / name).write_bytes(content)
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)

    @classmethod
    def load(cls, folder: str | Path) -> NicheModel:
        """Read a model that was saved.

        Parameters
        ----------
        folder
            The folder.

        Returns
        -------
        The model; its predictions are those of the one that was saved, bit by bit.

        Raises
        ------
        FileNotFoundError
            When the folder or one of its files is not there.
        ValueError
            When a file was changed or cut off, or was written by another version of the format.
        """
        folder = Path(folder)
        contents = {}
        for name in (CARD, WEIGHTS, HISTORY):
            if not (folder / name).is_file():
                msg = f"{folder} holds no niche model: there is no {name}."
                raise FileNotFoundError(msg)
            contents[name] = (folder / name).read_bytes()
        card = _read_card(folder / CARD, contents[CARD])
        for name in (WEIGHTS, HISTORY):
            if card["sha256"].get(name) != _digest(contents[name]):
                msg = f"{folder / name} is not the file that was saved: it was changed, or cut off. Save it again."
                raise ValueError(msg)
        described = ModelCard.from_dict(card["model"])
        network = described.build_network()
        try:
            network.load_state_dict(load_tensors(contents[WEIGHTS]))
        except (SafetensorError, RuntimeError) as error:
            msg = f"{folder / WEIGHTS} does not fit the card: {error}"
            raise ValueError(msg) from error
        history = pd.read_csv(folder / HISTORY, index_col=0, float_precision="round_trip")
        return cls(network, described, history)

    def _weights(self) -> bytes:
        """Serialise the weights, as they are saved."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        return save_tensors(state)


def _read_card(path: Path, content: bytes) -> dict[str, Any]:
    try:
        card = json.loads(content)
    except ValueError as error:
        msg = f"{path} cannot be read as JSON: it was changed, or cut off ({error})."
        raise ValueError(msg) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        msg = f"{path} is not the card of a {FORMAT}."
        raise ValueError(msg)
    if card.get("format_version") != FORMAT_VERSION:
        msg = (
            f"{path} is of version {card.get('format_version')!r} of the format; this stdistill reads version "
            f"{FORMAT_VERSION}. Load it with the stdistill that saved it (model.versions in the file)."
        )
        raise ValueError(msg)
    sums = card.get("sha256")
    expected = sums.pop(CARD, None) if isinstance(sums, dict) else None
    if expected != _digest(_canonical(card)):
        msg = f"{path} is not the file that was saved: it was changed. Save the model again."
        raise ValueError(msg)
    return card


def _canonical(card: dict[str, Any]) -> bytes:
    return json.dumps(card, sort_keys=True, allow_nan=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_model(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / CARD).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False
