"""What a composition model is, in words and numbers: the card that is saved beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from stdistill._support.checks import check_choice
from stdistill._training.arguments import Standardization
from stdistill.models.composition.network import CompositionNetwork
from stdistill.models.feature_card import FeatureCard
from stdistill.models.saved import Card


@dataclass(frozen=True)
class CompositionCard(Card):
    """Everything about a composition model but its weights: what ``card.json`` of a saved one says.

    Parameters
    ----------
    method
        ``"mlp"`` or ``"ridge"``.
    types
        Names of the cell types, in the order of its outputs.
    features
        Entries of a `FeatureCard` for each encoder, in order.
    radius_um
        Radius of the neighbourhoods whose mean features it reads beside each place's own; `None`: it reads none.
    network
        Arguments of the networks: width, depth, dropout, output.
    n_members
        How many networks are averaged.
    target_key
        What it was taught by.
    training_mean
        Mean abundance of each type in the training.
    images
        Fingerprints of the H&E images that it was trained on.
    standardize
        ``"training"`` where features are brought to the mean and spread of all training rows, ``"slide"`` where those
        of each slide are brought to that of its own rows.
    tissue, licence, training, versions, unknown
        As of every card.

    Examples
    --------
    >>> import stdistill as sd
    >>> network = {"width": 1, "depth": 0, "dropout": 0.0, "output": "linear"}
    >>> card = sd.models.CompositionCard("ridge", ["B cell"], [], None, network, 1, "abundance", [2.5])
    >>> card.types
    ['B cell']
    """

    method: str
    types: list[str]
    features: list[dict[str, Any]]
    radius_um: float | None
    network: dict[str, Any]
    n_members: int
    target_key: str
    training_mean: list[float]
    images: list[str] | None = None
    standardize: str = "training"

    def __post_init__(self) -> None:
        check_choice(self.standardize, "standardize", get_args(Standardization))

    @property
    def inputs(self) -> list[FeatureCard]:
        """What is known of each encoder's features."""
        return [FeatureCard(**entries) for entries in self.features]

    @property
    def n_features(self) -> int:
        """Columns that the networks read."""
        own = sum(each.n_features for each in self.inputs)
        return own if self.radius_um is None else 2 * own

    def build_network(self) -> CompositionNetwork:
        """Build a network of this size, with weights yet to be loaded."""
        return CompositionNetwork(self.n_features, len(self.types), **self.network)
