"""How much of each cell type is in a place: what composition is learned from, and compared with."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from stdistill._graph.radius_graph import radius_graph
from stdistill._measures.abundances.scores import ALL_TYPES
from stdistill._measures.labels import Labels
from stdistill._support.arrays import Float64s, Mask
from stdistill._support.checks import check_key, check_name, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.abundances import CELL2LOCATION, check_abundances, write_abundances
from stdistill._table.checks import copy_table, find_split_key, get_centers, get_split, get_table, holds_numbers
from stdistill._table.fitting.edges import check_edges
from stdistill._table.graph import NEIGHBORS, graph_radius, graph_split_key, has_graph, read_graph
from stdistill._table.labels import CELL_TYPE_HINT, read_labels
from stdistill._table.libraries import connected_groups, find_library_key, library_codes, warn_of_overlap
from stdistill._table.provenance.results import fingerprint_labels
from stdistill._table.records import find_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

STEP = "abundances"
FEW_ROWS, TOTAL_OFF = 10, 1e-3
"""A column is no type by so many rows at least, in which sums are the same but for so much (our choice)."""
WHOLES = (1.0, 100.0)
"""Sums of shares and of percent."""


class _Neighborhoods(NamedTuple):
    """Who is near whom."""

    graph: csr_matrix
    """(n, n), not 0 for neighbours; nothing on the diagonal."""
    known: Mask
    """(n,), the cells that are in a group; those in a buffer have no neighbours, and have not been asked for any."""
    radius_um: float
    split_key: str | None
    """Column of the split that keeps neighbours apart."""


def abundances(
    data: AnnData | SpatialData,
    *,
    cell_type_key: str | None = None,
    cell2location_key: str | None = None,
    obsm_key: str | None = None,
    radius_um: float | None = None,
    key_added: str = schema.ABUNDANCE,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Write how much of each cell type is in each place, from one of three sources.

    The names of the types go to the record, and numbers alone to ``.obsm``: names such as ``"CAFs MSC/iCAF-like"``
    cannot be columns of a frame on disk. Blanks around names are taken off. :func:`stdistill.get.abundances` returns
    both as a frame.

    Parameters
    ----------
    data
        Table, or SpatialData with a table.
    cell_type_key
        Categorical column of ``.obs`` with the types of cells: each type is counted among a cell and its neighbours,
        those of :func:`stdistill.pp.neighborhoods`. Cells without a type are not counted, and have a neighbourhood like
        any other.
    cell2location_key
        Frame of ``.obsm`` that cell2location wrote: ``"q05_cell_abundance_w_sf"``, or ``"q05"``, ``"means"``,
        ``"stds"``, ``"q95"`` for short.
    obsm_key
        Any other frame in ``.obsm``, with a column for each type: proportions or abundances of stereoscope, RCTD,
        Tangram, CARD. Or an array of which a record names the types.
    radius_um
        Count within this radius, in µm, instead of that of the neighbourhoods, which stay as they are. As there, no
        cells of two slides or of two groups of the split are counted together.
    key_added
        Key of ``.obsm``.
    table_key
        Name of the table of a SpatialData.
    copy
        Return a copy with the results instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obsm[key_added]``
        (n, types) float32: numbers of cells, with the cell itself, or what the source holds. A row with NaN is not
        known: of a cell in the buffer of the split or in none of its groups, with no cell of known type around it, or
        missing in the source.
    ``.obs["{key_added}_mark"]``
        A number for each row, by which rows that were moved or edited are told.
    ``.uns["stdistill"]["abundances"]``
        ``types``, the names of the columns; ``source`` (``"cell_type"``, ``"cell2location"`` or ``"obsm"``) and
        ``source_key``; of counts the ``radius_um``, the ``split_key`` that kept neighbours apart, and a fingerprint of
        the ``labels``.

    Raises
    ------
    KeyError
        When the table, the column, the frame or the neighbourhoods are not there.
    TypeError
        When the column is not categorical, or what is in ``.obsm`` holds no numbers or does not name the types.
    ValueError
        When not exactly one source is given, values are negative or infinite, names are empty or the same but for
        blanks, no row is known, or `radius_um` is given for another source than cells.

    Warns
    -----
    UserWarning
        When cells are counted within `radius_um` and the table seems to hold several slides that lie over one another,
        or a column of a frame seems to be no type: the total of the others, what stands beside shares that sum to one
        without it, or one large number in every row.

    Notes
    -----
    Sun, Zhu and Qiu 2025 (arXiv 2507.07013) learn from cell2location's abundances of spots, and do not say which of
    its four summaries; its own tutorial shows the 5 % quantile. Counts of the cells in a neighbourhood are our choice
    of the same for slides of single cells.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> cells = ad.AnnData(np.zeros((3, 1)), obsm={"spatial": np.array([[0.0, 0], [10, 0], [100, 0]])})
    >>> cells.obs["cell_type"] = ["T", "B", "T"]
    >>> cells.obs["cell_type"] = cells.obs["cell_type"].astype("category")
    >>> sd.pp.abundances(cells, cell_type_key="cell_type", radius_um=20)
    >>> sd.get.abundances(cells)
         B    T
    0  1.0  1.0
    1  1.0  1.0
    2  0.0  1.0
    """
    sources = {"cell_type": cell_type_key, "cell2location": cell2location_key, "obsm": obsm_key}
    given = {f"{name}_key": key for name, key in sources.items() if key is not None}
    if len(given) != 1:
        msg = f"Give one of {', '.join(f'{name}_key=' for name in sources)}; found {given or 'none'}."
        raise ValueError(msg)
    ((source, source_key),) = ((name, key) for name, key in sources.items() if key is not None)
    if radius_um is not None:
        check_positive(radius_um, "radius_um")
        if cell_type_key is None:
            msg = (
                f"radius_um={radius_um} is for counting cells, with cell_type_key=; {source_key!r} has its own places."
            )
            raise ValueError(msg)
    check_name(key_added, "key_added")
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    counted: dict[str, Any] = {}
    if source == "cell_type":
        labels = read_labels(adata, source_key, "cell_type_key", CELL_TYPE_HINT)
        types, what = _clean(labels.names, f".obs[{source_key!r}]"), f"Counts of .obs[{source_key!r}]"
        neighborhoods = _find_neighborhoods(adata, radius_um)
        values = _count(neighborhoods, labels)
        counted = {"radius_um": neighborhoods.radius_um, "split_key": neighborhoods.split_key}
        if schema.SPATIAL in adata.obsm:  # by which cells are told from each other in any order
            counted["labels"] = fingerprint_labels(adata, source_key)
    else:
        key = source_key if source == "obsm" else _find_cell2location(adata, source_key)
        check_key(key, adata.obsm.keys(), "in .obsm", argument=f"{source}_key")
        types, what = _read_types(adata, key), f".obsm[{key!r}]"
        values, source_key = _read_values(adata.obsm[key], what), key
        _warn_of_totals(values, types, what)
    check_abundances(values, types, what)
    known: Mask = np.logical_not(np.isnan(values).any(axis=1))
    if not known.any():
        msg = f"{what} is not known in full for any of the {len(known)} rows: each has a NaN."
        raise ValueError(msg)
    write_abundances(adata, STEP, key_added, values, types, source=source, source_key=source_key, **counted)
    logger.info('Wrote .obsm["%s"]: %d types, known in %d of %d rows.', key_added, len(types), known.sum(), len(known))
    return data if copy else None


def _find_neighborhoods(adata: AnnData, radius_um: float | None) -> _Neighborhoods:
    """Return the neighbourhoods in the table, or, of another radius, such as they would be."""
    split_key = find_split_key(adata, graph_split_key(adata) if has_graph(adata) else schema.SPLIT)
    split = get_split(adata, split_key)
    if radius_um is None or radius_um == adata.uns.get(NEIGHBORS, {}).get("params", {}).get("radius"):
        graph, radius_um = read_graph(adata), graph_radius(adata)
        known = connected_groups(np.zeros(adata.n_obs, dtype=np.int64), split) >= 0
        if schema.SPATIAL in adata.obsm:
            check_edges(adata, graph, split, None, known)
        return _Neighborhoods(graph, known, radius_um, split_key)
    centers = get_centers(adata)
    library_key = find_library_key(adata, None)
    if library_key is None:
        advice = "Their cells are counted together. Name the slides in a column for sd.pp.neighborhoods(library_key=)."
        warn_of_overlap(adata, centers, advice)
    groups = connected_groups(library_codes(adata, library_key), split)
    return _Neighborhoods(radius_graph(centers, radius_um, groups)[0], groups >= 0, float(radius_um), split_key)


def _count(neighborhoods: _Neighborhoods, labels: Labels) -> npt.NDArray[np.float32]:
    """Count the types (n, types) among each cell and its neighbours; NaN where there are none to count."""
    graph = neighborhoods.graph
    if (graph.data != 1).any():  # weights of neighbours, which are counted all the same
        graph = csr_matrix(((graph.data != 0).astype(np.float32), graph.indices, graph.indptr), shape=graph.shape)
    one_hot = (labels.codes[:, None] == np.arange(len(labels.names))).astype(np.float32)
    counts: npt.NDArray[np.float32] = np.asarray(graph @ one_hot, dtype=np.float32)
    counts += one_hot
    counts[~neighborhoods.known | (counts.sum(axis=1) == 0)] = np.nan
    return counts


def _find_cell2location(adata: AnnData, key: str) -> str:
    """Name the frame that is meant by its key or by its summary alone."""
    found = [str(name) for name in adata.obsm.keys() if str(name).endswith(CELL2LOCATION)]  # noqa: SIM118 (not a dict)
    if f"{key}_{CELL2LOCATION}" in found:
        return f"{key}_{CELL2LOCATION}"
    hint = "Write them with cell2location's export_posterior, or name any other frame with obsm_key=."
    check_key(key, found, "abundances of cell2location in .obsm", argument="cell2location_key", hint=hint)
    return key


def _read_types(adata: AnnData, key: str) -> list[str]:
    """Name the columns of what is in ``.obsm``, without what cell2location puts before each name."""
    stored = adata.obsm[key]
    if isinstance(stored, pd.DataFrame):
        names = [re.sub(rf"^\w*?{CELL2LOCATION}_", "", str(name)) for name in stored.columns]
        return _clean(names, f".obsm[{key!r}]")
    recorded = find_record(adata, schema.ABUNDANCE_STEPS, key)[1].get("types", ())
    factors = adata.uns.get("mod", {}).get("factor_names", ()) if key.endswith(CELL2LOCATION) else ()
    names = [str(name) for name in (recorded if len(recorded) else factors)]
    if getattr(stored, "ndim", 0) != 2 or len(names) != stored.shape[1]:
        msg = (
            f".obsm[{key!r}] is a {type(stored).__name__} of shape {getattr(stored, 'shape', None)}, and nothing names "
            "the type of each column. Make it a frame: "
            f"adata.obsm[{key!r}] = pd.DataFrame(values, index=adata.obs_names, columns=types)."
        )
        raise TypeError(msg)
    return _clean(names, f".obsm[{key!r}]")


def _read_values(stored: Any, what: str) -> npt.NDArray[np.float32]:
    """Return what is in ``.obsm`` as numbers."""
    is_frame = isinstance(stored, pd.DataFrame)
    if is_frame:
        wrong = [str(name) for name, dtype in stored.dtypes.items() if not holds_numbers(dtype)]
    else:
        wrong = [] if not issparse(stored) and holds_numbers(stored.dtype) else ["all"]
    if wrong:
        msg = f"{what} holds no numbers in {wrong[:5]}; expected an abundance of each type, in a dense frame or array."
        raise TypeError(msg)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return stored.to_numpy(dtype=np.float32, na_value=np.nan) if is_frame else np.array(stored, dtype=np.float32)


def _warn_of_totals(values: npt.NDArray[np.float32], types: Sequence[str], what: str) -> None:
    """Warn of a column that is no type: the total of the others, what stands beside shares, or a constant number."""
    known = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    if len(known) < FEW_ROWS or len(types) <= 2:
        return
    sums = known.sum(axis=1)
    others = sums[:, None] - known
    are_same = _is_constant(others) & others.any(axis=0)
    is_total = np.isclose(known, others, rtol=TOTAL_OFF).all(axis=0)
    is_beside_shares = are_same & (~_is_constant(sums) | _is_whole(others.mean(axis=0)))
    is_share = _is_constant(sums) & _is_whole(sums.mean())
    is_large_constant = _is_constant(known) & (known > 2 * others).all(axis=0) & ~is_share
    matters = known.max(axis=0) > 2 * TOTAL_OFF * others.mean(axis=0)
    odd = matters & (is_total | is_beside_shares | is_large_constant)
    found = [name for name, is_odd in zip(types, odd, strict=True) if is_odd]
    if len(found) == 1:
        warn(
            f"{what} has the column {found[0]!r}, which seems to be no type: it is the sum of the others in every row, "
            "or these have the same sum in every row without it, or it is one number that is larger than they are. It "
            f"is learned and scored like a type: take it out, frame.drop(columns={found[0]!r}), and run "
            "sd.pp.abundances again."
        )


def _is_constant(values: Float64s) -> npt.NDArray[np.bool_]:
    """Tell which columns are the same in every row."""
    return np.asarray(np.ptp(values, axis=0) <= TOTAL_OFF * values.mean(axis=0))


def _is_whole(sums: Float64s) -> npt.NDArray[np.bool_]:
    """Tell which sums are those of shares, or of percent."""
    return np.asarray(np.logical_or.reduce([np.isclose(sums, whole, rtol=TOTAL_OFF) for whole in WHOLES]))


def _clean(names: Sequence[str], what: str) -> list[str]:
    """Take blanks off the names of types, each of which must be left, and differ from the others."""
    types = [name.strip() for name in names]
    wrong = sorted({name for name in types if types.count(name) > 1 or not name or name == ALL_TYPES})
    if wrong or not types:
        msg = (
            f"{what} names its types {list(names)}: {wrong or 'none'} after blanks were taken off. Give each type a "
            f"name of its own, which is not {ALL_TYPES!r}: scores call all types that."
        )
        raise ValueError(msg)
    return types
