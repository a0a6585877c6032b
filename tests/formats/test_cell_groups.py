from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stdistill._formats.cell_groups import find_cell_groups, read_cell_groups, write_cell_groups

pytestmark = pytest.mark.filterwarnings("ignore:. of the 3 cells of this slide are not in")

IDS = pd.Index(["aaaaaaab-1", "aaaaaaac-1", "aaaaaaad-1"], dtype=object)
ROWS = [("cell_id", "group", "color"), ("aaaaaaad-1", "T-Zellen, früh", "#FF0000"), ("aaaaaaab-1", "B", "#00FF00")]


def write(path: Path, separator: str, encoding: str) -> Path:
    lines = [separator.join(f'"{each}"' for each in row) for row in ROWS]
    path.write_text("\n".join(lines), encoding=encoding)
    return path


@pytest.mark.filterwarnings("ignore:.*was read as Windows-1252")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    groups = read_cell_groups(write(tmp_path / "a.csv", separator, encoding), IDS)
    assert groups.labels.astype(object).tolist()[::2] == ["B", "T-Zellen, früh"]
    assert pd.isna(groups.labels[1])
    assert list(groups.colors) == ["#00FF00", "#FF0000"]
    assert groups.n_known == 2


def test_other_spellings_of_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Cell ID,Group\naaaaaaac-1,1\n")
    assert read_cell_groups(tmp_path / "a.csv", IDS).labels.tolist()[1] == "1"


def test_files_of_explorer_that_hold_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("#Selection name: Tumor\n#Area (µm^2): 3\nX,Y\n1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"outline of a selection in Xenium Explorer.*takes it as polygons="):
        read_cell_groups(path, IDS)
    path.write_text("#Selection name: Tumor\nCell ID,Cluster,Transcripts\naaaaaaab-1,1,20\n")
    with pytest.raises(ValueError, match=r"has the columns \['cell_id', 'cluster', 'transcripts'\]; .*Rename them"):
        read_cell_groups(path, IDS)


def test_a_group_that_is_called_na(tmp_path: Path) -> None:
    """It is a group; only a cell without any text has none. A colour that is none is none."""
    path = tmp_path / "a.csv"
    path.write_text("cell_id,group,color\naaaaaaab-1,NA,NA\naaaaaaac-1,nan,#00FF00\naaaaaaad-1,,\n")
    groups = read_cell_groups(path, IDS)
    assert groups.labels.categories.tolist() == ["NA", "nan"]
    assert groups.labels.codes.tolist() == [0, 1, -1]
    assert groups.colors is None


def test_groups_of_another_slide(tmp_path: Path) -> None:
    """Ids of early bundles are 1, 2, …: those of a slide with fewer cells are all there, and are other cells."""
    path, ids = tmp_path / "a.csv", pd.Index([str(number) for number in range(1, 101)])
    for n_known, is_said in ((98, False), (85, True)):
        pd.DataFrame({"cell_id": ids[:n_known], "group": "a"}).to_csv(path, index=False)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read_cell_groups(path, ids)
        assert [str(each.message)[:56] for each in said] == [
            "15 of the 100 cells of this slide are not in a.csv, and "
        ] * is_said


def test_hidden_files_are_no_groups(tmp_path: Path) -> None:
    write(tmp_path / "a_cell_groups.csv", ",", "utf-8")
    (tmp_path / "._a_cell_groups.csv").write_bytes(b"\0\5\x16\7")
    assert find_cell_groups(tmp_path, None) == tmp_path / "a_cell_groups.csv"
    write(tmp_path / "b_cell_groups.csv", ",", "utf-8")
    with pytest.raises(ValueError, match="name the one to read with cell_groups="):
        find_cell_groups(tmp_path, None)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    names, colors = ['T "early", few', "Größe"], ["#112233", "#AABBCC"]
    n = write_cell_groups(tmp_path / "a.csv", IDS.to_numpy(), np.array([1, -1, 0]), names, colors)
    assert n == 2
    groups = read_cell_groups(tmp_path / "a.csv", IDS)
    assert groups.labels.tolist()[::2] == ["Größe", 'T "early", few']
    assert pd.isna(groups.labels[1])
    assert dict(zip(groups.labels.categories, groups.colors, strict=True)) == dict(zip(names, colors, strict=True))
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "cell_id,group,color"


def test_cells_in_several_groups(tmp_path: Path) -> None:
    """The same row twice says nothing else."""
    path = tmp_path / "a.csv"
    path.write_text("cell_id,group\naaaaaaab-1,B\naaaaaaab-1,B\naaaaaaac-1,T\naaaaaaac-1,B\naaaaaaac-1,NK\n")
    with pytest.warns(UserWarning, match=r"^1 cells in a\.csv are in several groups, and the first"):
        assert read_cell_groups(path, IDS).labels.tolist()[:2] == ["B", "T"]
