"""Cards of all kinds: what they keep, fill in and refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import stdistill as sd
from stdistill._support.files import digest
from stdistill.models.formats import write_card
from stdistill.models.saved import Card, build_with

STORED = Path(__file__).parents[1] / "stored"
NETWORK = {"width": 16, "depth": 1, "n_heads": 4, "n_frequencies": 6, "dropout": 0.1, "head": "linear"}


@dataclass(frozen=True)
class Scale(Card):
    name: str
    um: float
    n: int | None = None
    parts: list[str] | None = None


def again(card: Scale) -> Scale:
    return Scale.from_dict(json.loads(json.dumps(card.to_dict())))


def test_entries_of_a_later_version_are_kept() -> None:
    values = {"name": "a", "um": 1.5, "colour_space": "lab", "nested": {"x": [1, None]}}
    card = Scale.from_dict(values)
    assert card.unknown == {"colour_space": "lab", "nested": {"x": [1, None]}}
    assert {name: card.to_dict()[name] for name in values} == values
    assert again(card) == card


def test_missing_entries_have_their_defaults() -> None:
    assert Scale.from_dict({"name": "a", "um": 1.5}) == Scale("a", 1.5)
    with pytest.raises(ValueError, match=r"lacks entries that every such model has: .*'um'"):
        Scale.from_dict({"name": "a"})


def test_numbers_as_users_pass_them() -> None:
    """NumPy's, and whole ones where fractions are expected: what was trained for hours can be saved and read."""
    card = Scale("a", 2, n=np.int64(64), training={"rate": np.float32(0.5), "seen": np.array([1, 2])})  # type: ignore[arg-type]
    plain = card.to_dict()
    assert (plain["n"], plain["training"]) == (64, {"rate": 0.5, "seen": [1, 2]})
    assert again(card).um == 2.0
    assert isinstance(again(card).um, float)
    with pytest.raises(TypeError, match="A card cannot hold a set"):
        Scale("a", 1.0, training={"seen": {1}}).to_dict()


@pytest.mark.parametrize(("entry", "value"), [("um", "wide"), ("um", True), ("n", 1.5), ("name", 3), ("parts", "a")])
def test_entries_of_another_type(entry: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"The card's {entry} is {value!r}; expected"):
        Scale.from_dict({"name": "a", "um": 1.5, entry: value})


def test_a_card_is_json_without_surprises(tmp_path: Path) -> None:
    content = write_card("niche", Scale("Bürzel", 1.0).to_dict(), {"model.safetensors": "abc"})
    assert "Bürzel" in content.decode()
    card = json.loads(content)
    assert (card["format"], card["format_version"], card["kind"]) == ("stdistill model", 3, "niche")
    assert set(card["sha256"]) == {"card.json", "model.safetensors"}


def test_a_network_of_terabytes_is_not_built() -> None:
    """Cards may come from anybody; what a network would take is compared with the tensors before it is made."""
    weights = dict(nn.Linear(3, 2).state_dict())
    assert torch.equal(build_with(lambda: nn.Linear(3, 2), weights, depth=1).weight, weights["weight"])
    with pytest.raises(
        RuntimeError, match=r"such as 'weight': the card asks for \(1000000, 1000000\), and there is \(2, 3\)"
    ):
        build_with(lambda: nn.Linear(10**6, 10**6), weights, depth=1)
    with pytest.raises(RuntimeError, match=r"asks for 1000000000 layers, and there are 2 tensors"):
        build_with(lambda: nn.Linear(3, 2), weights, depth=10**9)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"network": NETWORK | {"width": 4 * 10**6}},
            r"model\.safetensors does not fit the card: .*the card asks",
        ),
        ({"network": {"depth": "deep"}}, r"model\.safetensors does not fit the card"),
        ({"network": None}, r"card\.json describes no niche model: The card's network is None"),
        ({"k": 7}, r"card\.json describes no niche model: The card lists 3 niches; expected k = 7"),
    ],
)
def test_cards_that_are_signed_and_wrong(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    sd.models.load(STORED / "student").save(tmp_path / "student")
    path = tmp_path / "student" / "card.json"
    card = json.loads(path.read_text())
    sums = {name: each for name, each in card["sha256"].items() if name != "card.json"}
    path.write_bytes(write_card("niche", card["model"] | change, sums))
    with pytest.raises(ValueError, match=why):
        sd.models.load(tmp_path / "student")


@pytest.mark.parametrize("content", [b"", b"epoch,loss\n0,1,2,3\n0\n", b"\xff\xfe\x00"])
def test_a_history_that_is_signed_and_wrong(tmp_path: Path, content: bytes) -> None:
    sd.models.load(STORED / "student").save(tmp_path / "student")
    path = tmp_path / "student" / "card.json"
    card = json.loads(path.read_text())
    (tmp_path / "student" / "history.csv").write_bytes(content)
    sums = {**card["sha256"], "history.csv": digest(content)}
    sums.pop("card.json")
    path.write_bytes(write_card("niche", card["model"], sums))
    with pytest.raises(ValueError, match=r"history\.csv is no table of a training"):
        sd.models.load(tmp_path / "student")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "null", '{"format": "stdistill model", "format_version": 3, "sha256": {"a": NaN}}']
)
def test_what_is_no_card(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ValueError, match=r"card\.json (cannot be read as JSON|is not the (card|file))"):
        sd.models.load(tmp_path)
