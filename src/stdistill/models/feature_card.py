"""What a model knows of the features that it reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FeatureCard:
    """One encoder's features that a model reads; what is not known is `None`.

    Parameters
    ----------
    feature_key, n_features
        Their key of ``.obsm`` in the training, and their dimension.
    encoder, encoder_licence, encoder_revision
        What computed them, the licence of its weights, and a hash of them.
    mpp, crop_px
        µm per pixel of the crops, and their side in pixels.
    context
        How many times as wide the tissue around is that the features also describe.
    stain_normalization
        The stains that the crops were normalised to.
    expression_model_sha256
        Fingerprint of the scVI model, of a latent.
    loadings
        Of principal components: the ``gene`` that leads each, and its ``loading``.
    """

    feature_key: str
    n_features: int
    encoder: str | None = None
    encoder_licence: str | None = None
    encoder_revision: str | None = None
    mpp: float | None = None
    crop_px: int | None = None
    context: float | None = None
    stain_normalization: str | None = None
    expression_model_sha256: str | None = None
    loadings: list[dict[str, Any]] | None = None

    def entries(self) -> dict[str, Any]:
        """Return what is known, as a card in JSON holds it."""
        return {name: value for name, value in asdict(self).items() if value is not None}
