from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.he.slide_record import SlideRecord, write_slide_record


@pytest.fixture
def make_table(make_cells: Callable[..., ad.AnnData]) -> Callable[[list[object]], ad.AnnData]:
    def make(ids: list[object]) -> ad.AnnData:
        table = make_cells(len(ids))
        table.obs["cell_id"] = ids
        table.obs["student_niche"] = pd.Categorical(["1", None, "0"][: len(ids)], categories=["0", "1"])
        table.uns["student_niche_colors"] = np.array(["red", "#0a0b0c"], dtype=object)
        return table

    return make


def test_the_csv(make_table: Callable[[list[object]], ad.AnnData], tmp_path: Path) -> None:
    table = make_table(["aaaajfbk-1", "ccccaabb-1", "ppppabcd-2"])
    path = sd.io.to_xenium_explorer(table, tmp_path / "niches.csv", key="student_niche")
    assert path.read_text() == "cell_id,group,color\naaaajfbk-1,1,#0A0B0C\nppppabcd-2,0,#FF0000\n"
    old = make_table([7, 8, 9])  # before XOA 1.3
    assert sd.io.to_xenium_explorer(old, path, key="student_niche").read_text().splitlines()[1] == "7,1,#0A0B0C"


def test_what_is_written_is_read(bundle: Path, tmp_path: Path) -> None:
    slide = sd.pp.read_xenium(bundle, he_image=False)
    path = sd.io.to_xenium_explorer(slide, tmp_path / "groups.csv", key="cell_type")
    again = sd.pp.read_xenium(bundle, he_image=False, cell_groups=path)["table"]
    pd.testing.assert_series_equal(again.obs["cell_type"], slide["table"].obs["cell_type"])
    assert list(again.uns["cell_type_colors"]) == list(slide["table"].uns["cell_type_colors"])


def test_cells_of_no_xenium_run(make_table: Callable[[list[object]], ad.AnnData], tmp_path: Path) -> None:
    table = make_table(["aaaajfbk-1", "cell-1", "nucleus 3"])
    with pytest.raises(
        ValueError, match=r'2 of 3 cells have other ids in \.obs\["cell_id"\], such as \'cell-1\'.*to_geojson'
    ) as error:
        sd.io.to_xenium_explorer(table, tmp_path / "a.csv", key="student_niche")
    assert "sopa.io.explorer.write" in str(error.value)
    numbered = make_table([1, 2, 3])
    write_slide_record(numbered, SlideRecord("svs"))
    with pytest.raises(ValueError, match="the slide was read from svs"):
        sd.io.to_xenium_explorer(numbered, tmp_path / "a.csv", key="student_niche")
    del table.obs["cell_id"]
    with pytest.raises(ValueError, match=r"3 of 3 cells have other ids in \.obs_names"):
        sd.io.to_xenium_explorer(table, tmp_path / "a.csv", key="student_niche")
    assert not list(tmp_path.iterdir())


def test_other_bad_input(make_table: Callable[[list[object]], ad.AnnData], tmp_path: Path) -> None:
    table = make_table(["aaaajfbk-1", "aaaajfbk-1", "ppppabcd-2"])
    with pytest.raises(ValueError, match=r"1 ids .* are there twice: write the slides one by one"):
        sd.io.to_xenium_explorer(table, tmp_path / "a.csv", key="student_niche")
    with pytest.raises(ValueError, match=r"takes groups of cells as a \.csv"):
        sd.io.to_xenium_explorer(table, tmp_path / "a.geojson", key="student_niche")
    with pytest.raises(KeyError, match=r"key='niche' is not a column"):
        sd.io.to_xenium_explorer(table, tmp_path / "a.csv", key="niche")


def test_two_slides_in_one_table(tmp_path: Path, make_cells: Callable[..., ad.AnnData]) -> None:
    """Their ids differ, but Xenium Explorer opens one of them."""
    cells = {name: make_cells(60, seed=seed) for seed, name in enumerate("AB")}
    for first, table in enumerate(cells.values()):
        table.obs["cell_id"] = [str(first * 60 + row) for row in range(60)]
        table.obs["student_niche"] = pd.Categorical(["0", "1"] * 30)
    joint = ad.concat(cells, label="slide", index_unique="-")
    with pytest.warns(UserWarning, match="2 slides that lie over one another.*write them one by one"):
        sd.io.to_xenium_explorer(joint, tmp_path / "both.csv", key="student_niche")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.io.to_xenium_explorer(joint[joint.obs["slide"] == "A"], tmp_path / "one.csv", key="student_niche")
    assert len((tmp_path / "one.csv").read_text().splitlines()) == 61


@pytest.mark.parametrize(
    "text", ["patient,age\n1,50\n", "cell_id,group\naaaajfbk-1,T cell\n", "cell_id,group,color,note\n"]
)
def test_a_file_of_others_is_kept(make_table: Callable[[list[object]], ad.AnnData], tmp_path: Path, text: str) -> None:
    """A table of something else, or of cell types made by hand; what was written here before is replaced."""
    table, path = make_table(["aaaajfbk-1", "ccccaabb-1"]), tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(FileExistsError, match=r"own\.csv exists already, and stdistill did not write it.*another file"):
        sd.io.to_xenium_explorer(table, path, key="student_niche")
    assert path.read_text() == text
    path.write_text("")
    for _ in range(2):
        sd.io.to_xenium_explorer(table, path, key="student_niche")
    assert path.read_text().startswith("cell_id,group,color\naaaajfbk-1,1,")


def test_the_cell_types_of_a_bundle_are_kept(make_table: Callable[[list[object]], ad.AnnData], tmp_path: Path) -> None:
    """Whether there are some yet: sd.pp.read_xenium would take the niches for cell types."""
    table = make_table(["aaaajfbk-1", "ccccaabb-1"])
    (tmp_path / "experiment.xenium").write_text("{}")
    own = tmp_path / "WTA_cell_groups.csv"
    own.write_text("cell_id,group,color\naaaajfbk-1,T cell,#FF0000\n")
    for path in (own, tmp_path / "new_cell_groups.csv"):
        with pytest.raises(
            FileExistsError, match=r"is where the Xenium bundle has its own cell types.* another folder"
        ):
            sd.io.to_xenium_explorer(table, path, key="student_niche")
    assert own.read_text().endswith("T cell,#FF0000\n")
    assert not (tmp_path / "new_cell_groups.csv").exists()
    sd.io.to_xenium_explorer(table, tmp_path / "niches.csv", key="student_niche")
