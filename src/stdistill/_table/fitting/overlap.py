"""Whether test cells are training cells under another name, in another table or in another row."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.origin import images_of
from stdistill._table.marks import mark_cells


def check_cells_apart(inputs: NicheInputs, use_rep: str) -> None:
    """Raise when cells are trained on and held out as well; warn when two tables show one H&E, one for each."""
    if not (inputs.training.any() and inputs.test.any()):
        return
    marks = mark_cells(inputs.features, inputs.centers)
    n_both = int(np.isin(marks[inputs.test], marks[inputs.training]).sum())
    if n_both:
        msg = (
            f"{n_both} of the {inputs.test.sum()} cells that are {schema.TEST!r} are {schema.TRAIN!r} as well: they "
            "are in the tables twice, with the same features at the same place, such as in a slide and in a part or a "
            "copy of it. Give each cell once."
        )
        raise ValueError(msg)
    divided = zip(inputs.tables, inputs.divide(inputs.training), inputs.divide(inputs.test), strict=True)
    shown = [(set(images_of(table, use_rep)), training.any(), test.any()) for table, training, test in divided]
    for (one, trains, _), (other, _, tests) in permutations(shown, 2):
        if trains and tests and one & other:
            warn(
                "Two of the tables show one H&E: cells of one are trained on, and those of the other, for testing, may "
                "show the same tissue. Divide both by one split, or leave one of them out."
            )
            return
