"""Which slide each cell of a table is on; whether slides were put into one frame, one over the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Floats, Integers
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import get_library_codes
from stdistill._table.graph import graph_library_key

logger = logging.getLogger("stdistill")

MOST_SLIDES = 50
"""Names of more groups than this, or with fewer cells in each than the next, do not name slides."""
FEWEST_CELLS = 20
ROWS_LOOKED_AT = 1000
"""Of most columns, a few rows show that they name no slides."""
CELLS_PER_BIN = 4
"""Groups of cells are compared by the square bins that they have cells in."""
SAME_PLACE = 0.5
"""Groups that share a larger part of the bins of one of them lie over one another."""


def find_library_key(adata: AnnData, library_key: str | None) -> str | None:
    """Name the column of the slides: the given one, else that of the neighbourhoods, else that of several regions."""
    return library_key or graph_library_key(adata) or several_regions(adata)


def several_regions(adata: AnnData) -> str | None:
    """Name the column of the regions when the table annotates several; they are different slides."""
    region_key = adata.uns.get("spatialdata_attrs", {}).get("region_key")
    if region_key in adata.obs and adata.obs[region_key].nunique() > 1:
        logger.info("The table annotates several regions: .obs[%r] is taken as library_key.", region_key)
        return str(region_key)
    return None


def library_codes(adata: AnnData, library_key: str | None) -> Integers:
    """Give each cell the number of its slide: one for all when they are not told apart."""
    if library_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    return get_library_codes(adata, library_key)


def connected_groups(libraries: Integers, split: pd.Series | None) -> Integers:
    """Give each group within which cells may be neighbours a number; -1 for cells of none, such as the buffer's."""
    if split is None:
        return libraries
    codes, names = pd.factorize(split)
    groups = libraries * len(names) + codes
    groups[(codes < 0) | (split == schema.BUFFER).to_numpy()] = -1
    return groups


def warn_of_overlap(adata: AnnData, centers: Floats, consequence: str) -> None:
    """Warn when the table seems to hold several slides in one frame, and say what comes of that."""
    for name, codes in _possible_slides(adata):
        if _tells_slides(codes) and (shared := _shared_place(centers, codes)) > SAME_PLACE:
            warn(
                f"The table seems to hold {codes.max() + 1} slides that lie over one another: by {name}, one has cells "
                f"in {shared:.0%} of the place of another. {consequence}"
            )
            return


def _possible_slides(adata: AnnData) -> Iterator[tuple[str, Integers]]:
    """Yield what could tell slides apart: columns whose groups come in turn, names that are repeated or look alike."""
    some = slice(None, None, max(1, adata.n_obs // ROWS_LOOKED_AT))
    for key, column in adata.obs.items():
        may_be_names = not pd.api.types.is_float_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
        if may_be_names and _come_in_turn(pd.factorize(column.iloc[some])[0]):
            codes = pd.factorize(column)[0]
            if _come_in_turn(codes):
                yield f".obs[{key!r}]", codes
    names = pd.Series(adata.obs_names.astype(str))
    if not adata.obs_names.is_unique:
        yield "cells with repeated .obs_names", names.groupby(names).cumcount().to_numpy()
    for part, pattern in (("ends", r"[-_]([^-_]*)$"), ("beginnings", r"^([^-_]*)[-_]")):
        if _tells_slides(pd.factorize(names.iloc[some].str.extract(pattern, expand=False))[0]):
            yield f"the {part} of .obs_names", pd.factorize(names.str.extract(pattern, expand=False))[0]


def _come_in_turn(codes: Integers) -> bool:
    """Whether each group has all of its cells one after the other, as tables that were concatenated do."""
    return bool((codes >= 0).all() and np.count_nonzero(np.diff(codes)) == codes.max(initial=0) > 0)


def _tells_slides(codes: Integers) -> bool:
    n_groups = int(codes.max(initial=-1)) + 1
    return bool((codes >= 0).all() and 2 <= n_groups <= min(MOST_SLIDES, len(codes) // FEWEST_CELLS))


def _shared_place(centers: Floats, codes: Integers) -> float:
    """Return the largest share of the bins of a group that another one has cells in as well."""
    low, high = np.quantile(centers, (0.01, 0.99), axis=0)  # a stray cell must not blow the bins up
    side = float(np.sqrt(np.prod(high - low) * CELLS_PER_BIN / len(centers))) or 1.0
    squares = np.floor((centers - low) / side).astype(np.int64)
    occupied = np.unique(np.column_stack([codes, squares]), axis=0)
    place = np.unique(occupied[:, 1:], axis=0, return_inverse=True)[1].reshape(-1)
    has_cells = np.zeros((place.max() + 1, codes.max() + 1), dtype=np.float32)
    has_cells[place, occupied[:, 0]] = 1
    shared = has_cells.T @ has_cells
    sizes = shared.diagonal().copy()
    np.fill_diagonal(shared, 0)
    return float((shared / np.minimum.outer(sizes, sizes)).max())
