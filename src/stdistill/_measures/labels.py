"""Labels of cells as arrays, and how many cells two of them share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Mask, Rows


class Labels(NamedTuple):
    """A category for each cell that has one."""

    codes: Rows
    """Number of each cell's category, -1 where it has none."""
    names: list[str]
    """The categories."""

    @property
    def known(self) -> Mask:
        """The cells that have a label."""
        return self.codes >= 0


def cross_table(rows: Labels, columns: Labels, cells: Mask) -> npt.NDArray[np.int64]:
    """Count the `cells` of each pair of labels: (categories of `rows` × categories of `columns`)."""
    shape = len(rows.names), len(columns.names)
    used = cells & rows.known & columns.known
    pairs = rows.codes[used] * shape[1] + columns.codes[used]
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def check_several(labels: Labels, cells: Mask, what: str) -> None:
    """Raise unless the `cells` have at least two different labels: with one there is nothing to compare."""
    present = np.unique(labels.codes[cells])
    if len(present) < 2:
        name = labels.names[present[0]]
        msg = f"{what} has the one label {name!r} in the {cells.sum()} cells compared; at least two are needed."
        raise ValueError(msg)
