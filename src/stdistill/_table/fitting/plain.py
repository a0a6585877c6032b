"""What plain models of neighbourhood means write to tables."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Mask
from stdistill._support.files import digest
from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.results import Naming, write_predicted
from stdistill._table.provenance.results import add_inherited

logger = logging.getLogger("stdistill")


def write_plain(
    inputs: NicheInputs,
    naming: Naming,
    logits: npt.NDArray[np.float32],
    training: Mask,
    *,
    split_key: str | None,
    library_key: str | None,
    teacher: str | None = None,
    **settings: Any,
) -> None:
    """Write logits (n, k), niches and the record of a step to all tables; the parameters are `write_predicted`'s."""
    fitted = [
        add_inherited(table, cells, naming.use_rep, teacher)
        for table, cells in zip(inputs.tables, inputs.divide(training), strict=True)
    ]
    write_predicted(
        inputs,
        naming,
        logits,
        model=digest(logits),
        training=training,
        fitted=fitted,
        teacher=teacher,
        split_key=split_key,
        library_key=library_key,
        **settings,
    )
    logger.info('Fitted on %d cells; wrote .obs["%s_niche"] and its logits.', training.sum(), naming.key_added)
