from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stdistill as sd


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """Niche a: T, T, B; b: B; c: a cell without a type; d: none; and a cell without a niche."""
    niches = pd.Categorical(["a", "a", "a", "b", "c", None], categories=list("dcba"))
    types = pd.Categorical(["T", "T", "B", "B", None, "T"], categories=["T", "B", "NK"])
    return make_cells(6, niche=niches, cell_type=types)


def test_by_hand(cells: ad.AnnData) -> None:
    table = sd.tl.composition(cells, niche_key="niche", cell_type_key="cell_type")
    assert table.index.tolist() == list("dcba")
    assert table.columns.tolist() == ["T", "B", "NK"]
    assert (table.index.name, table.columns.name) == ("niche", "cell_type")
    assert table.loc["a"].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert table.loc["b"].tolist() == [0, 1, 0]
    assert table.loc[["c", "d"]].isna().all(axis=None)


def test_a_view_measures_its_cells(cells: ad.AnnData) -> None:
    table = sd.tl.composition(cells[2:4], niche_key="niche", cell_type_key="cell_type")
    assert table.loc["a", "B"] == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["x", "y", "z", None]), st.sampled_from([*"abcd", None])), min_size=1))
def test_as_pandas_counts(make_cells: Callable, pairs: list[tuple[str | None, str | None]]) -> None:
    obs = pd.DataFrame(pairs, columns=["niche", "cell_type"], dtype=object)
    if obs.dropna().empty:
        return
    cells = make_cells(len(obs), **{name: pd.Categorical(obs[name]) for name in obs})
    table = sd.tl.composition(cells, niche_key="niche", cell_type_key="cell_type")
    expected = pd.crosstab(obs["niche"], obs["cell_type"], normalize="index")
    pd.testing.assert_frame_equal(
        table.loc[expected.index, expected.columns], expected, check_names=False, check_column_type=False
    )
    assert np.allclose(table.sum(axis=1)[table.notna().all(axis=1)], 1)


def test_bad_input(cells: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"niche_key='niches' is not a column of .obs; there is: 'cell_type', 'niche'"):
        sd.tl.composition(cells, niche_key="niches", cell_type_key="cell_type")
    with pytest.raises(KeyError, match=r"cell_type_key='group' is not .*sd.pp.read_xenium\(cell_groups="):
        sd.tl.composition(cells, niche_key="niche", cell_type_key="group")
    cells.obs["group"] = cells.obs["cell_type"].astype(object)
    with pytest.raises(TypeError, match=r"'group'.* holds object; expected a categorical"):
        sd.tl.composition(cells, niche_key="niche", cell_type_key="group")
    with pytest.raises(ValueError, match=r"No cell has both a niche in .obs\['niche'\] and a cell type"):
        sd.tl.composition(cells[4:], niche_key="niche", cell_type_key="cell_type")


def test_labels_that_stand_for_missing_ones(make_cells: Callable) -> None:
    """As `astype(str)` makes them: they count, and it is said."""
    cells = make_cells(4, niche=["a", "a", "b", "b"], cell_type=["x", "nan", "x", "x"])
    cells.obs = cells.obs.astype("category")
    with pytest.warns(UserWarning, match=r"cell_type.* has the labels \['nan'\]"):
        sd.tl.composition(cells, niche_key="niche", cell_type_key="cell_type")
