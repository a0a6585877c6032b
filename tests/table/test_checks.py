from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

import stdistill as sd
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


def test_a_copy_of_a_table_on_disk(make_cells: Callable, tmp_path: Path) -> None:
    make_cells(30).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for step in (
        lambda table, **options: sd.pp.neighborhoods(table, radius_um=300, **options),
        lambda table, **options: sd.pp.split_strips(table, crop_px=2, mpp=1.0, **options),
    ):
        with pytest.raises(ValueError, match=r"copy=True of a table on disk \(backed, .*to_memory\(\)"):
            step(backed, copy=True)
        step(backed)
    copied = sd.pp.neighborhoods(backed.to_memory(), radius_um=300, copy=True)
    assert "spatial_connectivities" in copied.obsp


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_cells_by_name(make_cells: Callable) -> None:
    cells = make_cells(4)
    assert checks.find_rows(cells, ["cell-2", "cell-0", "cell-2"]).tolist() == [2, 0, 2]
    with pytest.raises(KeyError, match="2 of the cells are not in the table, such as 'a'; its cells are 'cell-0', "):
        checks.find_rows(cells, ["a", "cell-1", "b"])
    cells.obs_names = ["a", "b", "c", "b"]
    assert checks.find_rows(cells, ["c", "a"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"2 cells go by the name 'b'.*obs_names_make_unique\(\)"):
        checks.find_rows(cells, ["a", "b"])


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_pictures_of_cells_with_repeated_names(make_slide: Callable) -> None:
    slide = make_slide(40, he_to_global=np.diag([1.29, 1.29, 1]))
    sd.pp.neighborhoods(slide, radius_um=10)
    table = slide["table"]
    table.obs_names = ["same", "same", *table.obs_names[2:]]
    for draw in (
        lambda: sd.pl.neighborhood(slide, cell="same", show=False),
        lambda: sd.get.he_crops(slide, cells=["same"], crop_px=4),
        lambda: sd.pl.crops(slide, cells=["same"], crop_px=4, show=False),
    ):
        with pytest.raises(ValueError, match="2 cells go by the name 'same'"):
            draw()
    sd.pl.crops(slide, cells=["cell-7"], crop_px=4, show=False)


@pytest.mark.parametrize(
    "name",
    ["NegControlProbe_00042", "UnassignedCodeword_0012", "BLANK_0069", "Blank-3", "Negative12", "SystemControl4"],
)
def test_controls_among_the_genes(name: str) -> None:
    cells = ad.AnnData(np.ones((3, 4), dtype=np.float32), var=pd.DataFrame(index=["CD3E", name, "NEGR1", "BLNK"]))
    with pytest.warns(UserWarning, match=rf"1 of the 4 genes are controls by their names \('{name}'\)") as said:
        checks.get_counts(cells, None, "scVI needs")
    pattern = str(said[0].message).partition("match('")[2].partition("')]")[0].replace(r"\\", "\\")
    genes = cells[:, ~cells.var_names.str.match(pattern)].copy()  # as the message says
    assert genes.var_names.tolist() == ["CD3E", "NEGR1", "BLNK"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.get_counts(genes, None, "scVI needs")


def test_a_split_that_a_merge_renamed(make_cells: Callable) -> None:
    """Test cells would be clustered with the others, and nobody would know."""
    cells = make_cells(400, extent=1000.0)
    features = np.random.default_rng(0).normal(size=(400, 5))
    cells.obsm["X_he"] = np.where(cells.obsm["spatial"][:, :1] < 500, features, features + 9).astype(np.float32)
    sd.pp.split_strips(cells, crop_px=20, mpp=1.0)
    clinical = pd.DataFrame({"name": cells.obs_names, "split": "a"})
    cells.obs = cells.obs.assign(name=cells.obs_names).merge(clinical, on="name", how="left").set_index("name")
    assert {"split_x", "split_y"} <= set(cells.obs)
    with pytest.warns(UserWarning, match=r"\.obs\[.split.\] is not there any more: .* or give split_key=None"):
        assert checks.get_split(cells, "split") is None
    with pytest.warns(UserWarning, match="All cells count as one group"):
        sd.tl.leiden(cells, k=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checks.get_split(cells, None) is None
        assert set(checks.get_split(cells, "split_x").dropna()) == {"train", "test", "buffer"}
        assert checks.get_split(make_cells(4), "split") is None  # there never was one


def test_groups_of_a_split_in_other_letters(make_cells: Callable) -> None:
    cells = make_cells(4, split=["Train", "train", "Test", "buffer"])
    with pytest.raises(ValueError, match=r"holds \['Test', 'Train'\]; the groups .* \['buffer', 'test', 'train'\]"):
        checks.get_split(cells, "split")
    cells.obs["split"] = ["train", "test", "other", None]
    split = checks.get_split(cells, "split")
    assert split is not None
    assert split.isna().sum() == 1


def counted() -> ad.AnnData:
    values = np.random.default_rng(0).poisson(1, (20, 5)).astype(np.float32)
    return ad.AnnData(csr_matrix(values), layers={"raw": values.copy()})


def test_counts_are_shared() -> None:
    adata = counted()
    assert np.shares_memory(checks.get_counts(adata, None, "scVI needs").data, adata.X.data)
    assert np.shares_memory(checks.get_counts(adata, "raw", "scVI needs"), adata.layers["raw"])


def test_by_column_they_become_by_row() -> None:
    adata = counted()
    adata.X = csc_matrix(adata.X)
    found = checks.get_counts(adata, None, "scVI needs")
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), adata.layers["raw"])


def test_the_message_says_who_asks() -> None:
    adata = counted()
    adata.X = csr_matrix(np.log1p(adata.layers["raw"]))
    message = r"\.X holds 0\.693147, which is no count.*normalised.*markers need raw counts: name the layer.*'raw'"
    with pytest.raises(ValueError, match=message):
        checks.get_counts(adata, None, "markers need")
    with pytest.raises(KeyError, match="layer='counts' is not a layer of the table; there is: 'raw'"):
        checks.get_counts(adata, "counts", "markers need")


def test_a_column_that_is_there_twice(make_cells: Callable) -> None:
    cells = make_cells(20, cell_type=pd.Categorical(["a", "b"] * 10), split=["train", "test"] * 10)
    annotated = pd.DataFrame({"cell_type": pd.Categorical(["c", "d"] * 10)}, index=cells.obs_names)
    cells.obs = pd.concat([cells.obs, annotated], axis=1)
    with pytest.raises(ValueError, match=r"\.obs has the column 'cell_type' 2 times, .*keep the last of each"):
        sd.tl.composition(cells, niche_key="cell_type", cell_type_key="cell_type")
    with pytest.raises(ValueError, match="'cell_type' 2 times"):
        sd.pp.neighborhoods(cells, radius_um=200)
    cells.obs = cells.obs.loc[:, ~cells.obs.columns.duplicated(keep="last")]
    assert sd.tl.composition(cells, niche_key="cell_type", cell_type_key="cell_type").index.tolist() == ["c", "d"]


def test_what_are_no_names_of_cells(make_cells: Callable) -> None:
    cells = make_cells(5)
    is_last = pd.Series([False] * 4 + [True], index=cells.obs_names)
    for given, found in (
        ("cell-3", r"found 'cell-3'\. Give \['cell-3'\]"),
        ([0, 2], "found numbers"),
        (is_last, "True and"),
    ):
        with pytest.raises(TypeError, match=f"cells must be a list of names, .*{found}"):
            checks.find_rows(cells, given)
    assert checks.find_rows(cells, cells.obs_names[is_last]).tolist() == [4]
    assert checks.find_rows(cells, []).tolist() == []


def test_counts_that_are_in_raw(make_cells: Callable) -> None:
    cells = make_cells(4)
    cells.raw = cells.copy()
    cells.X = np.log1p(cells.X)
    with pytest.raises(
        ValueError, match=r'\.raw may hold them\. .* adata\.layers\["counts"\] = adata\.raw\[:, .*\]\.X\.$'
    ):
        checks.get_counts(cells, None, "scVI needs")
    cells.layers["counts"] = cells.raw[:, cells.var_names].X
    np.testing.assert_array_equal(checks.get_counts(cells, "counts", "scVI needs"), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"\.raw may hold them.*or name another layer; there is: 'counts'\.$"):
        checks.get_counts(cells, None, "scVI needs")


def test_centres_in_a_frame_go_by_their_columns(make_cells: Callable) -> None:
    cells = make_cells(3)
    x, y = cells.obsm["spatial"].T
    cells.obsm["spatial"] = pd.DataFrame({"x_centroid": x, "y_centroid": y}, index=cells.obs_names)
    assert checks.get_centers(cells)[:, 0].tolist() == x.tolist()
    cells.obsm["spatial"] = cells.obsm["spatial"][["y_centroid", "x_centroid"]]
    with pytest.raises(ValueError, match=r"has the columns \['y_centroid', 'x_centroid'\]; expected x first"):
        checks.get_centers(cells)


def test_a_table_that_was_left_on_disk(make_cells: Callable, tmp_path: Path) -> None:
    make_cells(3).write_h5ad(tmp_path / "cells.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    with pytest.raises(TypeError, match=r"\.obs is a Dataset2D.*adata = adata\.to_memory\(\)"):
        sd.pp.neighborhoods(lazy)


@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix])
@pytest.mark.parametrize("layer", [None, "counts"])
def test_counts_whose_indices_are_damaged(make_cells: Callable, tmp_path: Path, kind: Any, layer: str | None) -> None:
    """As of a file: whoever reads counts says so, and the process goes on."""
    cells = make_cells(4)
    cells.X = kind(cells.X)
    cells.layers["counts"] = kind(cells.X)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        for where in ("X", "layers/counts"):
            file[where]["indices"][0] = 100_000
    damaged = ad.read_h5ad(tmp_path / "cells.h5ad")
    name = r"\.X" if layer is None else r"\.layers\['counts'\]"
    with pytest.raises(
        ValueError, match=rf"^{name} is a sparse matrix whose indices are damaged \(.*Read the slide ag"
    ):
        checks.get_counts(damaged, layer, "scVI needs")


def test_ids_that_are_in_a_column(make_cells: Callable) -> None:
    """Xenium Explorer's, after the cells got other names."""
    cells = make_cells()
    cells.obs["cell_id"] = [f"aaaa{number}-1" for number in range(cells.n_obs)]
    cells.obs["n"] = range(cells.n_obs)
    with pytest.raises(KeyError, match=r"'aaaa3-1'; its cells are .*\.obs\['cell_id'\] holds it: give names such as"):
        checks.find_rows(cells, ["aaaa3-1"])
    with pytest.raises(KeyError, match=r"its cells are '[^.]*, …\"$"):
        checks.find_rows(cells, ["nobody"])


@pytest.mark.parametrize("words", [("training", "testing"), ("Training", "test")])
def test_groups_of_a_split_by_other_words(make_cells: Callable, words: tuple[str, str]) -> None:
    cells = make_cells()
    cells.obs["split"] = pd.Categorical(np.where(np.arange(cells.n_obs) % 2, *words))
    with pytest.raises(ValueError, match=r"the groups of a split are written \['buffer', 'test', 'train'\]"):
        checks.get_split(cells, "split")


def test_slides_that_are_no_list(make_cells: Callable) -> None:
    with pytest.raises(TypeError, match=r"or a list of them, found dict\. Give list\(slides\.values\(\)\)"):
        checks.as_slides({"a": make_cells()})
    with pytest.raises(TypeError, match=r"found generator\. Give list\(slides\)"):
        checks.as_slides(make_cells() for _ in range(2))
