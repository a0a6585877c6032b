"""What teaches, of several tables."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd

from stdistill._table.fitting.targets import read_targets


def test_whole_numbers_that_became_floating_point(make_cells: Callable[..., ad.AnnData]) -> None:
    """As a column of clusters does where one is missing: 1.0 is the 1 of the other table, with its colour."""
    one = make_cells(3, cluster=pd.Categorical([1, 2, 1]))
    other = make_cells(3, cluster=pd.Categorical([2.0, np.nan, 3.5]))
    other.uns["cluster_colors"] = ["#000002", "#000003"]
    found = read_targets([one, other], "cluster", 2)
    assert found.niches == ["1", "2", "3.5"]
    assert found.values.tolist() == [0, 1, 0, 1, -1, 2]
    assert found.colors[1:] == ["#000002", "#000003"]
