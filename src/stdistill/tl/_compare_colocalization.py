"""How alike two maps of co-localisation are."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from stdistill._measures.abundances.maps import Diagonal, compare_maps
from stdistill._measures.abundances.moran import Colocalization
from stdistill._support.checks import check_choice

SAME_LENGTH = 0.05
"""Lengths that follow the spacing of spots differ by no larger a share between slides of one kind (our choice)."""


def compare_colocalization(
    a: Colocalization | pd.DataFrame, b: Colocalization | pd.DataFrame, *, diagonal: Diagonal = "exclude"
) -> pd.DataFrame:
    """Compare two maps of co-localisation: of each type, how alike its rows are.

    Parameters
    ----------
    a
        The truth: what :func:`stdistill.tl.colocalization` returned, or a frame of R (types, types).
    b
        The prediction, likewise. Types are matched by name; those that only `b` has are left out.
    diagonal
        What becomes of R of a type with itself: ``"exclude"`` leaves it out; ``"one"`` sets it to 1 in both maps;
        ``"computed"`` takes it as it is.

    Returns
    -------
    Frame with one row per type of `a`, and one with the type ``"all"``. Columns ``type``; ``cosine`` and
    ``correlation`` (Pearson) of the type's row in `a` and in `b`, and for ``"all"`` their means over the types that
    have one; ``n_undefined``, 1 for a type that has R in `a` and none in `b`, and for ``"all"`` how many these are.

    Pairs without R in `a` are left out. Pairs without R in `b`, because the prediction of a type is the same in all
    rows, count as 0, so that saying nothing gains nothing. A type without any R in `a` is missing in both columns; so
    is the correlation of a row with one pair.

    Raises
    ------
    TypeError
        When a map is something else.
    ValueError
        When `diagonal` is none of the three, a frame names other types in its rows than in its columns, or one twice,
        `b` lacks a type of `a`, there are fewer than two types, or the maps were measured at lengths that differ by
        more than 5 %, or with other cut-offs. Frames of R are not asked for these.

    Notes
    -----
    Row-wise cosine and correlation: Sun, Zhu & Qiu 2025, Table 1, which does not say what becomes of the diagonal. The
    published notebook of Hist2Cell, which the paper follows, sets it to 1 (``"one"``). These ones are the largest
    entries of every row, and the same in both maps: with them a map that says nothing scores high. That the default
    leaves them out is our choice; see *Co-localisation* in the documentation.

    Examples
    --------
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> types = ["tumour", "T cells", "fat"]
    >>> truth = pd.DataFrame([[0.5, 0.1, -0.2], [0.1, 0.4, -0.1], [-0.2, -0.1, 0.6]], index=types, columns=types)
    >>> sd.tl.compare_colocalization(truth, 0 * truth)["cosine"].iloc[-1]
    np.float64(0.0)
    >>> round(sd.tl.compare_colocalization(truth, 0 * truth, diagonal="one")["cosine"].iloc[-1], 2)
    np.float64(0.98)
    """
    check_choice(diagonal, "diagonal", get_args(Diagonal))
    truth, predicted = _frame(a, "a"), _frame(b, "b")
    _check_same_weights(a, b)
    types = truth.index
    missing = types.difference(predicted.index, sort=False)
    if len(missing):
        msg = f"b lacks {len(missing)} of the {len(types)} types of a: {list(missing)}. It has {list(predicted.index)}."
        raise ValueError(msg)
    if len(types) < 2:
        msg = f"a has the types {list(types)}; two at least are needed to compare which lie together."
        raise ValueError(msg)
    values = [frame.loc[types, types].to_numpy(dtype=np.float64) for frame in (truth, predicted)]
    cosine, correlation, undefined = compare_maps(values[0], values[1], diagonal)
    rows = pd.DataFrame(
        {"type": types, "cosine": cosine, "correlation": correlation, "n_undefined": undefined.astype(np.int64)}
    )
    means = {"type": "all", **rows[["cosine", "correlation"]].mean(), "n_undefined": undefined.sum()}
    return pd.concat([rows, pd.DataFrame([means])], ignore_index=True)


def _check_same_weights(a: Colocalization | pd.DataFrame, b: Colocalization | pd.DataFrame) -> None:
    """Raise when R was measured over other distances: types that avoid each other near by lie together farther away."""
    if not (isinstance(a, Colocalization) and isinstance(b, Colocalization)):
        return
    if not np.isclose(a.length_um, b.length_um, rtol=SAME_LENGTH) or not np.isclose(a.cutoff, b.cutoff):
        msg = (
            f"a was measured with length_um={a.length_um:.4g} and cutoff={a.cutoff:g}, b with {b.length_um:.4g} and "
            f"{b.cutoff:g}: R over other distances is another measure. Run sd.tl.colocalization on both with one "
            "length_um= and cutoff=; to compare these all the same, give their frames, a.r and b.r."
        )
        raise ValueError(msg)


def _frame(given: Colocalization | pd.DataFrame, argument: str) -> pd.DataFrame:
    """Return R, checked to have the same names in its rows as in its columns, each once."""
    frame = given.r if isinstance(given, Colocalization) else given
    if not isinstance(frame, pd.DataFrame):
        msg = f"{argument}: expected what sd.tl.colocalization returns, or a frame of R, found {type(given).__name__}."
        raise TypeError(msg)
    if not frame.index.is_unique or not frame.columns.is_unique or set(frame.index) != set(frame.columns):
        msg = (
            f"{argument}: expected a frame of types × types, each of them once; its rows are {list(frame.index)}, its "
            f"columns {list(frame.columns)}."
        )
        raise ValueError(msg)
    return frame
