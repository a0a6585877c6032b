from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
from scipy.sparse import identity
from scipy.spatial import cKDTree

import stdistill as sd

pytestmark = pytest.mark.filterwarnings("ignore:Cells have .* neighbours")

NAMES = ["CAFs MSC/iCAF-like", "NK cells ", " B"]
STRIPPED = ["CAFs MSC/iCAF-like", "NK cells", "B"]


@pytest.fixture
def line(make_cells: Callable) -> ad.AnnData:
    """Five cells in a row, 10 µm apart; the fourth has no type."""
    types = pd.Categorical(["T", "B", "T", None, "T"], categories=["B", "T"])
    return make_cells(np.array([[10.0 * i, 0] for i in range(5)]), cell_type=types)


@pytest.fixture
def spots(make_cells: Callable) -> ad.AnnData:
    """Three spots, with a frame of proportions of types whose names are as those of real data."""
    spots = make_cells(3)
    values = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0.1, 0.9]])
    spots.obsm["props"] = pd.DataFrame(values, index=spots.obs_names, columns=NAMES)
    return spots


def test_counts_by_hand(line: ad.AnnData) -> None:
    sd.pp.neighborhoods(line, radius_um=10)
    assert sd.pp.abundances(line, cell_type_key="cell_type") is None
    found = sd.get.abundances(line)
    assert found.columns.tolist() == ["B", "T"]
    assert found.index.equals(line.obs_names)
    assert found.to_numpy().tolist() == [[1, 1], [1, 2], [1, 1], [0, 2], [0, 1]]
    assert line.obsm["abundance"].dtype == np.float32
    record = line.uns["stdistill"]["abundances"]
    assert record.pop("stdistill_version")
    assert record.pop("fingerprint")
    assert record.pop("labels")
    assert record == {
        "key_added": "abundance",
        "n_cells": 5,
        "types": ["B", "T"],
        "source": "cell_type",
        "source_key": "cell_type",
        "radius_um": 10.0,
    }


def test_another_radius_leaves_the_neighbourhoods(line: ad.AnnData) -> None:
    sd.pp.neighborhoods(line, radius_um=10)
    before = line.obsp["spatial_connectivities"].copy()
    sd.pp.abundances(line, cell_type_key="cell_type", radius_um=20, key_added="wide")
    assert sd.get.abundances(line, "wide").to_numpy().tolist() == [[1, 2], [1, 2], [1, 3], [1, 2], [0, 2]]
    assert line.uns["stdistill"]["abundances_wide"]["radius_um"] == 20
    assert (line.obsp["spatial_connectivities"] != before).nnz == 0
    assert line.uns["spatial_neighbors"]["params"]["radius"] == 10
    assert "abundance" not in line.obsm


def test_a_radius_needs_no_neighbourhoods(line: ad.AnnData) -> None:
    sd.pp.abundances(line, cell_type_key="cell_type", radius_um=10)
    assert sd.get.abundances(line).iloc[1].tolist() == [1, 2]
    assert "spatial_neighbors" not in line.uns


def test_counts_are_those_of_another_search(make_cells: Callable) -> None:
    codes = np.random.default_rng(1).integers(0, 6, 4000)
    cells = make_cells(4000, cell_type=pd.Categorical.from_codes(codes, list("abcdef")))
    sd.pp.neighborhoods(cells, radius_um=40)
    sd.pp.abundances(cells, cell_type_key="cell_type")
    tree = cKDTree(cells.obsm["spatial"])
    expected = [np.bincount(codes[near], minlength=6) for near in tree.query_ball_point(tree.data, 40)]
    np.testing.assert_array_equal(cells.obsm["abundance"], expected)


def test_weights_of_neighbours_are_no_counts(line: ad.AnnData) -> None:
    """A graph of weights, as squidpy's transforms leave one, with a loop at each cell."""
    sd.pp.neighborhoods(line, radius_um=10)
    sd.pp.abundances(line, cell_type_key="cell_type")
    expected = line.obsm["abundance"].copy()
    line.obsp["spatial_connectivities"] = (line.obsp["spatial_connectivities"] * 0.25 + identity(5)).tocsr()
    sd.pp.abundances(line, cell_type_key="cell_type")
    np.testing.assert_array_equal(line.obsm["abundance"], expected)


@pytest.mark.parametrize("radius_um", [None, 20])
def test_the_buffer_is_not_known_and_not_counted(line: ad.AnnData, radius_um: float | None) -> None:
    line.obs["split"] = pd.Categorical(["train", "train", "buffer", "test", "test"])
    line.obs["cell_type"] = pd.Categorical(["T", "B", "T", "B", "T"])
    sd.pp.neighborhoods(line, radius_um=10)
    sd.pp.abundances(line, cell_type_key="cell_type", radius_um=radius_um)
    expected = np.array([[1, 1], [1, 1], [np.nan, np.nan], [1, 1], [1, 1]])
    np.testing.assert_array_equal(sd.get.abundances(line), expected)


def test_a_split_that_the_neighbourhoods_ignore_is_ignored(line: ad.AnnData) -> None:
    line.obs["split"] = pd.Categorical(["train", "train", "buffer", "test", "test"])
    sd.pp.neighborhoods(line, radius_um=10, split_key=None)
    for radius_um in (None, 10.5):
        sd.pp.abundances(line, cell_type_key="cell_type", radius_um=radius_um)
        assert sd.get.abundances(line).iloc[2].tolist() == [1, 1]


def test_a_place_without_a_known_type_is_not_known(line: ad.AnnData) -> None:
    line.obs["cell_type"] = pd.Categorical(["T", "B", None, None, None], categories=["B", "T"])
    sd.pp.neighborhoods(line, radius_um=10)
    sd.pp.abundances(line, cell_type_key="cell_type")
    assert sd.get.abundances(line).isna().all(axis=1).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("radius_um", [None, 15])
def test_slides_are_never_counted_together(make_cells: Callable, radius_um: float | None) -> None:
    cells = make_cells(
        np.array([[0.0, 0], [5, 0], [0, 0], [5, 0]]),
        slide=list("aabb"),
        cell_type=pd.Categorical(["T", "B", "T", "T"]),
    )
    sd.pp.neighborhoods(cells, radius_um=10, library_key="slide")
    sd.pp.abundances(cells, cell_type_key="cell_type", radius_um=radius_um)
    assert sd.get.abundances(cells).to_numpy().tolist() == [[1, 1], [1, 1], [0, 2], [0, 2]]


def test_slides_over_one_another_are_warned_of(make_cells: Callable) -> None:
    places = np.random.default_rng(0).uniform(0, 300, (200, 2))
    kinds = pd.Categorical(np.random.default_rng(1).choice(["T", "B"], 400))
    cells = make_cells(np.vstack([places, places + 1]), slide=["a"] * 200 + ["b"] * 200, cell_type=kinds)
    with pytest.warns(UserWarning, match=r"2 slides that lie over one another.*sd.pp.neighborhoods\(library_key=\)"):
        sd.pp.abundances(cells, cell_type_key="cell_type", radius_um=20)


@pytest.mark.parametrize("named", ["q05", "q05_cell_abundance_w_sf"])
def test_cell2location(spots: ad.AnnData, named: str) -> None:
    for summary, factor in (("means", 2), ("stds", 0.1), ("q05", 1), ("q95", 3)):
        frame = spots.obsm["props"].set_axis([f"{summary}cell_abundance_w_sf_{name}" for name in NAMES], axis=1)
        spots.obsm[f"{summary}_cell_abundance_w_sf"] = frame * factor
    spots.uns["mod"] = {"factor_names": np.array(NAMES, dtype=object)}
    sd.pp.abundances(spots, cell2location_key=named)
    found = sd.get.abundances(spots)
    assert found.columns.tolist() == STRIPPED
    np.testing.assert_array_equal(found, spots.obsm["props"].astype(np.float32))
    record = spots.uns["stdistill"]["abundances"]
    assert (record["source"], record["source_key"]) == ("cell2location", "q05_cell_abundance_w_sf")
    assert "radius_um" not in record
    sd.pp.abundances(spots, cell2location_key="q95", key_added="high")
    np.testing.assert_allclose(spots.obsm["high"], 3 * spots.obsm["abundance"])


def test_columns_of_cell2location_in_another_order_keep_their_names(spots: ad.AnnData) -> None:
    frame = spots.obsm["props"].add_prefix("q05cell_abundance_w_sf_")
    spots.obsm["q05_cell_abundance_w_sf"] = frame.iloc[:, ::-1]
    spots.uns["mod"] = {"factor_names": NAMES}
    sd.pp.abundances(spots, cell2location_key="q05")
    assert sd.get.abundances(spots).columns.tolist() == STRIPPED[::-1]


def test_an_array_of_cell2location_has_the_names_of_its_factors(spots: ad.AnnData) -> None:
    spots.obsm["means_cell_abundance_w_sf"] = spots.obsm["props"].to_numpy()
    spots.uns["mod"] = {"factor_names": NAMES}
    sd.pp.abundances(spots, cell2location_key="means")
    assert sd.get.abundances(spots).columns.tolist() == STRIPPED
    spots.uns["mod"] = {"factor_names": NAMES[:2]}
    with pytest.raises(TypeError, match=r"nothing names the type of each column\. Make it a frame"):
        sd.pp.abundances(spots, cell2location_key="means")


def test_any_frame(spots: ad.AnnData) -> None:
    sd.pp.abundances(spots, obsm_key="props")
    assert sd.get.abundances(spots).columns.tolist() == STRIPPED
    assert sd.get.abundances(spots).iloc[2].tolist() == pytest.approx([0, 0.1, 0.9])
    sd.pp.abundances(spots, obsm_key="abundance", key_added="again")  # an array whose record names the types
    assert sd.get.abundances(spots, "again").equals(sd.get.abundances(spots))


def test_a_frame_in_its_own_place(spots: ad.AnnData) -> None:
    sd.pp.abundances(spots, obsm_key="props", key_added="props")
    assert isinstance(spots.obsm["props"], np.ndarray)
    assert sd.get.abundances(spots, "props").columns.tolist() == STRIPPED


def test_counts_of_integers_and_missing_values(spots: ad.AnnData) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": pd.array([1, None, 3], dtype="Int64")}, index=spots.obs_names)
    spots.obsm["counts"] = frame
    sd.pp.abundances(spots, obsm_key="counts")
    np.testing.assert_array_equal(sd.get.abundances(spots), [[1, 1], [2, np.nan], [3, 3]])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_survives_the_disk(spots: ad.AnnData, tmp_path: Path, suffix: str) -> None:
    sd.pp.abundances(spots, obsm_key="props")
    expected = sd.get.abundances(spots)
    del spots.obsm["props"]  # which zarr refuses
    path = tmp_path / f"spots.{suffix}"
    getattr(spots, f"write_{suffix}")(path)
    read = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    pd.testing.assert_frame_equal(sd.get.abundances(read), expected)
    sd.pp.abundances(read, obsm_key="abundance", key_added="again")
    assert sd.get.abundances(read, "again").columns.tolist() == STRIPPED


def test_survives_the_disk_in_a_spatialdata(make_slide: Callable, tmp_path: Path) -> None:
    slide = make_slide(30)
    slide["table"].obs["cell_type"] = pd.Categorical(["a/b", "c "] * 15)
    sd.pp.abundances(slide, cell_type_key="cell_type", radius_um=10)
    slide.write(tmp_path / "slide.zarr")
    read = spatialdata.read_zarr(tmp_path / "slide.zarr")
    pd.testing.assert_frame_equal(sd.get.abundances(read), sd.get.abundances(slide))
    assert sd.get.abundances(read).columns.tolist() == ["a/b", "c"]


def test_a_table_on_disk(line: ad.AnnData, tmp_path: Path) -> None:
    sd.pp.neighborhoods(line, radius_um=10)
    line.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    sd.pp.abundances(backed, cell_type_key="cell_type")
    assert sd.get.abundances(backed).iloc[1].tolist() == [1, 2]
    with pytest.raises(ValueError, match="copy=True of a table on disk"):
        sd.pp.abundances(backed, cell_type_key="cell_type", copy=True)


def test_a_copy_leaves_the_table(spots: ad.AnnData) -> None:
    written = sd.pp.abundances(spots, obsm_key="props", copy=True)
    assert written is not None
    assert "abundance" in written.obsm
    assert "abundance" not in spots.obsm
    assert "stdistill" not in spots.uns


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, r"\.obsm\['props'\] has 1 negative values, such as -0.1.* of 'NK cells' in row 1"),
        (np.inf, "has 1 infinite values, such as inf"),
        (1e39, "has 1 infinite values"),
    ],
)
def test_what_is_no_abundance(spots: ad.AnnData, value: float, message: str) -> None:
    spots.obsm["props"].iloc[1, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            sd.pp.abundances(spots, obsm_key="props")
    assert "abundance" not in spots.obsm


def test_missing_values_are_not_known(spots: ad.AnnData) -> None:
    spots.obsm["props"].iloc[1, 1] = np.nan
    sd.pp.abundances(spots, obsm_key="props")
    assert sd.get.abundances(spots).isna().any(axis=1).tolist() == [False, True, False]
    spots.obsm["props"].iloc[:, 0] = np.nan
    with pytest.raises(ValueError, match="not known in full for any of the 3 rows"):
        sd.pp.abundances(spots, obsm_key="props")


def test_types_that_are_the_same_but_for_blanks(spots: ad.AnnData, line: ad.AnnData) -> None:
    spots.obsm["props"].columns = ["NK", "NK ", "B"]
    with pytest.raises(ValueError, match=r"names its types \['NK', 'NK ', 'B'\]: \['NK'\] after blanks"):
        sd.pp.abundances(spots, obsm_key="props")
    spots.obsm["props"].columns = ["NK", " ", "B"]
    with pytest.raises(ValueError, match=r"\[''\] after blanks"):
        sd.pp.abundances(spots, obsm_key="props")
    line.obs["cell_type"] = line.obs["cell_type"].cat.rename_categories(["T ", "T"])
    with pytest.raises(ValueError, match=r"\.obs\['cell_type'\] names its types .*\['T'\] after blanks"):
        sd.pp.abundances(line, cell_type_key="cell_type", radius_um=10)


def test_what_names_no_types(spots: ad.AnnData) -> None:
    spots.obsm["X_pca"] = np.ones((3, 2))
    with pytest.raises(TypeError, match=r"ndarray of shape \(3, 2\), and nothing names the type of each column"):
        sd.pp.abundances(spots, obsm_key="X_pca")
    spots.obsm["props"]["region"] = ["a", "b", "c"]
    with pytest.raises(TypeError, match=r"holds no numbers in \['region'\]"):
        sd.pp.abundances(spots, obsm_key="props")


def test_one_source(spots: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="Give one of cell_type_key=, cell2location_key=, obsm_key=; found none"):
        sd.pp.abundances(spots)
    with pytest.raises(ValueError, match=r"found \{'cell_type_key': 'a', 'obsm_key': 'b'\}"):
        sd.pp.abundances(spots, cell_type_key="a", obsm_key="b")
    with pytest.raises(ValueError, match="radius_um=10 is for counting cells"):
        sd.pp.abundances(spots, obsm_key="props", radius_um=10)
    with pytest.raises(ValueError, match="radius_um must be positive"):
        sd.pp.abundances(spots, cell_type_key="cell_type", radius_um=-1)


def test_what_is_not_there(spots: ad.AnnData, line: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"obsm_key='proportions' is not in \.obsm; there is: 'props', 'spatial'"):
        sd.pp.abundances(spots, obsm_key="proportions")
    with pytest.raises(
        KeyError, match=r"cell2location_key='q05' is not abundances of cell2location in \.obsm; there is: none"
    ):
        sd.pp.abundances(spots, cell2location_key="q05")
    with pytest.raises(KeyError, match=r"cell_type_key='kind' is not a column of \.obs"):
        sd.pp.abundances(line, cell_type_key="kind")
    with pytest.raises(KeyError, match=r"where neighbourhoods are expected\. Run sd.pp.neighborhoods"):
        sd.pp.abundances(line, cell_type_key="cell_type")
    with pytest.raises(KeyError, match=r"key='abundance' is not abundances in .obsm.*Write them with sd.pp.abundances"):
        sd.get.abundances(line)
    line.obs["cell_type"] = line.obs["cell_type"].astype(object)
    with pytest.raises(TypeError, match="expected a categorical column"):
        sd.pp.abundances(line, cell_type_key="cell_type", radius_um=10)


def test_records_of_one_of_several_tables(make_cells: Callable) -> None:
    """Columns are in an order of their own in each: the record of the first names those of the others wrongly."""
    tables = [make_cells(3), make_cells(3, seed=1)]
    for table, names in zip(tables, (["B", "T"], ["T", "B"]), strict=True):
        table.obsm["props"] = pd.DataFrame([[1.0, 2.0]] * 3, table.obs_names, names)
        sd.pp.abundances(table, obsm_key="props")
    first = ad.concat(tables, index_unique="-", uns_merge="first")
    with pytest.raises(ValueError, match=r"has 6 rows, but its record .* is of 3: .* or in another order"):
        sd.get.abundances(first)
    tables[1].obsm["props"] = tables[1].obsm["props"][["B", "T"]]
    sd.pp.abundances(tables[1], obsm_key="props")
    same = ad.concat(tables, index_unique="-", uns_merge="same")
    assert sd.get.abundances(same)["B"].tolist() == [1, 1, 1, 2, 2, 2]


def test_cell_types_that_were_changed_since(line: ad.AnnData) -> None:
    sd.pp.abundances(line, cell_type_key="cell_type", radius_um=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.get.abundances(line)
        sd.get.abundances(line[::-1])
        sd.get.abundances(line[:3])  # of a part it cannot be told
    line.obs["cell_type"] = line.obs["cell_type"].cat.rename_categories({"T": "T cell"})
    with pytest.warns(
        UserWarning, match=r"'abundance'\] counts cells by other labels than those in \.obs\['cell_type'\]"
    ):
        assert sd.get.abundances(line).columns.tolist() == ["B", "T"]
    sd.pp.abundances(line, cell_type_key="cell_type", radius_um=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sd.get.abundances(line).columns.tolist() == ["B", "T cell"]


def test_neighbourhoods_of_another_split(make_cells: Callable) -> None:
    """Cells of the new buffer would be counted, and those of the old one would have nobody around them."""
    cells = make_cells(400, extent=200.0, cell_type=pd.Categorical(["T", "B"] * 200))
    sd.pp.split_strips(cells, crop_px=20, mpp=1.0)
    sd.pp.neighborhoods(cells, radius_um=20)
    sd.pp.split_strips(cells, crop_px=20, mpp=1.0, test_strip=2)
    with pytest.raises(ValueError, match=r"joins cells of different groups of the split.*sd\.pp\.neighborhoods"):
        sd.pp.abundances(cells, cell_type_key="cell_type")
    assert "abundance" not in cells.obsm
    sd.pp.neighborhoods(cells, radius_um=20)
    sd.pp.abundances(cells, cell_type_key="cell_type")


@pytest.mark.parametrize("extra", ["nCount", "total", None])
def test_columns_that_are_no_types(extra: str | None) -> None:
    rng = np.random.default_rng(0)
    spots = ad.AnnData(np.zeros((20, 1)))
    shares = pd.DataFrame(rng.dirichlet([3, 2, 1], 20), index=spots.obs_names, columns=["T", "B", "M"])
    spots.obsm["shares"] = shares
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if extra is None:
            sd.pp.abundances(spots, obsm_key="shares")
            spots.obsm["shares"] = (shares * 10).round()  # numbers of cells, of ten each
            sd.pp.abundances(spots, obsm_key="shares", key_added="counts")
            spots.obsm["shares"] = shares.assign(M=0.0)  # a type that is nowhere
            sd.pp.abundances(spots, obsm_key="shares", key_added="nowhere")
            return
    numbers = shares * rng.integers(5, 40, (20, 1))
    added = (
        numbers.assign(total=numbers.sum(axis=1)) if extra == "total" else shares.assign(nCount=rng.poisson(900, 20))
    )
    spots.obsm["shares"] = added
    with pytest.warns(UserWarning, match=rf"\.obsm\['shares'\] has the column '{extra}', which seems to be no type"):
        sd.pp.abundances(spots, obsm_key="shares")


def of_spots(seed: int = 0) -> tuple[ad.AnnData, pd.DataFrame]:
    """Twenty spots, and shares of three types in them."""
    spots = ad.AnnData(np.zeros((20, 1)))
    shares = np.random.default_rng(seed).dirichlet([3, 2, 1], 20)
    return spots, pd.DataFrame(shares, index=spots.obs_names, columns=["T", "B", "M"])


@pytest.mark.parametrize(("factor", "constant"), [(1, 1000.0), (1, 1.0), (1, 0.3), (100, 1000.0), (100, 100.0)])
def test_a_constant_beside_shares_is_no_type(factor: int, constant: float) -> None:
    """As the number of counts is after down-sampling, or a total of 1: the others are whole without it."""
    spots, shares = of_spots()
    spots.obsm["shares"] = (factor * shares).assign(n=constant)
    with pytest.warns(UserWarning, match=r"has the column 'n', which seems to be no type"):
        sd.pp.abundances(spots, obsm_key="shares")


def test_a_constant_beside_numbers_is_no_type() -> None:
    """Numbers of cells, of which there are 5 to 39 in a spot, and 1000 molecules in each."""
    spots, shares = of_spots()
    spots.obsm["numbers"] = (shares * np.random.default_rng(1).integers(5, 40, (20, 1))).assign(n=1000.0)
    with pytest.warns(UserWarning, match=r"has the column 'n', .* or it is one number that is larger than they are"):
        sd.pp.abundances(spots, obsm_key="numbers")


@pytest.mark.parametrize(
    ("factor", "share"), [(1, 0.0), (1, 0.05), (1, 0.8), (100, 0.0), (100, 0.8), (12, 0.0), (12, 0.4)]
)
def test_a_type_may_be_constant(factor: int, share: float) -> None:
    """Nowhere, or everywhere alike: shares, percent, or cells of twelve are whole with it, and not without it."""
    spots, shares = of_spots()
    spots.obsm["shares"] = factor * ((1 - share) * shares).assign(same=share)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.abundances(spots, obsm_key="shares")


def test_as_many_cells_of_a_type_everywhere() -> None:
    """Three T cells in each spot, among up to five others."""
    spots, _ = of_spots()
    numbers = np.random.default_rng(0).integers(1, 3, (20, 2)).astype(float)
    spots.obsm["numbers"] = pd.DataFrame(numbers, index=spots.obs_names, columns=["B", "M"]).assign(T=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.abundances(spots, obsm_key="numbers")
