"""What composition models are fitted to, checked and gathered before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from stdistill._runs.complete import complete_neighborhoods
from stdistill._table import schema
from stdistill._table.abundances import check_free
from stdistill._table.checks import find_split_key, get_centers
from stdistill._table.fitting.composition import CompositionInputs, Taught, composition_inputs, read_taught
from stdistill._table.fitting.inputs import check_split
from stdistill._table.fitting.origin import Origin, common_origin
from stdistill._table.fitting.overlap import check_cells_apart
from stdistill._table.libraries import find_library_key, warn_of_overlap
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.whole import warn_of_other_cells
from stdistill._table.records import find_record
from stdistill.models.composition.arguments import FittingArguments

SUM_TOLERANCE = 1e-3


def name_reps(use_rep: str | Sequence[str]) -> list[str]:
    """Return the keys of the features, each once."""
    reps = [use_rep] if isinstance(use_rep, str) else list(use_rep)
    if not reps or len(set(reps)) < len(reps):
        msg = f"use_rep={use_rep!r} must name the features of one encoder, or of several, each once."
        raise ValueError(msg)
    return reps


def check_keys(tables: Sequence[AnnData], keys: Sequence[str], target_key: str, reps: Sequence[str]) -> None:
    """Raise when a result would take the place of what it is learned from, or of something else."""
    for key in keys:
        if key in (target_key, *reps):
            msg = f"key_added={key!r} is what the model is fitted to: name another key."
            raise ValueError(msg)
        for table in tables:
            check_free(table, key)


def prepare(
    tables: Sequence[AnnData],
    target_key: str,
    reps: Sequence[str],
    arguments: FittingArguments,
    *,
    split_key: str | None,
    library_key: str | None,
) -> tuple[CompositionInputs, Taught, list[Origin]]:
    """Check and gather what a model is fitted to: features and their origins, and abundances."""
    taught = read_taught(tables, target_key)
    if arguments["output"] == "softmax":
        _check_shares(taught, target_key)
    check_split(tables, split_key)
    with_graph = arguments["use_neighbors"]
    if with_graph:
        complete_neighborhoods(tables, split_key=split_key, library_key=library_key)
    for table in tables:
        if schema.SPATIAL in table.obsm and find_library_key(table, library_key) is None:
            warn_of_overlap(table, get_centers(table), "They are taken for one: name the slides with library_key=.")
    for table in tables:
        _check_counts(table, target_key, split_key)
    for rep in reps if arguments["standardize"] == "slide" else ():
        warn_of_other_cells(tables, rep, library_key)
    inputs = composition_inputs(
        tables, use_rep=reps, split_key=split_key, library_key=library_key, with_graph=with_graph
    )
    origins = [common_origin(tables, rep) for rep in reps]
    for table in tables:
        for rep in reps:
            check_features_unseen(table, rep, split_key)
    check_cells_apart(
        tables, reps[0], inputs.rows.features[0], inputs.centers, training=inputs.training, test=inputs.test
    )
    return inputs, taught, origins


def _check_counts(table: AnnData, target_key: str, split_key: str | None) -> None:
    """Raise when cells were counted across the split that is used: training cells with test cells around them."""
    _, record = find_record(table, schema.ABUNDANCE_STEPS, target_key)
    used = find_split_key(table, split_key)
    if record.get("source") == "cell_type" and used is not None and record.get("split_key") != used:
        msg = (
            f".obsm[{target_key!r}] counts cells without regard to the split in .obs[{used!r}]: test cells count for "
            "training cells near them. Run sd.pp.neighborhoods and sd.pp.abundances again, or give split_key=None, "
            "which holds no cell out."
        )
        raise ValueError(msg)


def _check_shares(taught: Taught, target_key: str) -> None:
    """Raise unless the known rows sum to 1."""
    sums = taught.values[taught.known].sum(axis=1)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    if wrong.any():
        msg = (
            f"output='softmax' predicts shares, and {wrong.sum()} rows of .obsm[{target_key!r}] do not sum to 1 (from "
            f"{sums.min():.3g} to {sums.max():.3g}). Divide the rows by their sums before sd.pp.abundances, or leave "
            "output='linear'."
        )
        raise ValueError(msg)
