"""What any saved model is: a folder with a card (JSON), weights (safetensors) and the history of the training."""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from stdistill._support.files import digest, replacing_folder
from stdistill._support.reading import NOT_AS_EXPECTED
from stdistill._training.state import own_torch_state
from stdistill.models import formats
from stdistill.models.sharing import hub
from stdistill.models.sharing.shareable import Shareable

Network = TypeVar("Network", bound=nn.Module)

CARD, WEIGHTS, HISTORY = hub.FILES[:3]
ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z")
EARLIER_WEIGHTS = "weights.safetensors"
KINDS = {
    "alignment": "stdistill.models.alignment.model:AlignmentModel",
    "niche": "stdistill.models.niche.model:NicheModel",
    "composition": "stdistill.models.composition.model:CompositionModel",
    "expression": "stdistill.models.expression:ExpressionModel",
}
"""The class of each kind of model, imported when a model of it is loaded."""


@dataclass(frozen=True)
class Card:
    """What every model says of itself; each kind adds its own entries."""

    tissue: str | None = field(default=None, kw_only=True)
    """Organ, species, disease of the training, in the words of whoever shared it."""
    licence: str | None = field(default=None, kw_only=True)
    """Terms under which it was shared."""
    training: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """How it was trained: parameters, numbers of cells, epochs."""
    versions: dict[str, str] = field(default_factory=dict, kw_only=True)
    """Of the packages that trained it."""
    unknown: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """Entries of a later stdistill, kept as they are."""

    def to_dict(self) -> dict[str, Any]:
        """As it is written to JSON."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "unknown"}
        plain: dict[str, Any] = json.loads(json.dumps(self.unknown | own, default=_plain))
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """As it was read from JSON, checked; what is missing has its default."""
        own = {each.name: each for each in fields(cls) if each.name != "unknown"}
        types = get_type_hints(cls)
        known = {name: _checked(name, values[name], types[name]) for name in own if name in values}
        try:
            return cls(**known, unknown={name: value for name, value in values.items() if name not in own})
        except TypeError as error:
            msg = f"The card lacks entries that every such model has: {error}."
            raise ValueError(msg) from error


class SavedModel(Shareable):
    """A trained model: what it is, its weights, and how its training went.

    A kind of model says how its weights become tensors and back; saving, loading and checking are here.
    """

    card_type: ClassVar[type[Card]]
    card: Card
    history: pd.DataFrame
    """One row per epoch."""

    @property
    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The tensors to save, by name."""

    @classmethod
    @abstractmethod
    def restore(cls, card: Any, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        """Make the model again; raise a `RuntimeError` or a `KeyError` when the weights are others."""

    @property
    def sha256(self) -> str:
        """Fingerprint of the weights: that of their file in a saved model."""
        return digest(self._serialised())

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``card.json``, ``model.safetensors`` and ``history.csv``.

        The folder appears when all of it is written. Nothing is pickled.

        Parameters
        ----------
        folder
            Folder to write; must not exist, unless `overwrite`.
        overwrite
            Replace a model of the same kind that was saved there. Nothing else is ever replaced.

        Raises
        ------
        FileExistsError
            When the folder exists, and `overwrite` is not set or it holds no model of this kind.
        """
        folder = Path(folder).expanduser()
        if folder.exists():
            is_model = find_kind(folder) == self.kind
            if not (overwrite and is_model):
                what = "another model, which overwrite=True replaces" if is_model else "something else"
                msg = f"{folder} exists already and holds {what}. Name another folder."
                raise FileExistsError(msg)
        contents = {WEIGHTS: self._serialised(), HISTORY: self.history.to_csv().encode()}
        sums = {name: digest(content) for name, content in contents.items()}
        contents[CARD] = formats.write_card(self.kind, self.card.to_dict(), sums)
        with replacing_folder(folder) as new:
            for name, content in contents.items():
                (new / name).write_bytes(content)

    @classmethod
    @own_torch_state()
    def load(cls, folder: str | Path) -> Self:
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
            When a file was changed or cut off, holds a model of another kind, or was written by a later version of the
            format.
        """
        folder = Path(folder).expanduser()
        card = formats.read_card(folder / CARD, _read(folder, CARD, cls.kind))
        weights = WEIGHTS if WEIGHTS in card.sums else EARLIER_WEIGHTS
        contents = {weights: _read(folder, weights, cls.kind)}
        if card.kind != cls.kind:
            msg = f"{folder} holds a model of the kind {card.kind!r}, expected {cls.kind!r}. sd.models.load reads any."
            raise ValueError(msg)
        history = card.history
        if history is None:
            contents[HISTORY] = _read(folder, HISTORY, cls.kind)
        for name, expected in card.sums.items():
            if name not in contents or digest(contents[name]) != expected:
                msg = f"{folder / name} is not the file that was saved: it was changed, or cut off. Save it again."
                raise ValueError(msg)
        try:
            described = cls.card_type.from_dict(card.entries)
        except NOT_AS_EXPECTED as error:
            msg = f"{folder / CARD} describes no {cls.kind} model: {error}"
            raise ValueError(msg) from error
        try:
            if history is None:
                history = pd.read_csv(io.BytesIO(contents[HISTORY]), index_col=0, float_precision="round_trip")
        except NOT_AS_EXPECTED as error:
            msg = f"{folder / HISTORY} is no table of a training: {error}"
            raise ValueError(msg) from error
        try:
            model = cls.restore(described, load_tensors(contents[weights]), history)
            model.describe()
        except (SafetensorError, *NOT_AS_EXPECTED) as error:
            msg = f"{folder / weights} does not fit the card: {error}"
            raise ValueError(msg) from error
        model.known_sha256 = card.sums.get(weights)
        return model

    def _serialised(self) -> bytes:
        state = {name: value.detach().cpu().contiguous() for name, value in self.weights.items()}
        return save_tensors(state)


def load(folder: str | Path) -> SavedModel:
    """Read a saved model of any kind.

    Parameters
    ----------
    folder
        The folder that a model's ``save`` wrote, or ``save=`` of :func:`stdistill.pp.embed_expression`; or a model on
        the Hugging Face hub, ``"hf:owner/name"`` or ``"hf:owner/name@revision"``, as ``from_pretrained`` reads it.

    Returns
    -------
    The model, of its own class: :class:`stdistill.models.NicheModel` for a teacher or a student.

    Raises
    ------
    FileNotFoundError
        When the folder or one of its files is not there.
    ValueError
        When a file was changed or cut off, or was written by a later version of the format.
    PermissionError, ConnectionError
        When the hub does not give the model.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(1.0, (200, 30)))
    >>> sd.pp.embed_expression(adata, max_epochs=1, save="scvi/")
    >>> sd.models.load("scvi/").kind
    'expression'
    """
    folder = hub.find_folder(folder)
    kind = formats.read_card(folder / CARD, _read(folder, CARD, "saved")).kind
    if kind not in KINDS:
        msg = f"{folder} holds a model of the kind {kind!r}; this stdistill knows {', '.join(map(repr, KINDS))}."
        raise ValueError(msg)
    model_class: type[SavedModel] = resolve_name(KINDS[kind])
    return model_class.load(folder)


def build_with(build: Callable[[], Network], weights: dict[str, Tensor], *, depth: int) -> Network:
    """Build a network and give it its weights; no memory is asked for before all of these are known to fit.

    Cards may come from anybody: one that asks for a network of terabytes is refused.

    Parameters
    ----------
    build
        Builds it as the card says.
    weights
        Its tensors, all of them.
    depth
        Layers, or networks, that the card asks for: each has a tensor at least.

    Raises
    ------
    RuntimeError
        When the weights are others.
    """
    if depth > len(weights):
        msg = f"the card asks for {depth} layers, and there are {len(weights)} tensors"
        raise RuntimeError(msg)
    with torch.device("meta"):
        planned = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if planned != found:
        odd = [name for name in planned | found if planned.get(name) != found.get(name)]
        msg = (
            f"{len(odd)} tensors differ, such as {odd[0]!r}: the card asks for {planned.get(odd[0], 'none')}, and "
            f"there is {found.get(odd[0], 'none')}"
        )
        raise RuntimeError(msg)
    network = build()
    network.load_state_dict(weights)
    return network


def find_kind(folder: Path) -> str | None:
    """Return the kind of the model in a folder; `None` when it holds none."""
    try:
        return formats.read_card(folder / CARD, (folder / CARD).read_bytes()).kind
    except (OSError, ValueError):
        return None


def _read(folder: Path, name: str, kind: str) -> bytes:
    if not folder.is_dir():
        if folder.is_file():
            lies_in_one = (folder.parent / CARD).is_file() and folder.suffix.lower() not in ARCHIVES
            advice = (
                f"the folder that it lies in, {folder.parent}" if lies_in_one else "a folder; unpack an archive first"
            )
            msg = f"{folder} is a file, and no saved model: give {advice}."
            raise FileNotFoundError(msg)
        msg = (
            f"There is no folder {folder}; expected a saved model ({CARD}, {WEIGHTS} and {HISTORY}), or its name on "
            "the hub, 'hf:owner/name'."
        )
        raise FileNotFoundError(msg)
    if not (folder / name).is_file():
        inside = " or ".join(sorted(str(card.parent) for card in folder.glob(f"*/{CARD}")))
        msg = f"{folder} holds no {kind} model: there is no {name}." + (f" Did you mean {inside}?" if inside else "")
        raise FileNotFoundError(msg)
    return (folder / name).read_bytes()


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Return an entry of a card as its type; JSON makes no difference between 2 and 2.0."""
    allowed = [getattr(part, "__origin__", part) for part in getattr(kind, "__args__", (kind,))]
    if getattr(kind, "__origin__", None) in (dict, list):
        allowed = [kind.__origin__]
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, tuple(allowed)):
        msg = f"The card's {name} is {value!r}; expected {kind}."
        raise ValueError(msg)
    return value


def _plain(value: Any) -> Any:
    """Turn what users and NumPy pass as parameters into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    msg = f"A card cannot hold a {type(value).__name__}: {value!r}."
    raise TypeError(msg)
