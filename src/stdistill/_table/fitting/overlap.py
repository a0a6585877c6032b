"""Whether test cells are training cells under another name, in another table or in another row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from anndata import AnnData

from stdistill._support.arrays import Floats, Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.fitting.origin import images_of
from stdistill._table.marks.cells import mark_cells


def check_cells_apart(
    tables: Sequence[AnnData],
    use_rep: str,
    features: Floats,
    centers: Floats,
    *,
    training: Mask,
    test: Mask,
    what: str = "cells",
) -> None:
    """Raise when cells are trained on and held out as well; warn when two tables show one H&E, one for each.

    Parameters
    ----------
    tables, use_rep
        The cells' tables, and the key of their features.
    features, centers
        (n, d) and (n, 2) in µm, of the cells of all tables.
    training, test
        (n,), cells that are trained on, and that are for testing.
    what
        What the rows are, such as tiles.
    """
    if not (training.any() and test.any()):
        return
    marks = mark_cells(features, centers)
    n_both = int(np.isin(marks[test], marks[training]).sum())
    if n_both:
        msg = (
            f"{n_both} of the {test.sum()} {what} that are {schema.TEST!r} are {schema.TRAIN!r} as well: they "
            "are in the tables twice, with the same features at the same place, such as in a slide and in a part or a "
            f"copy of it. Give each of the {what} once."
        )
        raise ValueError(msg)
    ends = np.cumsum([table.n_obs for table in tables[:-1]])
    divided = zip(tables, np.split(training, ends), np.split(test, ends), strict=True)
    shown = [(set(images_of(table, use_rep)), trains.any(), tests.any()) for table, trains, tests in divided]
    for (one, trains, _), (other, _, tests) in permutations(shown, 2):
        if trains and tests and one & other:
            warn(
                f"Two of the tables show one H&E: {what} of one are trained on, and those of the other, for testing, "
                "may show the same tissue. Divide both by one split, or leave one of them out."
            )
            return
