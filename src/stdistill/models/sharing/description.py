"""What a model says of itself to people: ten lines in a terminal or a notebook, more on the hub."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple, Protocol

from stdistill.encoders._blocks import FINETUNED
from stdistill.encoders._catalogue import CATALOGUE
from stdistill.encoders._encoder import DENSE, UNKNOWN_REVISION
from stdistill.encoders._hub import is_on_hub

LINE = 120
"""Characters of a line of the summary."""
BY_SLIDE = "features by the mean and spread of the slide, which is predicted whole"
"""What a model of ``standardize="slide"`` reads."""
NAMED = 5
"""Niches or cell types that the summary names."""
COLOR = re.compile(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]+")
"""Colours that may stand in a page; a card may come from anybody."""


class Ancestor(NamedTuple):
    """An encoder that a model learned through; what is not known is `None`."""

    name: str
    licence: str | None
    repository: str | None = None
    revision: str | None = None
    reference: str | None = None


class Features(Protocol):
    """What a card says of features."""

    @property
    def feature_key(self) -> str:
        """Their key."""

    @property
    def n_features(self) -> int:
        """How many a cell has."""

    @property
    def encoder(self) -> str | None:
        """What computed them."""

    @property
    def encoder_revision(self) -> str | None:
        """With which weights, and how."""

    @property
    def mpp(self) -> float | None:
        """µm per pixel of the crops."""

    @property
    def crop_px(self) -> int | None:
        """Side of the crops."""

    @property
    def context(self) -> float | None:
        """How many times as wide the tissue around is that they also describe."""

    @property
    def stain_normalization(self) -> str | None:
        """The stains that the crops were normalised to."""

    @property
    def expression_model_sha256(self) -> str | None:
        """Of a latent."""


class Part(NamedTuple):
    """A niche or a cell type that a model tells."""

    name: str
    color: str | None = None
    n_cells: int | None = None
    """Training cells in it."""
    share: float | None = None
    consists_of: str = ""
    """Its commonest cell types."""


@dataclass(frozen=True)
class Description:
    """What a model is, in words: each kind of model gives its own.

    Parameters
    ----------
    title
        What it is, in a few words.
    purpose
        What it is for, in a sentence or two.
    sections
        What is known of it: short phrases by heading.
    use
        Python that applies it; ``model`` is the model.
    class_name
        Of its class in ``sd.models``; `None`: ``sd.models.load`` reads it.
    command
        Whether ``stdistill predict`` applies it.
    parts_name, parts
        What it tells apart, and what that is called.
    ancestors
        The encoders that it learned through.
    holds_encoder
        Whether weights of an encoder are among its own.
    unrecorded
        What nobody has said of it.
    """

    title: str
    purpose: str
    sections: dict[str, list[str]]
    use: str
    class_name: str | None = None
    command: bool = False
    parts_name: str = "Niches"
    parts: Sequence[Part] = ()
    ancestors: Sequence[Ancestor] = ()
    holds_encoder: bool = False
    unrecorded: Sequence[str] = field(default=())

    @property
    def licences(self) -> list[str | None]:
        """Those of its ancestors."""
        return [each.licence for each in self.ancestors]


def find_ancestors(encoder: str | None, licence: str | None, revision: str | None) -> list[Ancestor]:
    """Return what is known of the encoders on a card, whose names and revisions are joined by ``+`` there."""
    names = (encoder or "unknown").split("+")
    revisions = (revision or "").split("+")
    recorded: list[str | None] = [*(licence or "").split(" + ")]
    if len(recorded) != len(names):  # each licence is recorded once
        recorded = [None if "unknown" in recorded else recorded[0]] * len(names) if len(recorded) == 1 else []
    found = []
    for place, name in enumerate(names):
        known = CATALOGUE.get(name.removesuffix(FINETUNED))
        own = (recorded[place] if recorded else None) or None
        digest = revisions[place] if len(revisions) == len(names) else ""
        found.append(
            Ancestor(
                name,
                own if known is None else known.licence,
                known.source if known is not None and is_on_hub(known.source) else None,
                digest if digest not in ("", UNKNOWN_REVISION) else None,
                None if known is None else known.reference,
            )
        )
    return found


def as_line(text: object) -> str:
    """Make one line of text that nothing but letters can come out of: cards may come from anybody."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())


def name_parts(parts: Sequence[Part]) -> list[tuple[Part, str]]:
    """Return the largest niches, or the first cell types, with what they are called in the summary."""
    order = sorted(parts, key=lambda part: -(part.share or 0.0))[:NAMED]
    return [(part, f"{as_line(part.name)}{'' if part.share is None else f' ({part.share:.0%})'}") for part in order]


def summary(described: Description, licence: str, weights: str) -> dict[str, str]:
    """Return the lines of the summary by what they are about."""
    named = ", ".join(text for _, text in name_parts(described.parts))
    lines = {described.parts_name: f"{named}{_more(described.parts)}"}
    lines |= {heading: "; ".join(facts) for heading, facts in described.sections.items()}
    lines |= {"Licence": licence, "Weights": f"SHA-256 {weights[:16]}…"}
    return {heading: as_line(text) for heading, text in lines.items() if text}


def as_text(title: str, lines: dict[str, str]) -> str:
    """Write a summary for a terminal, a line each."""
    width = max(map(len, lines), default=0)
    rows = (
        f"  {heading:<{width}}  {textwrap.shorten(text, LINE - width - 4, placeholder=' …')}"
        for heading, text in lines.items()
    )
    return "\n".join([as_line(title), *rows])


def as_html(title: str, lines: dict[str, str], described: Description) -> str:
    """Write a summary for a notebook, with the colours of the niches."""
    cells = {heading: escape(text) for heading, text in lines.items()}
    if described.parts:
        named = ", ".join(f"{_dot(part.color)}{escape(text)}" for part, text in name_parts(described.parts))
        cells[described.parts_name] = f"{named}{_more(described.parts)}"
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;vertical-align:top">{escape(heading)}</th>'
        f'<td style="text-align:left">{cell}</td></tr>'
        for heading, cell in cells.items()
    )
    caption = f'<caption style="text-align:left"><strong>{escape(as_line(title))}</strong></caption>'
    return f"<table>{caption}<tbody>{rows}</tbody></table>"


def _more(parts: Sequence[Part]) -> str:
    return f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""


def _dot(color: str | None) -> str:
    return f'<span style="color:{color}">■</span> ' if color is not None and COLOR.fullmatch(color) else ""


def known(*facts: str | None) -> list[str]:
    """Leave out what is not known."""
    return [text for text in facts if text is not None]


def count(number: int | None, what: str) -> str | None:
    """Say how many there are, if that is known."""
    return None if number is None else f"{number:,} {what}{'' if number == 1 else 's'}"


def describe_crops(features: Features) -> list[str]:
    """Say what features are, and of how much of the slide."""
    source = features.encoder or ("a scVI latent" if features.expression_model_sha256 else features.feature_key)
    crops = None
    if features.crop_px is not None and features.mpp is not None:
        field_um = features.crop_px * features.mpp
        what = "discs" if DENSE in (features.encoder_revision or "") else "crops"
        crops = f"{what} of {features.crop_px} px at {features.mpp:.3g} µm per pixel ({field_um:.0f} µm)"
    context, stain = features.context, features.stain_normalization
    return known(
        f"{features.n_features} features of {as_line(source)}",
        crops,
        None if context is None else f"and of the tissue around them, {context:g} times as wide",
        None if stain is None else f"stains normalised to {stain}",
    )
