"""What a table has to hold: each check says what was found, what was expected and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from stdistill._slide.pyramid import is_same_mpp
from stdistill._support.arrays import Rows
from stdistill._support.checks import READ_AGAIN, check_finite, check_key, check_list, check_sparse
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.marks.labels import warn_of_other_labels
from stdistill._table.marks.rows import check_rows
from stdistill._table.records import read_record, records_of

if TYPE_CHECKING:
    from spatialdata import SpatialData

Data = TypeVar("Data")
CONTROLS = r"NegControl|UnassignedCodeword|DeprecatedCodeword|(?i:blank)[-_]|NegPrb|Negative\d|SystemControl|FalseCode"
"""How Xenium, MERSCOPE and CosMx call what is no gene, at the beginning of its name."""
GROUPS = {schema.TRAIN, schema.TEST, schema.BUFFER}
"""Of a split."""
MEANT = {"training", "testing"}
"""What others call groups of a split."""
CHUNK = 2**24
"""Values whose being counts is checked at a time."""


def as_slides(data: Data | Sequence[Data]) -> list[Data]:
    """Return one slide or several as a list, of which there must be some."""
    if isinstance(data, Mapping | Iterator):
        call = "list(slides.values())" if isinstance(data, Mapping) else "list(slides)"
        msg = f"Expected an AnnData or a SpatialData, or a list of them, found {type(data).__name__}. Give {call}."
        raise TypeError(msg)
    slides = cast("list[Data]", list(data) if isinstance(data, list | tuple) else [data])
    if not slides:
        msg = "The list of slides is empty."
        raise ValueError(msg)
    return slides


def get_table(data: AnnData | SpatialData, table_key: str) -> AnnData:
    """Return the table of `data`, which is `data` itself when it is an AnnData."""
    if isinstance(data, AnnData):
        return _sound(data)
    if not is_spatialdata(data):
        if isinstance(data, (str, os.PathLike)):
            msg = (
                f"Expected an AnnData or a SpatialData, found the path {os.fspath(data)!r}: read it first, with "
                "sd.pp.read_slide, sd.pp.read_xenium, spatialdata.read_zarr or anndata.read_h5ad."
            )
            raise TypeError(msg)
        msg = f"Expected an AnnData or a SpatialData, found {type(data).__name__}."
        raise TypeError(msg)
    check_key(table_key, data.tables, "a table of the SpatialData", argument="table_key")
    return _sound(data.tables[table_key])


def _sound(table: AnnData) -> AnnData:
    """Raise when a column of ``.obs`` is there twice, which could not be written, or its rows are of other cells."""
    if not isinstance(table.obs, pd.DataFrame):
        msg = (
            f".obs is a {type(table.obs).__name__}, as of a table that anndata.experimental.read_lazy left on disk; "
            "expected one in memory: adata = adata.to_memory()."
        )
        raise TypeError(msg)
    columns = table.obs.columns
    if not columns.is_unique:
        twice = columns[columns.duplicated()].unique()
        msg = (
            f".obs has the column {twice[0]!r} {(columns == twice[0]).sum()} times, as pd.concat(axis=1) makes it: it "
            "cannot be told which is meant. Rename all but one, or keep the last of each: "
            'adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated(keep="last")].'
        )
        raise ValueError(msg)
    check_rows(table)
    return table


def is_spatialdata(data: object) -> bool:
    """Whether `data` is a SpatialData; its package is imported only when it is not an AnnData."""
    if isinstance(data, AnnData):
        return False
    from spatialdata import SpatialData

    return isinstance(data, SpatialData)


def copy_table(data: AnnData | SpatialData, table_key: str) -> AnnData | SpatialData:
    """Return `data` with a table of its own; the elements of a SpatialData, which may be huge, are shared."""
    table = get_table(data, table_key)
    if table.isbacked:
        msg = (
            f"copy=True of a table on disk (backed, {table.filename}) would need another file: read it into memory "
            "first, adata = adata.to_memory(), or leave copy=True out, which changes nothing on disk."
        )
        raise ValueError(msg)
    if isinstance(data, AnnData):
        return table.copy()
    return share_elements(data, **{table_key: table.copy()})


def share_elements(sdata: SpatialData, **replaced: Any) -> SpatialData:
    """Return a SpatialData with the elements of another, which may be huge, but for those that are `replaced`."""
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements({**elements, **replaced}, attrs=dict(sdata.attrs))


def get_sdata(data: AnnData | SpatialData, table_key: str) -> SpatialData:
    """Return `data`, which must be able to hold an H&E."""
    if is_spatialdata(data):
        return data
    get_table(data, table_key)  # raises when it is no AnnData, either
    msg = (
        "An AnnData holds no image: pass the SpatialData with the H&E, as sd.pp.read_xenium and sd.pp.read_slide "
        "return it."
    )
    raise TypeError(msg)


def held_beside(table: AnnData, own_obs: Iterable[str]) -> list[str]:
    """Name what a table of outlines holds beside its centres and its own columns: what was made of it since."""
    parts = {
        "obs": set(table.obs) - set(own_obs),
        "obsm": set(table.obsm) - {schema.SPATIAL},
        "obsp": set(table.obsp),
        "layers": {key for key in table.layers if key is not None},  # anndata 0.13 has .X among them
    }
    return [f".{part}[{key!r}]" for part, keys in parts.items() for key in sorted(map(str, keys))]


def check_one_model(adata: AnnData, key: str) -> None:
    """Raise when the result under a key is of several models, as in tables that were concatenated."""
    column = f"{key}{schema.MODEL_SUFFIX}"
    found = [] if column not in adata.obs else sorted(map(str, adata.obs[column].dropna().unique()))
    if len(found) > 1:
        msg = (
            f"{key!r} is of {len(found)} models in this table (.obs[{column!r}]: {', '.join(map(repr, found[:3]))}), "
            "as after tables were concatenated: they have names in common, and nothing else. Apply one model to all of "
            "the cells, fit one to all, or choose the cells of one: "
            f"adata[adata.obs[{column!r}] == {found[0]!r}].copy()."
        )
        raise ValueError(msg)


def check_one_mpp(adata: AnnData, key: str) -> None:
    """Raise when H&E features were computed at several scales, as in tables that were concatenated."""
    column = f"{key}{schema.MPP_SUFFIX}"
    if column not in adata.obs or not adata.obs[column].notna().any():
        return
    low, high = float(adata.obs[column].min()), float(adata.obs[column].max())
    if not is_same_mpp(low, high):
        msg = (
            f"The features .obsm[{key!r}] were computed at {low:.4g} to {high:.4g} µm per pixel (.obs[{column!r}]), as "
            "after tables were concatenated: cells look otherwise at another scale. Compute them anew, all with one "
            "sd.pp.embed_he(mpp=...)."
        )
        raise ValueError(msg)


def where_else(adata: AnnData, name: object, what: str = "cells") -> str:
    """Say which column holds a name that is none of the table's, as an id of Xenium Explorer's; else nothing."""
    for key, column in adata.obs.items():
        if not pd.api.types.is_numeric_dtype(column.dtype) and (column == name).any():
            return f" .obs[{key!r}] holds it: give names such as adata.obs_names[adata.obs[{key!r}].isin({what})]."
    return ""


def find_rows(adata: AnnData, cells: Sequence[str], what: str = "cells") -> Rows:
    """Return the rows of the cells with these names, which must be there, and once each; or of `what` else they are."""
    names = adata.obs_names
    known = ", ".join(map(repr, names[:3]))
    check_list(cells, what)
    wanted = pd.Index(cells)
    if pd.api.types.is_bool_dtype(wanted) or pd.api.types.is_numeric_dtype(wanted):
        kind = "True and False" if pd.api.types.is_bool_dtype(wanted) else "numbers"
        msg = f"{what} must be a list of names, such as {known}; found {kind}. Give adata.obs_names[…] of these."
        raise TypeError(msg)
    if len(missing := wanted.difference(names, sort=False)):
        msg = f"{len(missing)} of the {what} are not in the table, such as {missing[0]!r}; its {what} are {known}, …"
        raise KeyError(msg + where_else(adata, missing[0], what))
    if len(repeated := wanted.intersection(names[names.duplicated()], sort=False)):
        msg = (
            f"{(names == repeated[0]).sum()} {what} go by the name {repeated[0]!r}: it cannot be told which is meant. "
            "Make the names unique with adata.obs_names_make_unique()."
        )
        raise ValueError(msg)
    first = np.flatnonzero(~names.duplicated())
    rows: Rows = first[names[first].get_indexer(wanted)]
    return rows


def holds_numbers(dtype: Any) -> bool:
    """Whether a column of this type holds numbers to compare, which True and False are not."""
    return bool(
        pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and not pd.api.types.is_complex_dtype(dtype)
    )


def get_centers(adata: AnnData) -> npt.NDArray[np.float64]:
    """Return the cell centres (n, 2) in µm, checked to be there and finite."""
    if adata.n_obs == 0:
        msg = "The table has no cells. Check the filters applied to it, or read the slide again."
        raise ValueError(msg)
    if schema.SPATIAL not in adata.obsm:
        msg = (
            f'There is no .obsm["{schema.SPATIAL}"], where cell centres in µm are expected: read the slide with '
            "sd.pp.read_xenium, or set it."
        )
        raise KeyError(msg)
    found = adata.obsm[schema.SPATIAL]
    names = [str(name).lower() for name in found.columns] if isinstance(found, pd.DataFrame) else []
    if len(names) == 2 and "y" in names[0] and "y" not in names[1]:
        msg = (
            f'.obsm["{schema.SPATIAL}"] has the columns {list(found.columns)}; expected x first, then y: '
            f'adata.obsm["{schema.SPATIAL}"] = adata.obsm["{schema.SPATIAL}"].iloc[:, ::-1].to_numpy().'
        )
        raise ValueError(msg)
    centers = np.asarray(found)
    if centers.ndim != 2 or centers.shape[1] != 2:
        msg = f'.obsm["{schema.SPATIAL}"] has shape {centers.shape}; expected (n_cells, 2): x and y in µm.'
        raise ValueError(msg)
    if not np.issubdtype(centers.dtype, np.floating) and not np.issubdtype(centers.dtype, np.integer):
        msg = f'.obsm["{schema.SPATIAL}"] holds {centers.dtype}; expected numbers: x and y in µm.'
        raise ValueError(msg)
    advice = 'Remove them first, for example adata[np.isfinite(adata.obsm["spatial"]).all(axis=1)].copy().'
    check_finite(centers, adata.obs_names.to_numpy(), advice)
    return centers.astype(np.float64)


def get_library_codes(adata: AnnData, library_key: str) -> npt.NDArray[np.integer]:
    """Give each cell the number of its slide; every cell must have one."""
    check_key(library_key, adata.obs.columns, "a column of .obs", argument="library_key")
    codes: npt.NDArray[np.integer] = pd.factorize(adata.obs[library_key])[0]
    if (codes < 0).any():
        msg = f".obs[{library_key!r}] names no slide for {(codes < 0).sum()} cells: fill it in, or remove them."
        raise ValueError(msg)
    return codes


def find_split_key(adata: AnnData, split_key: str | None) -> str | None:
    """Name the column of the split: the default one need not be there, or goes by the name it was written under."""
    if split_key != schema.SPLIT or split_key in adata.obs:
        return split_key
    written = [record.get("key_added") for _, record in records_of(adata, ["split_strips"])]
    found = [str(key) for key in written if key in adata.obs]
    if len(found) > 1:
        msg = f"There are several splits in .obs: {', '.join(map(repr, sorted(found)))}. Name one with split_key=."
        raise ValueError(msg)
    return found[0] if found else None


def get_split(adata: AnnData, split_key: str | None) -> pd.Series | None:
    """Return the column of the split, as `find_split_key` names it; `None` without one."""
    asked, split_key = split_key, find_split_key(adata, split_key)
    if split_key is None:
        if asked is not None and read_record(adata, "split_strips"):
            warn(
                f'The split that sd.pp.split_strips wrote to .obs["{schema.SPLIT}"] is not there any more: it was '
                "taken away, or renamed, as split_x by a merge. All cells count as one group, those that were for "
                "testing, too. Name the column with split_key=, or give split_key=None where none is meant."
            )
        return None
    check_key(
        split_key,
        adata.obs.columns,
        "a column of .obs",
        argument="split_key",
        hint="Write one with sd.pp.split_strips, or give split_key=None.",
    )
    warn_of_other_labels(adata, split_key, split_key)
    split: pd.Series = adata.obs[split_key].astype(object)
    meant = {str(word) for word in split.dropna().unique() if str(word).strip().lower() in GROUPS | MEANT} - GROUPS
    if meant:
        msg = f".obs[{split_key!r}] holds {sorted(meant)}; the groups of a split are written {sorted(GROUPS)}."
        raise ValueError(msg)
    return split.where(split.notna(), None)


def get_counts(adata: AnnData, layer: str | None, who: str) -> Any:
    """Return raw counts (n, genes), checked to be counts: CSR or an array, shared with the table where it is either.

    Parameters
    ----------
    adata
        The table.
    layer
        Layer of the counts; `None`: ``.X``.
    who
        Who asks, for messages, with its verb: ``"scVI needs"``.
    """
    names = [key for key in adata.layers if key is not None]  # from anndata 0.13 on, None stands for .X among them
    if layer is not None:
        check_key(layer, names, "a layer of the table", argument="layer")
    matrix = adata.X if layer is None else adata.layers[layer]
    name = ".X" if layer is None else f".layers[{layer!r}]"
    hint = _where_counts_may_be(adata, names)
    if matrix is None:
        msg = f"The table has no .X: {hint}"
        raise ValueError(msg)
    matrix = AnnData(matrix).to_memory().X  # reads what is on disk, and shares what is in memory
    check_sparse(matrix, name, READ_AGAIN)
    counts: Any = csr_matrix(matrix) if issparse(matrix) else np.asarray(matrix)
    values: npt.NDArray[Any] = counts.data if issparse(counts) else counts.ravel(order="K")
    if values.dtype.kind not in "iuf":
        msg = f"{name} holds {values.dtype}, and {who} raw counts: {hint}"
        raise ValueError(msg)
    for start in range(0, values.size, CHUNK):
        chunk = values[start : start + CHUNK]
        is_count = np.isfinite(chunk) & (chunk >= 0) & (chunk == np.floor(chunk))
        if not is_count.all():
            found = chunk[~is_count][0]
            kind = "normalised or log-transformed" if np.isfinite(found) and found > 0 else "scaled or spoilt"
            msg = f"{name} holds {found:g}, which is no count; the values look {kind}. {who} raw counts: {hint}"
            raise ValueError(msg)
    _warn_of_controls(adata)
    return counts


def _warn_of_controls(adata: AnnData) -> None:
    """Warn of probes that bind nothing, and codewords of none, which readers of a platform's own leave out."""
    controls = adata.var_names[adata.var_names.str.match(CONTROLS)]
    if len(controls):
        shown = ", ".join(map(repr, controls[:3])) + (", …" if len(controls) > 3 else "")
        warn(
            f"{len(controls)} of the {adata.n_vars} genes are controls by their names ({shown}), and count as genes. "
            f"Leave them out: adata = adata[:, ~adata.var_names.str.match({CONTROLS!r})].copy()."
        )


def _where_counts_may_be(adata: AnnData, layers: Sequence[str]) -> str:
    """Say where else raw counts may be: in a layer, or in ``.raw``, where scanpy's users keep what was there before."""
    named = ", ".join(map(repr, layers))
    if adata.raw is not None and adata.var_names.isin(adata.raw.var_names).all():
        beside = f", or name another layer; there is: {named}" if named else ""
        return (
            '.raw may hold them. Make a layer of it and name that, layer="counts": '
            f'adata.layers["counts"] = adata.raw[:, adata.var_names].X{beside}.'
        )
    if named:
        return f"name the layer with raw counts in layer=; there is: {named}."
    return "there is no layer either that layer= could name. Read the slide again, and keep its raw counts."
