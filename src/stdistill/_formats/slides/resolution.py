"""µm per pixel: what a file states, and whether it can be believed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from stdistill._slide.pyramid import MAX_MPP_DISAGREEMENT, MPP_TOLERANCE
from stdistill._support.checks import check_positive
from stdistill._support.warn import warn

POSSIBLE_MPP = (0.05, 10.0)
"""No slide is scanned finer or coarser than this, in µm per pixel."""
USUAL_MPP = (0.1, 1.1)
"""What scanners do, from 100 × with oil down to 10 ×."""
GIVE = "Give it with mpp=, such as mpp=0.25."


@dataclass(frozen=True)
class StatedMpp:
    """µm per pixel along x and y as a file states them, and where it does."""

    x: float
    y: float
    source: str

    @property
    def mean(self) -> float:
        """Of both directions."""
        return (self.x + self.y) / 2

    @property
    def is_possible(self) -> bool:
        """Whether a slide can have been scanned so."""
        return all(math.isfinite(one) and POSSIBLE_MPP[0] <= one <= POSSIBLE_MPP[1] for one in (self.x, self.y))

    @property
    def is_square(self) -> bool:
        """Whether both directions are of one scale."""
        return abs(self.x - self.y) <= MPP_TOLERANCE * self.mean

    @property
    def usable(self) -> float | None:
        """The µm per pixel, `None` when it cannot be believed."""
        return self.mean if self.is_possible and self.is_square else None


def parse_number(text: str | None) -> float | None:
    """Read a number with a decimal point or comma, and what may follow it; `None` when there is none."""
    found = re.match(r"[\s\"']*([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?|nan|inf)", text or "", re.IGNORECASE)
    return None if found is None else float(found[1].replace(",", "."))


def first_stated(statements: list[StatedMpp], name: str) -> StatedMpp | None:
    """Take the first of what a file states in several places, and warn of another that disagrees."""
    if not statements:
        return None
    first, *others = statements
    for other in others:
        if first.is_possible and other.usable is not None and not _agree(first.mean, other.mean):
            warn(
                f"{name} states {first.mean:.4f} µm per pixel in its {first.source} and {other.mean:.4f} in its "
                f"{other.source}. The first is taken; give the right one with mpp=."
            )
    return first


def resolve_mpp(stated: StatedMpp | None, given: float | None, name: str) -> float:
    """Return the µm per pixel of a slide: what the user gives, else what the file states and can be believed.

    Raises
    ------
    ValueError
        When neither is there, or it is none that a slide can have.
    """
    if given is not None:
        return _check_given(given, stated, name)
    if stated is None:
        msg = (
            f"{name} does not state its µm per pixel. {GIVE} The scanner's software or whoever scanned the slide knows "
            "it; a magnification does not tell, since scanners differ."
        )
        raise ValueError(msg)
    if not stated.is_possible:
        msg = (
            f"{name} states {_say(stated)} µm per pixel ({stated.source}), which no slide has (expected "
            f"{POSSIBLE_MPP[0]:g} to {POSSIBLE_MPP[1]:g}).{_likely_mistake(stated.mean)} {GIVE}"
        )
        raise ValueError(msg)
    if not stated.is_square:
        msg = (
            f"{name} states {stated.x:.4f} µm per pixel along x and {stated.y:.4f} along y ({stated.source}); up to "
            f"{MPP_TOLERANCE:.0%} of difference is accepted. Give mpp= if its pixels are square all the same; "
            "otherwise resample the image."
        )
        raise ValueError(msg)
    if not USUAL_MPP[0] <= stated.mean <= USUAL_MPP[1]:
        warn(
            f"{name} states {stated.mean:.4g} µm per pixel ({stated.source}), which is unusual (expected "
            f"{USUAL_MPP[0]:g} to {USUAL_MPP[1]:g}).{_likely_mistake(stated.mean)} Give mpp= if it is wrong."
        )
    return stated.mean


def _check_given(given: float, stated: StatedMpp | None, name: str) -> float:
    check_positive(given, "mpp")
    if not POSSIBLE_MPP[0] <= given <= POSSIBLE_MPP[1]:
        msg = (
            f"mpp={given:g} is no µm per pixel of a slide (expected {POSSIBLE_MPP[0]:g} to {POSSIBLE_MPP[1]:g})."
            f"{_likely_mistake(given)}"
        )
        raise ValueError(msg)
    if stated is not None and stated.usable is not None and not _agree(given, stated.mean):
        warn(f"{name} states {stated.mean:.4f} µm per pixel ({stated.source}); mpp={given:g} is taken.")
    return float(given)


def _likely_mistake(mpp: float) -> str:
    """Name the usual mistake that would explain such a value."""
    low, high = USUAL_MPP
    if any(math.isclose(mpp, 25_400 / dpi, rel_tol=1e-3) for dpi in (72, 96, 150, 300)):
        return f" It is {25_400 / mpp:.0f} dpi, which programs write that do not know it."
    if low <= 10 * mpp <= high:
        return f" Ten times as much, {10 * mpp:.4g}, would be usual: pixels per mm were perhaps written as per cm."
    if low <= 1000 * mpp <= high:
        return f" A thousand times as much, {1000 * mpp:.4g}, would be usual: were mm meant?"
    if low <= mpp / 1000 <= high:
        return f" A thousandth of it, {mpp / 1000:.4g}, would be usual: were nm meant?"
    return ""


def _agree(one: float, other: float) -> bool:
    return abs(one / other - 1) <= MAX_MPP_DISAGREEMENT


def _say(stated: StatedMpp) -> str:
    return f"{stated.x:.5g}" if stated.x == stated.y else f"{stated.x:.5g} × {stated.y:.5g}"
