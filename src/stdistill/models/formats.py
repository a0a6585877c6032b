"""The card on disk: its versions, how each becomes the present one, and its checksum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stdistill._support.files import digest

FORMAT, VERSION = "stdistill model", 3
NICHE_FORMAT, NICHE_VERSION = "stdistill niche model", 2
"""Until version 3 niche models had a format of their own."""
EXPRESSION_FORMAT = 1
"""And expression models one without a name, checksums and history."""
OWN_SUM = "card.json"


class StoredCard(NamedTuple):
    """What ``card.json`` says."""

    kind: str
    entries: dict[str, Any]
    """Of the card itself."""
    sums: dict[str, str]
    """SHA-256 of the other files."""
    history: pd.DataFrame | None = None
    """Of the training, where no other file has it."""


def write_card(kind: str, entries: dict[str, Any], sums: dict[str, str]) -> bytes:
    """Write a card as JSON."""
    card = {"format": FORMAT, "format_version": VERSION, "kind": kind, "model": entries, "sha256": dict(sums)}
    card["sha256"][OWN_SUM] = digest(_canonical(card))  # type: ignore[index]
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False).encode()


def read_card(path: Path, content: bytes) -> StoredCard:
    """Read a card of this or an earlier version; `path` is for messages.

    Raises
    ------
    ValueError
        When it is no card, was changed, or is of a later version.
    """
    try:
        card = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON: it was changed, or cut off ({error})."
        raise ValueError(msg) from error
    if not isinstance(card, dict) or card.get("format") not in (FORMAT, NICHE_FORMAT, EXPRESSION_FORMAT):
        msg = f"{path} is not the card of a {FORMAT}."
        raise ValueError(msg)
    if card["format"] == EXPRESSION_FORMAT:
        return _first_expression_card(path, card)
    newest = VERSION if card["format"] == FORMAT else NICHE_VERSION
    if card.get("format_version") != newest:
        msg = (
            f"{path} is of version {card.get('format_version')!r} of the format; this stdistill reads version "
            f"{newest}. Load it with the stdistill that saved it (model.versions in the file)."
        )
        raise ValueError(msg)
    sums = card.get("sha256")
    own = sums.pop(OWN_SUM, None) if isinstance(sums, dict) else None
    kind, entries = card.get("kind", "niche"), card.get("model")
    if (
        not isinstance(kind, str)
        or not isinstance(entries, dict)
        or not isinstance(sums, dict)
        or own != _own_sum(card)
    ):
        msg = (
            f"{path} is not the file that was saved: it was changed. Save the model again, or put back what was saved. "
            "What its card says is changed in Python, as by model.card = dataclasses.replace(model.card, tissue=...), "
            "and saved with the model."
        )
        raise ValueError(msg)
    return StoredCard(kind, entries, sums)


def _own_sum(card: dict[str, Any]) -> str | None:
    """Return the checksum of a card; `None` of one that was never written, since it holds what JSON has not."""
    try:
        return digest(_canonical(card))
    except (ValueError, RecursionError):
        return None


def _first_expression_card(path: Path, card: dict[str, Any]) -> StoredCard:
    training = card.get("training", {})
    losses = training.get("elbo_train", []) if isinstance(training, dict) else None
    if not isinstance(losses, list) or not all(isinstance(loss, int | float) for loss in losses):
        msg = f"{path} is not the file that was saved: its 'training' holds {training!r:.80}. Save the model again."
        raise ValueError(msg)
    training = {name: value for name, value in training.items() if name != "elbo_train"}
    history = pd.DataFrame({"elbo_train": losses}).rename_axis("epoch")
    entries = {name: value for name, value in card.items() if name not in ("format", "training")}
    return StoredCard("expression", {**entries, "training": training}, {}, history)


def _canonical(card: dict[str, Any]) -> bytes:
    return json.dumps(card, sort_keys=True, allow_nan=False).encode()
