"""Checks of numbers and names that users pass in: each says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csc_matrix, csr_array, csr_matrix

from stdistill._support.arrays import Floats

READ_AGAIN = "Read the slide again."
LEAST_LETTERS = 3
"""Of names that are compared: fewer are in too many others."""
ALIKE = 0.75
"""Share of letters that two spellings of one name have in common."""
MOST_NAMED = 3
"""Names that may be meant."""


def some(names: Iterable[object], most: int = 5) -> str:
    """Write the first of some names for a message; an ellipsis says that there are more."""
    every = list(map(str, names))
    return ", ".join(every[:most]) + (", …" if len(every) > most else "")


def check_key(
    key: str, available: Collection[str], what: str, *, argument: str, hint: str | None = None, suffix: str = ""
) -> None:
    """Raise a `KeyError` that lists what there is when `key` is not in `available`, first what may be meant.

    With a `suffix`, what ends with it is more likely meant: ``"student"`` may stand for ``"student_niche"``.
    """
    if key in available:
        return
    there = sorted(map(str, available))
    names = ", ".join(map(repr, there)) or "none"
    msg = f"{argument}={key!r} is not {what}; there is: {names}.{suggest(key, there, suffix)}"
    raise KeyError(msg if hint is None else f"{msg} {hint}")


def suggest(key: str, names: Sequence[str], suffix: str = "") -> str:
    """Ask whether the names are meant that hold what was given, are held by it, or are spelled alike; else nothing.

    Where some of these end with `suffix`, they alone are named.
    """
    given = str(key).casefold()
    if len(given) < LEAST_LETTERS:
        return ""
    for some in ([name for name in names if name.endswith(suffix)], names):
        folded = {name: name.casefold() for name in some if len(name) >= LEAST_LETTERS}
        near = [name for name, text in folded.items() if given in text or text in given]
        near = near or [name for name, text in folded.items() if _is_spelled_alike(given, text, suffix)]
        if near:
            return f" Did you mean {' or '.join(map(repr, near[:MOST_NAMED]))}?"
    return ""


def _is_spelled_alike(given: str, name: str, suffix: str) -> bool:
    return bool(difflib.get_close_matches(name, [given, f"{given}{suffix}"], cutoff=ALIKE))


def check_name(name: str, argument: str) -> None:
    """Raise unless `name` can be a key in a table that is written to disk."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9.-][\w.-]*", name, flags=re.ASCII):
        msg = f"{argument} must be a name of letters, digits, '_', '-' and '.', found {name!r}."
        raise ValueError(msg)


def check_list(names: object, argument: str) -> None:
    """Raise when something else is given than several names; of a name the letters would be taken for names."""
    if not isinstance(names, Iterable):
        msg = f"{argument} must be a list of names, found {names!r} ({type(names).__name__})."
        raise TypeError(msg)
    if isinstance(names, str):
        msg = f"{argument} must be a list of names, found {names!r}. Give [{names!r}]."
        raise TypeError(msg)


def as_names(given: str | Iterable[str], argument: str, what: str) -> list[str]:
    """Return one name or several as a list; raise an error that says `what` is to be named when there is none."""
    if not isinstance(given, Iterable):
        msg = f"{argument} must be a name or a list of names, found {given!r} ({type(given).__name__}): name {what}."
        raise TypeError(msg)
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        msg = f"{argument} is empty: name {what}."
        raise ValueError(msg)
    return names


def check_choice(value: object, argument: str, choices: Sequence[object]) -> None:
    """Raise a `ValueError` that lists `choices` unless `value` is one of them."""
    if value not in choices:
        msg = f"{argument} must be one of {list(choices)}, found {value!r}."
        raise ValueError(msg)


def check_finite(centers: Floats, cell_ids: npt.NDArray[np.object_], advice: str) -> None:
    """Raise a `ValueError` that names the cells whose centre is NaN or infinite."""
    bad = ~np.isfinite(centers).all(axis=1)
    if not bad.any():
        return
    msg = f"{bad.sum()} of {len(centers)} cells have a NaN or infinite centre ({some(cell_ids[bad])}). {advice}"
    raise ValueError(msg)


def check_sparse(matrix: Any, what: str, advice: str) -> None:
    """Raise when places in a compressed sparse matrix are out of it: reading them would end the process."""
    if not isinstance(matrix, csr_matrix | csr_array | csc_matrix | csc_array):
        return
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        msg = (
            f"{what} is a sparse matrix whose indices are damaged ({error}), as of a file that was cut off or changed: "
            f"expected places within its {matrix.shape[0]} rows and {matrix.shape[1]} columns. {advice}"
        )
        raise ValueError(msg) from error


def check_positive(value: float, argument: str) -> None:
    """Raise unless `value` is a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        msg = f"{argument} must be a number, found {value!r} ({type(value).__name__})."
        raise TypeError(msg)
    if not (np.isfinite(value) and value > 0):
        msg = f"{argument} must be positive and finite, found {value!r}."
        raise ValueError(msg)


def check_integer(value: int, argument: str, *, minimum: int, maximum: int | None = None) -> None:
    """Raise unless `value` is an integer of at least `minimum` and at most `maximum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        msg = f"{argument} must be an integer, found {value!r} ({type(value).__name__})."
        raise TypeError(msg)
    if value < minimum or (maximum is not None and value > maximum):
        upper = "" if maximum is None else f" and at most {maximum}"
        msg = f"{argument} must be at least {minimum}{upper}, found {value}."
        raise ValueError(msg)
