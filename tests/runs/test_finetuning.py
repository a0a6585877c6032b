"""Which encoder may learn: the one that made the features that are there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

import stdistill as sd
from stdistill._runs.finetuning import find_encoder
from stdistill.models.feature_card import FeatureCard

SOURCE = FeatureCard("X_he_micro", 276, encoder="texture", crop_px=64, mpp=0.5)


def test_the_encoder_of_the_features() -> None:
    assert find_encoder(SOURCE, None).name == "texture"
    assert find_encoder(SOURCE, "texture").name == "texture"


def test_an_encoder_of_ones_own() -> None:
    """It is known by its weights: another one of its name is another one."""
    encoder, other = (
        sd.encoders.from_module(nn.Linear(3, n), mean=(0, 0, 0), std=(1, 1, 1), name="own") for n in (2, 4)
    )
    (known,) = sd.encoders._registry.resolve(encoder)
    source = replace(SOURCE, encoder="own", encoder_revision=known.revision)
    assert find_encoder(source, encoder).revision == known.revision
    with pytest.raises(ValueError, match=r"The weights of 'own' are of revision .*; the model was trained on features"):
        find_encoder(source, other)
    with pytest.raises(
        KeyError, match=r"no encoder .*own.*Give the name under which the model.*s features were computed"
    ):
        find_encoder(source, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": None}, r"\.obsm\['X_he_micro'\] is of the encoder None; expected one encoder"),
        ({"encoder": "uni2-h+texture"}, r"is of the encoder 'uni2-h\+texture'; expected one encoder"),
        ({"stain_normalization": "{}"}, "is of the encoder 'texture', and of a normalised stain; expected one encoder"),
    ],
)
def test_features_from_which_no_encoder_can_learn(changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=rf"{message}.*or leave out finetune_blocks"):
        find_encoder(replace(SOURCE, **changes), None)


def test_another_encoder() -> None:
    with pytest.raises(ValueError, match=r"The encoder is 'texture'; the model was trained on features of 'uni2-h'"):
        find_encoder(replace(SOURCE, encoder="uni2-h"), "texture")
