from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stdistill._table import checks


def test_get_table_of_something_else() -> None:
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData, found dict"):
        checks.get_table({}, "table")  # type: ignore[arg-type]


def test_get_table_lists_the_tables(make_slide: Callable) -> None:
    with pytest.raises(KeyError, match=r"table_key='cells' is not a table .* there is: 'table'"):
        checks.get_table(make_slide(), "cells")


def test_copy_table_shares_elements_not_the_table(make_slide: Callable) -> None:
    slide = make_slide()
    copied = checks.copy_table(slide, "table")
    copied["table"].obs["new"] = 1
    assert "new" not in slide["table"].obs
    assert copied["he"] is slide["he"]


def test_centers_are_checked(make_cells: Callable) -> None:
    cells = make_cells(3)
    assert checks.get_centers(cells).dtype == np.float64
    with pytest.raises(ValueError, match="has no cells"):
        checks.get_centers(cells[:0])
    cells.obsm["spatial"][1, 0] = np.inf
    with pytest.raises(ValueError, match=r"1 of 3 cells have a NaN or infinite centre \(cell-1\)\. Remove them"):
        checks.get_centers(cells)
    cells.obsm["spatial"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 3\); expected \(n_cells, 2\)"):
        checks.get_centers(cells)
    del cells.obsm["spatial"]
    with pytest.raises(KeyError, match=r"sd\.pp\.read_xenium"):
        checks.get_centers(cells)
