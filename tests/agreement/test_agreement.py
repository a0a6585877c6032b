"""Every function that reads a table, after everything that may have happened to it: none is silently wrong.

It raises one of our errors, warns, gives what it gives on the sound table, or is exempt by a reason that is given.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from agreeing.damages import DAMAGES, Damage
from agreeing.exemptions import EVERYWHERE, SOMEWHERE, WITHOUT_READING_NEIGHBORS
from agreeing.functions import FUNCTIONS, READ_NO_KEYS, Function
from agreeing.outcome import Outcome, differences, run
from agreeing.page import rows
from agreeing.prepared import Prepared, prepare

import stdistill as sd

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "agreement.md"


def concerns(damage: Damage, function: Function) -> bool:
    """Whether a function reads what is damaged."""
    return any(
        fnmatchcase(read, touched) or fnmatchcase(touched, read)
        for read in function.reads.split()
        for touched in damage.touches.split()
    )


COMBINATIONS = [
    (name, what)
    for name, function in FUNCTIONS.items()
    for what, damage in DAMAGES.items()
    if concerns(damage, function)
]
NEEDED = {(name, what) for each in SOMEWHERE for name in each.functions for what in each.damages}
"""Exemptions that would be too many if the functions said something."""


def reason(name: str, what: str) -> str | None:
    """Say why a function may give something else after a damage."""
    if DAMAGES[what].anew and DAMAGES[what].anew in FUNCTIONS[name].takes.split():
        return "it takes what was made anew"
    for exemption in [*EVERYWHERE, WITHOUT_READING_NEIGHBORS, *SOMEWHERE]:
        if what in exemption.damages and name in (exemption.functions or FUNCTIONS):
            return exemption.why
    return None


class Matrix:
    """The sound slide, the damaged ones and the sound outcomes, each made when it is first asked for."""

    def __init__(self, sound: Prepared) -> None:
        self._slides = {"": sound}
        self._outcomes: dict[str, Outcome] = {}

    def sound(self, name: str) -> Outcome:
        if name not in self._outcomes:
            self._outcomes[name] = self.outcome(name, "")
        return self._outcomes[name]

    def outcome(self, name: str, what: str) -> Outcome:
        if what not in self._slides:
            damaged = self._slides[""].copy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                DAMAGES[what].do(damaged)
            self._slides[what] = damaged
        return run(FUNCTIONS[name], self._slides[what].copy())


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    folder = tmp_path_factory.mktemp("agreement")
    bundle = sd.datasets.simulate_xenium(folder / "outs", n_cells=400, seed=1)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr("stdistill._drawing.view.PAINT_PX", 200)
        yield Matrix(prepare(bundle, folder))


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sound_tables_give_the_same_again(matrix: Matrix, name: str) -> None:
    sound = matrix.sound(name)
    assert sound.error is None
    assert differences(sound, matrix.outcome(name, "")) == []


@pytest.mark.parametrize(("name", "what"), COMBINATIONS)
def test_nothing_is_silently_wrong(matrix: Matrix, name: str, what: str) -> None:
    sound, found = matrix.sound(name), matrix.outcome(name, what)
    says_something = found.error is not None or not set(found.warned) <= set(sound.warned)
    differs = not says_something and bool(differences(sound, found))
    why = reason(name, what)
    assert not differs or why is not None, f"silently other: {differences(sound, found)[:5]}"
    assert differs or (name, what) not in NEEDED, f"needs no exemption any more: {found.error or found.warned}"


def test_every_function_is_named() -> None:
    public = {f"{part}.{name}" for part in ("pp", "tl", "pl", "io") for name in getattr(sd, part).__all__}
    named = {name.split(" ")[0] for name in FUNCTIONS}
    assert public == {name for name in named if not name.startswith("get.")} | set(READ_NO_KEYS)
    assert not named & set(READ_NO_KEYS)


def test_the_page_says_the_same() -> None:
    page = PAGE.read_text()
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows()
    assert f"each of {len(DAMAGES)} damages" in page


def test_every_damage_concerns_some_function() -> None:
    assert {what for _, what in COMBINATIONS} == set(DAMAGES)
    known = set(DAMAGES)
    assert all(set(each.damages) <= known for each in [*EVERYWHERE, WITHOUT_READING_NEIGHBORS, *SOMEWHERE])
