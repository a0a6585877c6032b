from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stdistill._formats.slides.resolution import StatedMpp, first_stated, parse_number, resolve_mpp

TAGS = "resolution tags"


def square(mpp: float) -> StatedMpp:
    return StatedMpp(mpp, mpp, TAGS)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.25", 0.25),
        (" 0,500000", 0.5),
        ('"0.000226891"', 0.000226891),
        ("2.5e-1 um", 0.25),
        (".5", 0.5),
        ("4", 4.0),
        ("+1,1", 1.1),
        ("", None),
        ("unknown", None),
        (None, None),
    ],
)
def test_numbers_as_scanners_write_them(text: str | None, number: float | None) -> None:
    assert parse_number(text) == number


def test_nan_is_a_number_that_is_refused() -> None:
    assert math.isnan(parse_number("nan") or 0)
    with pytest.raises(ValueError, match=r"states nan"):
        resolve_mpp(square(math.nan), None, "a.svs")


@pytest.mark.parametrize("mpp", [0.1, 0.25, 0.5, 1.1])
def test_what_scanners_do(mpp: float, recwarn: pytest.WarningsRecorder) -> None:
    assert resolve_mpp(square(mpp), None, "a.svs") == mpp
    assert not recwarn.list


@pytest.mark.parametrize(
    ("mpp", "hint"),
    [
        (0.0, ""),
        (-0.25, ""),
        (math.inf, ""),
        (0.049, "Ten times as much, 0.49,"),
        (0.02738, "Ten times as much, 0.2738,"),
        (0.0005, "A thousand times as much, 0.5,"),
        (10.01, ""),
        (250.0, "A thousandth of it, 0.25,"),
        (25_400 / 72, "It is 72 dpi"),
        (25_400 / 96, "It is 96 dpi"),
        (10_000.0, ""),
    ],
)
def test_what_no_slide_has(mpp: float, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"^a\.tif states .* \(resolution tags\), which no slide has .*{hint}.*mpp="):
        resolve_mpp(square(mpp), None, "a.tif")
    # Whoever gives it is not stopped by what the file says.
    assert resolve_mpp(square(mpp), 0.5, "a.tif") == 0.5


@pytest.mark.parametrize(("mpp", "hint"), [(0.05, "Ten times as much, 0.5,"), (0.09, "0.9,"), (1.2, ""), (10.0, "")])
def test_what_is_unusual(mpp: float, hint: str) -> None:
    with pytest.warns(UserWarning, match=rf"states {mpp:.4g} µm per pixel .* unusual .*{hint}"):
        assert resolve_mpp(square(mpp), None, "a.tif") == mpp


def test_both_directions() -> None:
    stated = StatedMpp(0.242534, 0.242647, TAGS)
    assert resolve_mpp(stated, None, "a.tif") == pytest.approx(0.2425905)
    assert resolve_mpp(StatedMpp(0.495, 0.5048, TAGS), None, "a.tif") == pytest.approx(0.4999)
    for x, y in ((0.25, 0.5), (0.5, 0.511)):
        with pytest.raises(ValueError, match=r"along x and .* along y .* up to 2% of difference"):
            resolve_mpp(StatedMpp(x, y, TAGS), None, "a.tif")
        assert StatedMpp(x, y, TAGS).usable is None


def test_nothing_is_stated() -> None:
    with pytest.raises(ValueError, match=r"^a\.jpg does not state its µm per pixel\. Give it with mpp=.*magnification"):
        resolve_mpp(None, None, "a.jpg")
    assert resolve_mpp(None, 1, "a.jpg") == 1.0


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), np.float64(0.5)])
def test_what_is_given(given: Any, recwarn: pytest.WarningsRecorder) -> None:
    for stated in (None, square(0.49), square(352.8), StatedMpp(0.25, 0.5, TAGS)):
        found = resolve_mpp(stated, given, "a.tif")
        assert (found, type(found)) == (0.5, float)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"states 0\.2500 µm per pixel \(resolution tags\); mpp=0\.5 is taken"):
        resolve_mpp(square(0.25), given, "a.tif")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("0.5", TypeError, "mpp must be a number"),
        (True, TypeError, "mpp must be a number"),
        (0, ValueError, "mpp must be positive"),
        (math.nan, ValueError, "mpp must be positive"),
        (0.0005, ValueError, "no µm per pixel of a slide .* A thousand times as much, 0.5,"),
        (20, ValueError, r"no µm per pixel of a slide \(expected 0\.05 to 10\)"),
        (227, ValueError, "A thousandth of it, 0.227,"),
    ],
)
def test_what_cannot_be_given(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_mpp(square(0.5), given, "a.tif")


def test_statements_that_disagree(recwarn: pytest.WarningsRecorder) -> None:
    assert first_stated([], "a.tif") is None
    words, tags = StatedMpp(0.25, 0.25, "words"), square(0.5)
    for others in ([], [square(0.255)], [square(352.8)], [StatedMpp(0.25, 0.5, TAGS)]):
        assert first_stated([words, *others], "a.tif") == words
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"0\.2500 µm per pixel in its words and 0\.5000 in its resolution tags"):
        assert first_stated([words, tags], "a.tif") == words
