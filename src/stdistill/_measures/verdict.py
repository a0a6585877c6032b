"""Whether the niches of a slide are to be believed: what was measured of it, against what may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

Usability = Literal["usable", "partly", "not"]
ORDER: tuple[Usability, ...] = ("usable", "partly", "not")
WORDS: Mapping[str, str] = {
    "usable": "usable",
    "partly": "usable in part, with care",
    "not": "not usable, whatever the confidence says",
}
"""What each says to people."""


CAUTION, OUTSIDE = 1.5, 8.0
"""How many times as far from the training as usual the neighbourhoods of a slide lie (median) from which on its niches
are doubtful, and from which on they were wrong for most kinds of change that were tried (docs/concepts/verdict)."""
MOSTLY_KNOWN, PARTLY_KNOWN = 0.9, 0.8
"""Share of what neighbourhoods of a slide differ by that those of the training differ by, too, below which niches of a
student by slide are doubtful, and below which they were wrong (docs/concepts/verdict)."""


class Limit(NamedTuple):
    """From where on a slide is usable in part or not at all; `None` where that alone does not make it so."""

    partly: tuple[float, float] | None
    """Lowest and highest value of a slide that is usable."""
    unusable: tuple[float, float] | None
    """Lowest and highest value of one that is usable in part."""
    words: str
    """A sentence, with a place for the value."""


LIMITS: Mapping[str, Limit] = {
    "trusted_share": Limit((0.9, 1), (0.5, 1), "{:.0%} of the cells can be trusted"),
    "unlike_share": Limit(
        None, None, "the H&E features of {:.0%} of the cells are unlike those that the model learned from"
    ),
    "unfocused_share": Limit(None, None, "{:.0%} of the cells are out of focus"),
    "fold_share": Limit(None, None, "{:.0%} of the cells lie in folds"),
    "pen_share": Limit(None, None, "{:.0%} of the cells lie under pen or at black borders"),
    "ood_median": Limit(
        (0, CAUTION),
        None,
        "H&E features are {:.1f} times as far from those that the model learned from as usual (median)",
    ),
    "known_variation": Limit(
        (MOSTLY_KNOWN, 1),
        (PARTLY_KNOWN, 1),
        "{:.0%} of what neighbourhoods differ by in the H&E is what those that the model learned from differ by",
    ),
    "ood_is_unknown": Limit(
        (0, 0), None, "the model cannot tell what H&E is unlike its training: it had too few cells to learn that by"
    ),
    "stain_distance": Limit(
        (0, 10), None, "the stain differs from that of the training slides by {:.0f} degrees: another stain or scanner"
    ),
    "nucleus_um": Limit(
        (5, 10), (4, 14), "nuclei measure {:.1f} µm (median), not 5 to 10: check the µm per pixel of the slide"
    ),
    "density_ratio": Limit(
        (1 / 3, 3),
        None,
        "cells lie {:.2g} times as dense as in the training: other tissue, nuclei that were missed or split, or "
        "another µm per pixel",
    ),
    "mpp_is_estimated": Limit((0, 0), None, "µm per pixel are estimated from the size of the nuclei"),
}
"""Of each measure (our choice: docs/concepts/verdict)."""
CAUSES = ("unlike_share", "unfocused_share", "fold_share", "pen_share")
"""Shares of cells that cannot be trusted, by their cause."""
WORTH_SAYING = 0.05
"""Of a cause."""


@dataclass(frozen=True)
class Verdict:
    """What :func:`stdistill.tl.verdict` returns."""

    verdict: Usability
    """``"usable"``, ``"partly"`` or ``"not"``."""
    reasons: list[str]
    """Why it is not simply usable, in words and numbers, the gravest first."""
    measures: pd.DataFrame
    """One row per measure: ``found``; the limits ``usable_from``, ``usable_to``, ``partly_from`` and ``partly_to``, NaN
    where there is none; and the ``verdict`` by it alone."""

    def __str__(self) -> str:
        if not self.reasons:
            return self.verdict
        return f"{self.verdict}: {'; '.join(self.reasons)}"


def judge(measures: Mapping[str, float]) -> Verdict:
    """Judge a slide by what was measured of it, under the names of `LIMITS`; the worst has the last word."""
    verdicts = {name: _of(name, value) for name, value in measures.items()}
    rows = {name: {"found": value, **_limits(name), "verdict": verdicts[name]} for name, value in measures.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")
    reasons = [name for name in measures if verdicts[name] != "usable"]
    reasons.sort(key=lambda name: -ORDER.index(verdicts[name]))
    if "trusted_share" in reasons:
        reasons += sorted((n for n in CAUSES if measures.get(n, 0) >= WORTH_SAYING), key=lambda n: -measures[n])
    worst = max(verdicts.values(), key=ORDER.index)
    return Verdict(worst, [LIMITS[name].words.format(measures[name]) for name in reasons], table)


def nothing_seen(why: str) -> Verdict:
    """Judge a slide on which there is nothing to measure."""
    return Verdict("not", [why], pd.DataFrame(columns=["found", *_limits("trusted_share"), "verdict"]))


def _limits(name: str) -> dict[str, float]:
    nan = (np.nan, np.nan)
    (usable_from, usable_to), (partly_from, partly_to) = (bounds or nan for bounds in LIMITS[name][:2])
    return {"usable_from": usable_from, "usable_to": usable_to, "partly_from": partly_from, "partly_to": partly_to}


def _of(name: str, value: float) -> Usability:
    limit = LIMITS[name]
    if limit.unusable is not None and not limit.unusable[0] <= value <= limit.unusable[1]:
        return "not"
    if limit.partly is not None and not limit.partly[0] <= value <= limit.partly[1]:
        return "partly"
    return "usable"
