"""What a function gives: what it returns, draws and writes, as plain values that can be compared."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.sparse import issparse

from agreeing.functions import Function
from agreeing.prepared import Prepared

OF_RECORDS = ("_mark", "_model", "_fitted")
"""Columns that say how a result was made; they are no part of it."""


class Outcome(NamedTuple):
    """Of one run."""

    error: str | None
    warned: list[str]
    values: dict[str, Any]


def run(function: Function, on: Prepared) -> Outcome:
    """Run a function, and return what became of it."""
    before = written(on)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            returned = function.call(on)
        except (ValueError, KeyError, TypeError) as error:
            return Outcome(f"{type(error).__name__}: {error}", [], {})
    warned = [str(each.message) for each in caught if each.category is UserWarning]
    found = dict(plain("returned", returned))
    found |= {name: value for name, value in written(on).items() if not is_same(before.get(name), value)}
    return Outcome(None, warned, found)


def written(on: Prepared) -> dict[str, Any]:
    """Return all that stands in both tables, but for records, which say how it was made."""
    found: dict[str, Any] = {}
    for name, table in (("cells", on.cells), ("tiles", on.tiles)):
        kept = [key for key in table.obs if not key.endswith(OF_RECORDS)]
        found |= {f"{name}.obs[{key}]": table.obs[key].array for key in kept}
        found |= {f"{name}.obsm[{key}]": values for key, values in table.obsm.items()}
        found |= {f"{name}.obsp[{key}]": values for key, values in table.obsp.items()}
    return {name: copied for name, value in found.items() for _, copied in plain(name, value)}


def plain(name: str, value: Any) -> list[tuple[str, Any]]:
    """Take apart what was returned into arrays, numbers and texts under names."""
    if isinstance(value, Axes):
        return drawn(name, value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, pd.DataFrame):
        value = {"index": value.index.to_numpy(), **{str(key): column.array for key, column in value.items()}}
    if isinstance(value, Mapping):
        return [pair for key, each in value.items() for pair in plain(f"{name}.{key}", each)]
    if isinstance(value, list | tuple):
        return [pair for number, each in enumerate(value) for pair in plain(f"{name}.{number}", each)]
    if hasattr(value, "card"):
        return []  # a model: what it says of the cells is written
    if issparse(value):
        value = value.toarray()
    if isinstance(value, pd.Categorical):
        value = np.asarray(value.astype(object))
    if isinstance(value, pd.api.extensions.ExtensionArray):
        value = np.asarray(value)
    return [(name, value.copy() if isinstance(value, np.ndarray) else value)]


def drawn(name: str, axes: Axes) -> list[tuple[str, Any]]:
    """Return what is seen in axes: dots, images, lines, bars and words."""
    found: dict[str, Any] = {"texts": [text.get_text() for text in [axes.title, axes.xaxis.label, *axes.texts]]}
    found["dots"] = [[np.asarray(each.get_offsets()), each.get_facecolor()] for each in axes.collections]
    found["lines"] = [line.get_xydata() for line in axes.lines]
    found["bars"] = [
        patch.get_path().vertices @ patch.get_patch_transform().get_matrix()[:2, :2] for patch in axes.patches
    ]
    found["images"] = [np.asarray(image.get_array()) for image in axes.images]
    return plain(name, found)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal but for rounding."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape:
            return False
        if one.dtype.kind in "fiub" and other.dtype.kind in "fiub":
            return bool(np.allclose(one.astype(float), other.astype(float), rtol=1e-4, atol=1e-6, equal_nan=True))
        return list(map(str, one.ravel())) == list(map(str, other.ravel()))
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=1e-4, equal_nan=True))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return type(one) is type(other) and (str(one) == str(other))


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Name what differs between two outcomes."""
    names = {**one.values, **other.values}
    return [name for name in names if not is_same(one.values.get(name), other.values.get(name))]
