"""Cards of this version and of earlier ones; those that were changed, cut off or are of a later one are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import stdistill as sd
from stdistill._support.files import digest
from stdistill.models.formats import read_card, write_card

PATH = Path("model/card.json")
ENTRIES = {"k": 3, "niches": ["Bürzel", "b"], "rate": 0.1}
SUMS = {"weights.safetensors": "ab", "history.csv": "cd"}
STORED = Path(__file__).parents[1] / "stored"


def as_bytes(card: Any) -> bytes:
    return json.dumps(card).encode()


def test_what_was_written_is_read() -> None:
    card = read_card(PATH, write_card("niche", ENTRIES, SUMS))
    assert (card.kind, card.entries, card.sums, card.history) == ("niche", ENTRIES, SUMS, None)


def test_the_layout_of_the_text_does_not_matter() -> None:
    """As after an editor or a formatter went over it; the order of entries neither."""
    card = json.loads(write_card("niche", ENTRIES, SUMS))
    again = dict(reversed(card.items()))
    assert read_card(PATH, json.dumps(again, indent=7).encode()) == read_card(PATH, as_bytes(card))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "composition"},
        {"model": ENTRIES | {"k": 4}},
        {"model": {**ENTRIES, "more": 1}},
        {"sha256": {**SUMS, "card.json": "ab"}},
        {"sha256": None},
        {"sha256": []},
        {"another": 1},
    ],
)
def test_a_changed_card_is_refused(change: dict[str, Any]) -> None:
    card = json.loads(write_card("niche", ENTRIES, SUMS))
    if isinstance(change.get("sha256"), dict):
        change = {"sha256": card["sha256"] | {"history.csv": "ef"}}
    with pytest.raises(ValueError, match=r"card\.json is not the file that was saved: it was changed\. Save the model"):
        read_card(PATH, as_bytes(card | change))


@pytest.mark.parametrize("version", [4, 2, "3", None])
def test_another_version_of_the_format(version: Any) -> None:
    card = json.loads(write_card("niche", ENTRIES, SUMS)) | {"format_version": version}
    with pytest.raises(
        ValueError, match=rf"of version {version!r} of the format; this stdistill reads version 3\. Load"
    ):
        read_card(PATH, as_bytes(card))


@pytest.mark.parametrize("content", [b"", b'{"format": "stdist', b"\xff\xfe\x00", b"<html>"])
def test_what_is_no_json(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"card\.json cannot be read as JSON: it was changed, or cut off"):
        read_card(PATH, content)


@pytest.mark.parametrize("card", [[], "card", 1, None, {}, {"format": "pickle"}, {"format": 2}])
def test_what_is_no_card(card: Any) -> None:
    with pytest.raises(ValueError, match=r"card\.json is not the card of a stdistill model"):
        read_card(PATH, as_bytes(card))


def test_niche_models_had_a_format_of_their_own() -> None:
    old = {"format": "stdistill niche model", "format_version": 2, "model": ENTRIES, "sha256": dict(SUMS)}
    whole = json.dumps(old, sort_keys=True).encode()
    old["sha256"]["card.json"] = digest(whole)  # type: ignore[index]
    card = read_card(PATH, as_bytes(old))
    assert (card.kind, card.entries, card.sums) == ("niche", ENTRIES, SUMS)
    with pytest.raises(ValueError, match=r"of version 3 of the format; this stdistill reads version 2"):
        read_card(PATH, as_bytes(old | {"format_version": 3}))


def test_expression_models_had_neither_name_nor_checksums() -> None:
    """And the losses stood in the card: they are the history."""
    card = read_card(PATH, (STORED / "expression_model" / "card.json").read_bytes())
    assert card.kind == "expression"
    assert card.sums == {}
    assert "format" not in card.entries
    assert "elbo_train" not in card.entries["training"]
    assert card.entries["training"]["max_epochs"] == 3
    assert card.history is not None
    assert card.history.index.name == "epoch"
    assert len(card.history["elbo_train"]) == 3
    model = sd.models.load(STORED / "expression_model")
    assert model.history["elbo_train"].is_monotonic_decreasing
