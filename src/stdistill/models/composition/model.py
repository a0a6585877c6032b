"""What users hold: trained composition networks and their card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from stdistill._support.arrays import Integers
from stdistill._training.computing import computing
from stdistill.models.by_slide import as_seen
from stdistill.models.composition.card import CompositionCard
from stdistill.models.composition.network import CompositionNetwork
from stdistill.models.composition.rows import FeatureRows
from stdistill.models.features import ReadableRows, as_tensor
from stdistill.models.saved import SavedModel, build_with
from stdistill.models.seen import SEEN, Seen, recall, to_tensors
from stdistill.models.sharing.composition import describe
from stdistill.models.sharing.description import Description

PREDICTION_BATCH = 4096


class CompositionModel(SavedModel):
    """A trained composition model: tells from H&E features how much of each cell type is in a place.

    :func:`stdistill.tl.decompose` returns one, and :func:`stdistill.tl.predict` applies it to a slide.

    Parameters
    ----------
    members
        The networks, trained; their predictions are averaged.
    card
        What it is: types, features, encoders, training.
    history
        One row per member and epoch: losses, first without the held-out rows, then on all rows (column ``all_rows``).
    seen
        What it remembers of the rows that it was fitted on: sorted numbers, one of each.

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
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((200, 1)), obsm={"spatial": rng.uniform(0, 900, (200, 2))})
    >>> adata.obsm["X_he"] = rng.normal(size=(200, 6)).astype("float16")
    >>> adata.obsm["types"] = pd.DataFrame(rng.random((200, 2)), columns=["B cell", "T cell"], index=adata.obs_names)
    >>> sd.pp.abundances(adata, obsm_key="types")
    >>> adata.obs["section"] = np.repeat(["a", "b"], 100)
    >>> model = sd.tl.decompose(adata, method="ridge", group_key="section")
    >>> model.save("composition")
    >>> sd.models.CompositionModel.load("composition").card.types
    ['B cell', 'T cell']
    """

    kind: ClassVar[str] = "composition"
    card_type: ClassVar[type[CompositionCard]] = CompositionCard
    card: CompositionCard

    def __init__(
        self,
        members: Sequence[CompositionNetwork],
        card: CompositionCard,
        history: pd.DataFrame,
        seen: Seen | None = None,
    ) -> None:
        self.members = nn.ModuleList(members).eval().requires_grad_(False)
        self.card = card
        self.history = history
        self.seen = seen

    def describe(self) -> Description:
        """Say what it is, for people."""
        return describe(self.card)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of all members, and `seen`."""
        return {**self.members.state_dict(), **to_tensors(self.seen)}

    @classmethod
    def restore(cls, card: CompositionCard, weights: dict[str, Tensor], history: pd.DataFrame) -> Self:
        """Build the networks that the card describes, with these weights."""
        own = {name: part for name, part in weights.items() if name != SEEN}
        n = card.n_members
        members = build_with(
            lambda: nn.ModuleList(card.build_network() for _ in range(n)), own, depth=max(n, n * card.network["depth"])
        )
        return cls(list(members), card, history, recall(weights))  # type: ignore[arg-type]

    def predict(
        self,
        rows: FeatureRows,
        *,
        places: Integers | None = None,
        slides: Integers | None = None,
        batch_size: int = PREDICTION_BATCH,
        device: torch.device | str = "auto",
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Abundances of places, batch by batch.

        Parameters
        ----------
        rows
            Features of each encoder of the card, in its order, and the graph where the model reads neighbourhoods.
        places
            The rows to predict, by default all. A row without features gets no prediction.
        slides
            (n,), number of each row's slide, which a model of ``standardize="slide"`` reads; by default all are of one.
        batch_size
            Rows at once.
        device
            Where to compute, ``"cpu"``, ``"cuda"`` or ``"mps"``; by default the fastest there is.

        Returns
        -------
        Mean over the members (n, types), and their standard deviation (n, types), which is 0 of one member; NaN for
        rows without a prediction.

        Raises
        ------
        ValueError
            When the features are not of the model's dimension.
        MemoryError
            When the device has no room for so many rows at once.
        """
        if rows.shape[1] != self.card.n_features:
            msg = f"There are {rows.shape[1]} features per row; the model was trained on {self.card.n_features}."
            raise ValueError(msg)
        chosen = np.arange(len(rows)) if places is None else places
        chosen = chosen[rows.known[chosen]]
        mean = np.full((len(rows), len(self.card.types)), np.nan, dtype=np.float32)
        spread = mean.copy()
        if not len(chosen):
            return mean, spread
        slides = np.zeros(len(rows), dtype=np.intp) if slides is None else slides
        seen = as_seen(rows, slides, rows.known, self.card.standardize)
        members: Iterable[Any] = self.members  # torch takes them for modules of any kind
        mean[chosen], spread[chosen] = predict_members(members, seen, chosen, batch_size=batch_size, device=device)
        return mean, spread


def predict_members(
    members: Iterable[CompositionNetwork],
    rows: ReadableRows,
    places: Integers,
    *,
    batch_size: int = PREDICTION_BATCH,
    device: torch.device | str = "auto",
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation (len(places), types) over networks of what they say of rows with features."""
    networks = nn.ModuleList(members)
    parts = []
    with computing(networks, device, batch_size) as (place, threads):
        for part in np.array_split(places, math.ceil(len(places) / batch_size) or 1):
            threads.adjust()
            features = as_tensor(rows[part]).to(place)
            read = torch.stack([network.abundances(features) for network in networks])  # type: ignore[operator]
            parts.append(torch.stack([read.mean(dim=0), read.std(dim=0, correction=0)]).cpu().numpy())
    mean, spread = np.concatenate(parts, axis=1)
    return mean, spread
