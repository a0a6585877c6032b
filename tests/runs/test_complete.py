"""What a model needs of a slide: nothing is done where it is there, and nothing before all is known to be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from spatialdata import SpatialData

from stdistill._runs import complete
from stdistill._runs.complete import complete_cells
from stdistill.models.feature_card import FeatureCard

KNOWN = FeatureCard("X_he", 276, encoder="texture", crop_px=16, mpp=0.2125)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Steps that are taken, without what they cost."""
    steps: list[tuple[str, dict[str, Any]]] = []

    def embed(data: SpatialData, **how: Any) -> None:
        steps.append(("embed_he", how))
        table = data.tables[how["table_key"]]
        table.obsm[how["key_added"]] = np.zeros((table.n_obs, 276), dtype=np.float16)

    monkeypatch.setattr(complete, "embed_he", embed)
    monkeypatch.setattr(complete, "find_tissue", lambda data, **how: steps.append(("find_tissue", how)))
    return steps


def finish(data: Any, *sources: FeatureCard, copy: bool = False, device: str | None = None) -> Any:
    return complete_cells(data, sources or (KNOWN,), "table", device, copy=copy)


def test_a_slide_that_has_all(make_slide: Callable[..., SpatialData], done: list) -> None:
    """Whatever else cannot be had is not asked for, such as an encoder that nobody knows here."""
    slide = make_slide()
    slide["table"].obsm["X_uni"] = np.zeros((60, 5))
    source = FeatureCard("X_uni", 5, encoder="gone", crop_px=16, mpp=0.5)
    assert finish(slide, source, device="tpu") is slide
    copied = finish(slide, source, copy=True)
    assert copied is not slide
    assert copied["table"] is not slide["table"]
    assert copied["he"] is slide["he"]
    assert not done


def test_a_table_alone_is_taken_as_it_is(make_slide: Callable[..., SpatialData], done: list) -> None:
    """It has no image to compute features from: what reads them says what is missing."""
    table = make_slide()["table"]
    assert finish(table) is table
    assert finish(table, copy=True) is not table
    assert not done


def test_features_that_are_missing_are_made_like_the_models(
    make_slide: Callable[..., SpatialData], done: list, caplog: pytest.LogCaptureFixture
) -> None:
    slide = make_slide()
    slide["table"].obsm["X_scVI"] = np.zeros((60, 10))
    with caplog.at_level("INFO", logger="stdistill"):
        assert finish(slide, FeatureCard("X_scVI", 10), KNOWN, device="cpu") is slide
    ((step, how),) = done
    assert step == "embed_he"
    assert [one.name for one in how["encoder"]] == ["texture"]
    assert (how["key_added"], how["crop_px"], how["mpp"]) == ("X_he", 16, 0.2125)
    assert how["device"] == "cpu"
    assert 'There is no .obsm["X_he"]: computing it as the model\'s was' in caplog.text


def test_what_is_copied_is_not_written_to(make_slide: Callable[..., SpatialData], done: list) -> None:
    slide = make_slide()
    found = finish(slide, copy=True)
    assert "X_he" in found["table"].obsm
    assert "X_he" not in slide["table"].obsm
    assert len(done) == 1


@pytest.mark.parametrize("with_tissue", [True, False])
def test_cells_that_are_missing_are_found_first(
    make_slide: Callable[..., SpatialData], done: list, with_tissue: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the tissue, which is looked for where it is not known and µm are."""
    slide = make_slide()
    table = slide["table"]
    del slide.tables["table"]
    monkeypatch.setattr(complete, "find_place", lambda data, key: object())
    if with_tissue:
        slide.shapes["tissue"] = slide.shapes["cells"]

    def detect(data: SpatialData, **how: Any) -> None:
        done.append(("detect_nuclei", how))
        data.tables["table"] = table

    monkeypatch.setattr(complete, "detect_nuclei", detect)
    finish(slide)
    steps = [step for step, _ in done]
    assert steps == [*([] if with_tissue else ["find_tissue"]), "detect_nuclei", "embed_he"]


@pytest.mark.parametrize(
    ("source", "device", "error", "message"),
    [
        (KNOWN, "gpu", ValueError, r"device must be one of \['auto', 'cpu', 'cuda', 'mps'\].*found 'gpu'"),
        (FeatureCard("X_he", 276), None, ValueError, r"does not know how its features 'X_he' were computed"),
        (FeatureCard("X_he", 9, encoder="gone", crop_px=16, mpp=0.5), None, KeyError, "gone"),
    ],
)
def test_nothing_is_begun_that_cannot_be_ended(
    make_slide: Callable[..., SpatialData],
    done: list,
    source: FeatureCard,
    device: str | None,
    error: type[Exception],
    message: str,
) -> None:
    """Neither nuclei nor the features of another encoder are made before it is known that all can be."""
    slide = make_slide()
    del slide.tables["table"]
    with pytest.raises(error, match=message):
        finish(slide, KNOWN, source, device=device)
    assert not done
    assert not slide.tables
