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
from stdistill._table.checks import find_split_key
from stdistill._table.fitting.inputs import NicheInputs, check_features, check_split, niche_inputs
from stdistill._table.fitting.origin import common_origin
from stdistill._table.fitting.overlap import check_cells_apart
from stdistill._table.libraries import find_library_key
from stdistill._table.niches import write_niches
from stdistill._table.provenance import add_inherited, check_features_unseen, stands_on
from stdistill._table.records import write_record

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
    logits: npt.NDArray[np.float32],
    training: Mask,
    *,
    step: str,
    key_added: str,
    use_rep: str,
    niches: Sequence[str],
    colors: Sequence[str],
    split_key: str | None,
    library_key: str | None,
    teacher_key: str | None = None,
    **settings: Any,
) -> None:
    """Write logits, niches and the record of a step to all tables.

    Parameters
    ----------
    inputs
        The cells.
    logits
        (n, k), NaN without a prediction.
    training
        (n,), cells that were fitted on.
    step, key_added, use_rep
        Name of the step, prefix of what is written, and what was read.
    niches, colors
        Names and colours of the niches.
    split_key, library_key
        As users give them.
    teacher_key
        The teacher, where there was one.
    settings
        For the record.
    """
    made = digest(logits)
    sizes = np.bincount(logits[training].argmax(axis=1), minlength=len(niches))
    parts = zip(inputs.tables, inputs.divide(logits), inputs.divide(training), strict=True)
    for table, part, fitted_on in parts:
        found = stands_on(table, use_rep, graph=True, teacher_key=teacher_key)
        fitted = add_inherited(table, fitted_on, use_rep, teacher_key)
        written = write_niches(table, key_added, part, niches=niches, colors=colors, fitted=fitted, model=made)
        write_record(
            table,
            step,
            k=len(niches),
            use_rep=use_rep,
            key_added=key_added,
            model_sha256=made,
            fingerprint=written,
            **found,
            teacher_key=teacher_key,
            radius_um=inputs.radius_um,
            occupied_niches=int((sizes > 0).sum()),
            split_key=find_split_key(table, split_key),
            library_key=find_library_key(table, library_key),
            **settings,
        )
    logger.info('Fitted on %d cells; wrote .obs["%s_niche"] and its logits.', training.sum(), key_added)
