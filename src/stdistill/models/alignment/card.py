"""What an alignment is, in words and numbers: the card that is saved beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.feature_card import FeatureCard
from stdistill.models.saved import Card


@dataclass(frozen=True)
class AlignmentCard(Card):
    """Everything about an alignment but its weights: what ``card.json`` of a saved one says.

    Parameters
    ----------
    he
        Entries of a `FeatureCard` for each scale, of the H&E features of tiles.
    expression
        Entries of a `FeatureCard` of what a cell expresses.
    tile_um
        Side of a tile, in µm.
    radius_um
        Cells of one micro place within this distance are connected.
    max_pairs
        Pairs of a tile and scale that may get an edge.
    network
        Arguments of the network.
    images
        Fingerprints of the H&E images that it was trained on.
    finetuned
        Of a model whose encoder learned: number of ``blocks``, and name (``encoder``) and ``revision`` of what these
        are put into.
    tissue, licence, training, versions, unknown
        As of every card.

    Examples
    --------
    >>> import stdistill as sd
    >>> he = {"macro": {"feature_key": "X_he_macro", "n_features": 276}}
    >>> card = sd.models.AlignmentCard(he, {"feature_key": "X_scVI", "n_features": 10}, 128.0, 20.0, 5000, {})
    >>> card.scales
    ['macro']
    """

    he: dict[str, dict[str, Any]]
    expression: dict[str, Any]
    tile_um: float
    radius_um: float
    max_pairs: int
    network: dict[str, Any]
    images: list[str] | None = None
    finetuned: dict[str, Any] | None = None

    @property
    def scales(self) -> list[str]:
        """Those that are aligned."""
        return list(self.he)

    @property
    def inputs(self) -> dict[str, FeatureCard]:
        """What is known of the H&E features of each scale."""
        return {scale: FeatureCard(**entries) for scale, entries in self.he.items()}

    @property
    def cells(self) -> FeatureCard:
        """What is known of the expression of cells."""
        return FeatureCard(**self.expression)

    def build_network(self) -> AlignmentNetwork:
        """Build a network of this size, with weights yet to be loaded."""
        n_he = {scale: each.n_features for scale, each in self.inputs.items()}
        return AlignmentNetwork(n_he, self.cells.n_features, **self.network)
