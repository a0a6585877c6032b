"""Cards of all kinds: what they keep, fill in and refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stdistill.models.formats import write_card
from stdistill.models.saved import Card


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
