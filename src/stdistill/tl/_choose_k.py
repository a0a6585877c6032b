"""How stable the teacher's niches are for each number of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._measures.stability import agreement_of, summarise
from stdistill._support.checks import check_integer, check_key
from stdistill._table import schema
from stdistill._table.checks import find_split_key, get_centers, get_library_codes, get_split, get_table
from stdistill._table.fitting.results import check_ks
from stdistill._table.graph import NEIGHBORS, graph_key
from stdistill._table.labels import ALL_CELLS
from stdistill._table.libraries import find_library_key
from stdistill._table.marks.rows import mark_column
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.results import stands_on
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

Codes = npt.NDArray[np.integer[Any]]

COLUMNS = ("k", "ari_runs", "ari_runs_min", "ari_runs_max", "ari_neighbors", "occupied_niches")
OWN_ARGUMENTS = frozenset({"k", "key_added", "checkpoint_dir"})
"""Of `sd.tl.nolan`, which are set here."""


def choose_k(
    data: AnnData | SpatialData,
    *,
    ks: Iterable[int] = range(5, 31),
    n_runs: int = 3,
    use_rep: str = schema.EXPRESSION_LATENT,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    seed: int = 0,
    table_key: str = schema.TABLE,
    **teacher: Any,
) -> pd.DataFrame:
    """Measure how stable the teacher's niches are, for each number of them, over runs and against the next numbers.

    For every k, `n_runs` teachers are fitted that differ in their seed, and the adjusted Rand index (ARI) between what
    they call the training cells is taken. It takes as long as ``len(ks) * n_runs`` calls of :func:`stdistill.tl.nolan`:
    by default 78. Fewer or coarser `ks` (``(5, 10, 15, 20)``) and a small ``max_epochs`` give a first look.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with features and neighbourhoods.
    ks
        Numbers of niches, each at least 2.
    n_runs
        Teachers for each of them, at least 2.
    use_rep, split_key, library_key
        As of :func:`stdistill.tl.nolan`.
    seed
        Of the first teacher; the others have the numbers after it.
    table_key
        Name of the table of a SpatialData.
    **teacher
        Further arguments of :func:`stdistill.tl.nolan`, such as ``max_epochs``, ``size`` or ``accelerator``.

    Returns
    -------
    One row per ``k``:

    ``ari_runs``, ``ari_runs_min``, ``ari_runs_max``
        Mean, least and largest ARI between two runs of k.
    ``ari_neighbors``
        Mean ARI between the runs of k and those of the numbers before and after it in `ks`; NaN when it has none.
    ``occupied_niches``
        Mean number of niches that have training cells.

    The same is written to ``.uns["stdistill"]["choose_k"]``, with the parameters; no niches are.

    Raises
    ------
    KeyError
        When the table, the features, the neighbourhoods, `split_key` or `library_key` are not there.
    TypeError
        When `teacher` has an argument that is set here (``k``, ``key_added``, ``checkpoint_dir``), or that
        :func:`stdistill.tl.nolan` does not know.
    ValueError
        When `ks` is empty, a number is out of range, or there are fewer training cells than niches.
    RuntimeError
        When the niches of a run collapse into one.

    Notes
    -----
    Our choice; Hizmi et al. 2026 take 10 and 20 as given. It is the training cells that are compared, although
    agreement is easier on them than elsewhere: the test strip is what results are reported on, and a k that was chosen
    there would be chosen to make them look good.

    No k is suggested. Runs of few niches agree more easily than runs of many, so that the largest agreement is no rule;
    and where the agreement rises above that of the numbers beside it, compare by how much with the span from
    ``ari_runs_min`` to ``ari_runs_max``: with few runs, chance does the same. Niches that stay empty tell that k is
    more than the teacher can tell apart.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_scVI"] = np.c_[adata.obsm["spatial"] // 150, rng.normal(size=(300, 6))].astype("float32")
    >>> sd.pp.neighborhoods(adata, n_neighbors=20)
    >>> stability = sd.tl.choose_k(adata, ks=(2, 4), n_runs=2, width=16, depth=1, max_epochs=1)
    >>> stability["k"].tolist()
    [2, 4]
    """
    numbers = sorted(check_ks(ks))
    check_integer(n_runs, "n_runs", minimum=2)
    check_integer(seed, "seed", minimum=0)
    taken = sorted(OWN_ARGUMENTS & set(teacher))
    if taken:
        msg = f"{taken} cannot be given: sd.tl.choose_k fits many teachers, and sets {sorted(OWN_ARGUMENTS)} itself."
        raise TypeError(msg)
    adata = get_table(data, table_key)
    table = _inputs(adata, use_rep, split_key, find_library_key(adata, library_key))
    check_features_unseen(adata, use_rep, split_key)
    split = schema.SPLIT if schema.SPLIT in table.obs else None
    training = np.ones(table.n_obs, dtype=bool) if split is None else (table.obs[split] == schema.TRAIN).to_numpy()
    if training.sum() < numbers[-1]:
        msg = f"{training.sum()} training cells are too few for k={numbers[-1]} niches: leave it out of ks."
        raise ValueError(msg)
    options = {"progress_bar": False, **teacher, "use_rep": use_rep, "split_key": split, "library_key": library_key}
    runs: list[Codes] = []
    within, across, occupied = [], [], []
    for done, k in enumerate(numbers, start=1):
        before, runs = runs, [_fit(table, training, k=k, seed=seed + run, **options) for run in range(n_runs)]
        within.append(agreement_of(combinations(runs, 2)))
        across.append(agreement_of(product(before, runs)))
        occupied.append(float(np.mean([len(np.unique(codes)) for codes in runs])))
        logger.info("k=%d (%d of %d): mean ARI between runs %.2f.", k, done, len(numbers), np.mean(within[-1]))
    result = summarise(numbers, within, across, occupied)
    write_record(
        adata,
        schema.CHOOSE_K,
        **{column: result[column].to_numpy() for column in COLUMNS},
        n_runs=n_runs,
        use_rep=use_rep,
        split_key=find_split_key(adata, split_key),
        library_key=find_library_key(adata, library_key),
        seed=seed,
        cells=ALL_CELLS if split is None else schema.TRAIN,
        **stands_on(adata, use_rep, graph=True),
        teacher={name: value for name, value in teacher.items() if isinstance(value, bool | int | float | str)},
    )
    logger.info('Wrote .uns["%s"]["%s"].', schema.RECORD, schema.CHOOSE_K)
    return result


def _inputs(adata: AnnData, use_rep: str, split_key: str | None, library_key: str | None) -> AnnData:
    """Make a table of what a teacher is fitted on, which shares its arrays, for the niches to be written to."""
    get_centers(adata)
    check_key(use_rep, adata.obsm.keys(), "features in .obsm", argument="use_rep", hint="Run sd.pp.embed_expression.")
    graph = graph_key(adata)
    marks = [name for key in (use_rep, schema.SPATIAL) if (name := mark_column(key)) in adata.obs]
    columns = {name: adata.obs[name] for name in marks}
    split = get_split(adata, split_key)
    if split is not None:
        columns[schema.SPLIT] = split
    if library_key is not None:
        get_library_codes(adata, library_key)
        columns[library_key] = adata.obs[library_key]
    return AnnData(
        obs=pd.DataFrame(columns, index=adata.obs_names),
        obsm={key: adata.obsm[key] for key in (schema.SPATIAL, use_rep)},
        obsp={graph: adata.obsp[graph]},
        uns={name: dict(adata.uns[name]) for name in (NEIGHBORS, schema.RECORD) if name in adata.uns},
    )


def _fit(table: AnnData, cells: npt.NDArray[np.bool_], **options: Any) -> Codes:
    """Fit a teacher and return the niches of those of the cells that have one."""
    from stdistill.tl._nolan import nolan

    with _quietly():
        nolan(table, **options)
    codes: Codes = table.obs[f"{schema.TEACHER}_niche"].cat.codes.to_numpy()[cells]
    return codes[codes >= 0]


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what each teacher says of its niches; they go into the result."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*niches are empty.*")
            yield
    finally:
        logger.setLevel(level)
