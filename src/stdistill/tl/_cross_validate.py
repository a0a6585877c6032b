"""How well abundances can be told from H&E of patients, sections or data sets that were not learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from stdistill._measures.abundances.scores import score
from stdistill._runs.composition import check_keys, name_reps, prepare
from stdistill._support.arguments import takes
from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._support.checks import check_name, some
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.abundances import abundances_fingerprint, write_abundances
from stdistill._table.fitting.composition import CompositionInputs, Taught, number_groups
from stdistill._table.fitting.inputs import get_tables
from stdistill._table.marks.cells import mark_cells
from stdistill._training.arguments import TrainingArguments
from stdistill.models.composition.arguments import (
    COMPOSITION_DEFAULTS,
    CompositionArguments,
    FittingArguments,
    check_fitting,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models.composition.folds import Tissue
    from stdistill.models.features import ReadableRows

logger = logging.getLogger("stdistill")

ALL_GROUPS = "all"


@takes(CompositionArguments, TrainingArguments, defaults=COMPOSITION_DEFAULTS)
def cross_validate(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    group_key: str,
    target_key: str = schema.ABUNDANCE,
    use_rep: str | Sequence[str] = schema.HE_FEATURES,
    key_added: str = "cv",
    library_key: str | None = None,
    table_key: str = schema.TABLE,
    **arguments: Unpack[FittingArguments],
) -> pd.DataFrame:
    """Leave each group out, fit to the others as :func:`stdistill.tl.decompose` does, and score what is left out.

    With patients as groups it asks for a new patient; with data sets, it fits to one and tests on another. Ridge
    regression, the nearest rows of the training and the training mean are always beside the model: a network that does
    not beat these has learned nothing that they had not.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with features and abundances; or a list of them, one per slide. All rows
        take part, whatever their split.
    group_key
        Column of ``.obs`` of the groups that are left out in turn, such as patients, sections or data sets. What stops
        the networks and chooses penalties are whole groups of those that are left, else whole slides, else blocks.
    target_key
        Key of ``.obsm`` of the abundances; a row with a NaN is neither trained on nor scored.
    use_rep
        Key of ``.obsm`` of the features, or several, of one encoder each.
    key_added
        Prefix of the keys of what is written.
    library_key
        Column of ``.obs`` that names each row's slide, in a table of several: correlations are those within slides. By
        default that of the neighbourhoods, else the regions that the table annotates, when there are several.
    table_key
        Name of the table of a SpatialData.
    **arguments

    Returns
    -------
    One row per ``method`` (``"mlp"`` unless `method` is ``"ridge"``, ``"ridge"``, ``"knn"`` and ``"mean"``), ``group``
    that was left out and ``type``; the group ``"all"`` is the mean over the groups, the type ``"all"`` the score of all
    types: ``cc``, ``l1``, ``skill``, ``n_rows`` and ``n_undefined``, as of :func:`stdistill.tl.abundance_scores`.
    Written to the table:

    ``.obsm["cv_mlp"]``, ``["cv_ridge"]``, ``["cv_knn"]``, ``["cv_mean"]``
        (n, types) float32, what each method says of each row while its group was left out; NaN without features.
    ``.obs["cv_mlp_fitted"]``, …
        Boolean, no row: these are all tests.
    ``.obs["cv_mlp_mark"]``, …
        A number for each row, by which rows that were moved or edited are told.
    ``.uns["stdistill"]["cross_validate_cv_mlp"]``, …
        The parameters.

    Raises
    ------
    KeyError
        When the table, features, abundances or a column is not there.
    ValueError
        When there is one group, the neighbourhoods join groups, or as of :func:`stdistill.tl.decompose`.
    TypeError
        When features or abundances are no dense array of numbers.

    Warns
    -----
    UserWarning
        When groups divide a slide, whose crops at their borders show the same tissue, or differ in blanks or capitals
        alone.

    Notes
    -----
    Leaving one patient out, and training on one data set and testing on another: Sun, Zhu and Qiu 2025, section 3.
    The baselines are our choice; the paper reports none.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 900, (300, 2))})
    >>> types = pd.DataFrame(rng.random((300, 2)), columns=["B cell", "T cell"], index=adata.obs_names)
    >>> adata.obsm["types"] = types
    >>> adata.obsm["X_he"] = np.c_[types, rng.normal(size=(300, 4))].astype("float16")
    >>> sd.pp.abundances(adata, obsm_key="types")
    >>> adata.obs["patient"] = np.repeat(["a", "b", "c"], 100)
    >>> scores = sd.tl.cross_validate(adata, group_key="patient", library_key="patient", method="ridge")
    >>> scores.query("group == 'all' and type == 'all'").set_index("method")["cc"].round(1).to_dict()
    {'ridge': 1.0, 'knn': 0.9, 'mean': nan}
    """
    check_fitting(arguments)
    check_name(key_added, "key_added")
    reps = name_reps(use_rep)
    tables = get_tables(data, table_key)
    methods = list(dict.fromkeys([arguments["method"], "ridge", "knn", "mean"]))
    check_keys(tables, [f"{key_added}_{method}" for method in methods], target_key, reps)
    inputs, taught, _ = prepare(tables, target_key, reps, arguments, split_key=None, library_key=library_key)
    groups, names = number_groups(tables, group_key)
    _check_groups(inputs, taught, groups, names, group_key)
    rows, tissue = inputs.seen(arguments["standardize"]), partial(inputs.tissue, reps, target_key)
    predicted: dict[str, Floats] = {}
    scores: list[pd.DataFrame] = []
    for number, name in enumerate(names):
        left_out = groups == number
        logger.info("Leaving out %s %r: %d of %d rows.", group_key, name, left_out.sum(), len(groups))
        training = inputs.rows.known & taught.known & ~left_out
        places = np.flatnonzero(left_out & inputs.rows.known)
        own = _in_folder(arguments, f"group_{number}")
        training_mean = taught.values[training].mean(axis=0)
        for method, values in _predict_left_out(rows, inputs, taught, groups, training, places, tissue, own):
            predicted.setdefault(method, np.full(taught.values.shape, np.nan, dtype=np.float32))[places] = values
            found = score(
                predicted[method][left_out], taught.values[left_out], inputs.libraries[left_out], training_mean
            )
            scores.append(found.frame(taught.types).assign(method=method, group=name))
    for method, all_values in predicted.items():
        key = f"{key_added}_{method}"
        for table, part in zip(tables, inputs.divide(all_values), strict=True):
            write_abundances(
                table,
                "cross_validate",
                key,
                part,
                taught.types,
                fitted=np.zeros(table.n_obs, dtype=bool),
                method=method,
                group_key=group_key,
                target_key=target_key,
                target=abundances_fingerprint(table, target_key),
                use_rep=reps,
                standardize=arguments["standardize"],
                seed=arguments["seed"],
            )
    return _with_means(pd.concat(scores))


def _predict_left_out(
    rows: ReadableRows,
    inputs: CompositionInputs,
    taught: Taught,
    groups: Integers,
    training: Mask,
    places: Integers,
    tissue: Callable[[], Tissue],
    arguments: FittingArguments,
) -> Iterator[tuple[str, Floats]]:
    """Fit each method to the training rows, and yield its name and what it says of `places`."""
    from stdistill.models.composition.baselines import predict_nearest
    from stdistill.models.composition.fit import fit_composition
    from stdistill.models.composition.folds import hold_out
    from stdistill.models.composition.model import predict_members

    groupings = [groups, inputs.libraries]
    cells = np.flatnonzero(training)
    for method in dict.fromkeys([arguments["method"], "ridge"]):
        how: FittingArguments = {**arguments, "method": method}
        fitted = fit_composition(rows, taught.values, training, groupings, tissue, how)
        yield method, predict_members(fitted.members, rows, places, device=arguments["accelerator"])[0]
    folds = hold_out(training, groupings, tissue, n=arguments["n_members"], seed=arguments["seed"])
    yield "knn", predict_nearest(rows, taught.values, cells, folds, places, seed=arguments["seed"])
    yield "mean", np.tile(taught.values[cells].mean(axis=0), (len(places), 1))


def _check_groups(
    inputs: CompositionInputs, taught: Taught, groups: Integers, names: Sequence[str], group_key: str
) -> None:
    """Raise unless there are groups that what is left out can be told apart by."""
    if len(names) < 2:
        msg = f".obs[{group_key!r}] holds {list(names)}: expected at least two groups, one to leave out."
        raise ValueError(msg)
    n_scored = np.bincount(groups, weights=inputs.rows.known & taught.known, minlength=len(names))
    if not n_scored.all():
        empty = [name for name, n in zip(names, n_scored, strict=True) if n == 0]
        msg = f"Groups of .obs[{group_key!r}] have no row with both features and abundances: {some(empty)}."
        raise ValueError(msg)
    if ALL_GROUPS in names:
        msg = f"A group of .obs[{group_key!r}] is called {ALL_GROUPS!r}, as the mean over the groups is: rename it."
        raise ValueError(msg)
    marks = pd.Series(mark_cells(inputs.rows.features[0], inputs.centers)[inputs.rows.known])
    n_both = int((pd.Series(groups[inputs.rows.known]).groupby(marks.to_numpy()).nunique() > 1).sum())
    if n_both:
        msg = (
            f"{n_both} rows are in several groups of .obs[{group_key!r}], with the same features at the same place, "
            "such as of a slide that is there twice: what is left out would be learned from. Give each row once."
        )
        raise ValueError(msg)
    graph = inputs.graph
    if graph is not None and (np.repeat(groups, np.diff(graph.indptr)) != groups[graph.indices]).any():
        msg = (
            f"The neighbourhoods join rows of different groups of .obs[{group_key!r}], whose features would be learned "
            f"from. Make them again with sd.pp.neighborhoods(library_key={group_key!r}), or another column that keeps "
            "the groups apart."
        )
        raise ValueError(msg)
    pairs = np.unique(np.column_stack([inputs.libraries, groups]), axis=0)
    if len(pairs) > len(np.unique(inputs.libraries)):
        warn(
            f"Groups of .obs[{group_key!r}] divide a slide: H&E crops at their borders show the same tissue, and "
            "scores are too good. Name the slides with library_key=, or leave out whole slides."
        )


def _in_folder(arguments: FittingArguments, name: str) -> FittingArguments:
    """Keep the checkpoints of each round apart."""
    folder = arguments["checkpoint_dir"]
    return arguments if folder is None else {**arguments, "checkpoint_dir": Path(folder) / name}


def _with_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the mean over groups, as the group "all"."""
    measures: dict[str, Any] = {"cc": "mean", "l1": "mean", "skill": "mean", "n_rows": "sum", "n_undefined": "sum"}
    means = rows.groupby(["method", "type"], sort=False).agg(measures).reset_index().assign(group=ALL_GROUPS)
    together = pd.concat([rows, means], ignore_index=True)
    return together[["method", "group", "type", *measures]]
