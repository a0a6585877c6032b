from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pytest

from stdistill._table.fitting.like_model import check_card, embedding_arguments, find_encoders, find_mpp
from stdistill._table.he.slide_record import SlideRecord, write_slide_record
from stdistill._table.records import write_record
from stdistill.models import ModelCard


def card(**changes: Any) -> ModelCard:
    entries: dict[str, Any] = {
        "kind": "distillation",
        "k": 2,
        "feature_key": "X_he",
        "n_features": 276,
        "radius_um": 40.0,
        "niches": ["a", "b"],
        "colors": ["#000000", "#ffffff"],
        "network": {},
        "encoder": "texture",
        "crop_px": 64,
        "mpp": 0.274,
    }
    return ModelCard(**entries | changes)


@pytest.mark.parametrize(("native", "expected"), [(0.274, None), (0.2745, None), (0.25, 0.274), (0.5, 0.274)])
def test_resolution(native: float, expected: float | None) -> None:
    """An image of the model's resolution is not resampled; another is, to the model's."""
    assert find_mpp(native, 0.274) == expected
    cells = ad.AnnData(np.zeros((1, 1)))
    write_slide_record(cells, SlideRecord("svs", mpp=native))
    arguments = embedding_arguments(card(), find_encoders(card()), cells)
    rest = {"crop_px": 64, "context": None, "key_added": "X_he"}
    assert arguments == {"encoder": arguments["encoder"], "mpp": expected, **rest}


def test_a_slide_whose_resolution_is_not_recorded_is_resampled() -> None:
    assert embedding_arguments(card(), [], ad.AnnData(np.zeros((1, 1))))["mpp"] == 0.274


def test_other_weights(uni2_h_on_disk: str) -> None:
    student = card(encoder="uni2-h", encoder_revision="b1ab1a")
    with pytest.raises(ValueError, match=rf"revision '{uni2_h_on_disk}'; the model was trained on .*'b1ab1a'"):
        find_encoders(student)
    with pytest.raises(ValueError, match=r"The encoder is 'texture'; .* of 'uni2-h'"):
        find_encoders(student, "texture")
    for known in (uni2_h_on_disk, "unknown", None):
        (encoder,) = find_encoders(card(encoder="uni2-h", encoder_revision=known))
        assert (encoder.name, encoder.revision) == ("uni2-h", uni2_h_on_disk)


def test_as_the_features_of_the_model_were_read() -> None:
    """By whole windows, or crop by crop, as those of an earlier version."""
    (by_windows,) = find_encoders(card(crop_px=224, encoder_revision="windows-1"))
    assert by_windows.takes_windows(224)
    for earlier in (None, "unknown"):
        (by_crops,) = find_encoders(card(crop_px=224, encoder_revision=earlier))
        assert not by_crops.takes_windows(224)
    with pytest.raises(ValueError, match=r"of revision 'unknown'; the model was trained on features of 'windows-1'"):
        find_encoders(card(crop_px=64, encoder_revision="windows-1"))


def test_features_that_were_read_otherwise() -> None:
    table = ad.AnnData(np.zeros((2, 1)), obsm={"X_he": np.zeros((2, 276))})
    write_record(table, "embed_he", key_added="X_he", encoder="texture", revision="windows-1", crop_px=224, mpp=0.274)
    check_card(table, "X_he", card(crop_px=224, encoder_revision="windows-1"))
    with pytest.raises(ValueError, match=r"'windows-1', the model was trained on 'unknown'\. .*by_crops\(\)"):
        check_card(table, "X_he", card(crop_px=224))


def test_dense_features() -> None:
    """Are not those of crops, whether the weights are known or not; of other weights, they are dense none the less."""

    def check(found: str, trained: str | None) -> None:
        table = ad.AnnData(np.zeros((2, 1)), obsm={"X_he": np.zeros((2, 276))})
        write_record(table, "embed_he", key_added="X_he", encoder="uni", revision=found, crop_px=64, mpp=0.274)
        check_card(table, "X_he", card(encoder="uni", encoder_revision=trained))

    check("sha256-a-dense-1", "sha256-a-dense-1")
    for found, trained in (
        ("sha256-a-dense-1", "sha256-a"),
        ("sha256-a", "sha256-a-dense-1"),
        ("unknown", "dense-1"),
        ("sha256-a-dense-1", None),
        ("windows-1", "dense-1"),
    ):
        with pytest.raises(ValueError, match=r"Some are dense, others are not: .*encoder\.dense\(\)"):
            check(found, trained)
    with pytest.raises(ValueError, match="with the same file of weights"):
        check("sha256-a-dense-1", "sha256-b-dense-1")


@pytest.mark.parametrize("entry", ["encoder", "crop_px", "mpp"])
def test_a_model_that_does_not_know_its_features(entry: str) -> None:
    with pytest.raises(ValueError, match=r"does not know how its features 'X_he' .*\.obsm\[\"X_he\"\]"):
        find_encoders(card(**{entry: None}))


def test_stain_normalised_features() -> None:
    with pytest.raises(ValueError, match="stain_normalization="):
        find_encoders(card(stain_normalization="Macenko"))
    with pytest.raises(KeyError, match="nobody"):
        find_encoders(card(encoder="nobody"))
