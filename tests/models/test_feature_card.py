from __future__ import annotations

from stdistill.models.feature_card import FeatureCard


def test_what_is_not_known_is_not_written() -> None:
    card = FeatureCard("X_he", 3, encoder="texture", mpp=0.5)
    assert card.entries() == {"feature_key": "X_he", "n_features": 3, "encoder": "texture", "mpp": 0.5}
    assert FeatureCard(**card.entries()) == card
