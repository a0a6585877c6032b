"""What a niche model is, in words and numbers: the card that is saved beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stdistill.models.niche.network import NicheNetwork
from stdistill.models.saved import Card


@dataclass(frozen=True)
class ModelCard(Card):
    """Everything about a model but its weights.

    Whatever is not known, such as the encoder of features that were put into the table by hand, is `None`.
    """

    kind: str
    """``"self-distillation"`` or ``"distillation"``."""
    k: int
    """Number of niches."""
    feature_key: str
    """Key of ``.obsm`` of the features it was trained on."""
    n_features: int
    """Their dimension."""
    radius_um: float
    """Radius of the neighbourhoods."""
    niches: list[str]
    """Their names."""
    colors: list[str]
    """Their colours."""
    network: dict[str, Any]
    """Arguments of `NicheNetwork`."""
    max_tokens: int | None = None
    """Largest number of tokens of a neighbourhood."""
    encoder: str | None = None
    """The encoder that computed the features, with its licence and the revision of its weights."""
    encoder_licence: str | None = None
    encoder_revision: str | None = None
    mpp: float | None = None
    """µm per pixel of the crops."""
    crop_px: int | None = None
    """Their side."""
    stain_normalization: str | None = None
    """The stains that the crops were normalised to."""
    expression_model_sha256: str | None = None
    """Fingerprint of the scVI model that computed the features, of a model of expression."""
    teacher: str | None = None
    """What a student was taught by: prefix of the logits, or the column of the labels."""
    temperature: float | None = None
    """τ."""

    def __post_init__(self) -> None:
        for name, names in (("niches", self.niches), ("colors", self.colors)):
            if len(names) != self.k:
                msg = f"The card lists {len(names)} {name}; expected k = {self.k}."
                raise ValueError(msg)

    def build_network(self) -> NicheNetwork:
        """Build a network of this size, with weights yet to be learned or loaded."""
        return NicheNetwork(self.n_features, self.k, **self.network)
