"""What plain models of neighbourhood means take from tables, and what they write to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._support.arrays import Mask
from stdistill._support.files import digest
from stdistill._table.fitting.inputs import NicheInputs, check_features, check_split, niche_inputs
from stdistill._table.fitting.origin import common_origin
from stdistill._table.fitting.overlap import check_cells_apart
from stdistill._table.fitting.results import Naming, write_fitted
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.results import add_inherited

logger = logging.getLogger("stdistill")


def check_plain(tables: Sequence[AnnData], use_rep: str, split_key: str | None) -> None:
    """Raise unless the tables have features that can be fitted together, and measured on the test cells."""
    check_split(tables, split_key)
    check_features(tables, use_rep)
    for table in tables:
        check_features_unseen(table, use_rep, split_key)
    common_origin(tables, use_rep)


def plain_inputs(
    tables: Sequence[AnnData], *, use_rep: str, split_key: str | None, library_key: str | None
) -> NicheInputs:
    """Gather features and graph of tables that have both, as for a niche network."""
    inputs = niche_inputs(tables, use_rep=use_rep, split_key=split_key, library_key=library_key)
    check_cells_apart(tables, use_rep, inputs.features, inputs.centers, training=inputs.training, test=inputs.test)
    return inputs


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
    """Write logits (n, k), niches and the record of a step to all tables; the parameters are `write_fitted`'s."""
    fitted = [
        add_inherited(table, cells, naming.use_rep, teacher)
        for table, cells in zip(inputs.tables, inputs.divide(training), strict=True)
    ]
    write_fitted(
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
