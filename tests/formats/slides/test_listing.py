from __future__ import annotations

from pathlib import Path

import pytest

from stdistill._formats.slides.listing import find_kind, find_slides, list_slides, names_several, read_slide_list

TIFF = b"II*\0" + bytes(60)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of slides, and what lies about there."""
    for name, content in {
        "b.svs": TIFF,
        "a.tiff": TIFF,
        "scan": PNG,
        "m.mrxs": b"",
        "cut.ndpi": b"",
        "notes.txt": b"mine",
        "._a.tiff": TIFF,
        "Thumbs.db": b"\xd0\xcf",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"")
    (tmp_path / "m" / "inside.svs").write_bytes(TIFF)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "slides.csv"
    path.write_text(text)
    return path


def test_a_folder(folder: Path) -> None:
    """By name or by the first bytes; a MIRAX is its file, and what is cut off at once is a slide that is broken."""
    assert [path.name for path in find_slides(folder)] == ["a.tiff", "b.svs", "cut.ndpi", "m.mrxs", "scan"]
    assert list_slides([folder])["slide"].tolist() == [str(path) for path in find_slides(folder)]
    assert names_several(folder)


def test_kinds(folder: Path, bundle: Path) -> None:
    (folder / "cells.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    (folder / "cells.h5ad").write_bytes(b"")
    assert find_kind(bundle) == "bundle"
    assert find_kind(folder / "cells.h5") == find_kind(folder / "cells.h5ad") == "table"
    assert find_kind(folder / "b.svs") == "slide"
    assert not names_several(bundle)  # though there is an H&E in it
    assert not names_several(folder / "b.svs")
    assert names_several(folder / "slides.csv")


def test_paths_of_several_kinds(folder: Path, bundle: Path) -> None:
    table = written(folder, "slide,patient\nb.svs,007\n")
    found = list_slides([folder / "a.tiff", bundle, table, folder])
    names = [Path(slide).name for slide in found["slide"]]
    assert names == ["a.tiff", bundle.name, "b.svs", "cut.ndpi", "m.mrxs", "scan"]
    assert found["patient"].tolist() == ["", "", "007", "", "", ""]


def test_an_empty_folder(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not names_several(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"There is no slide in the folder .*empty, nor is it a Xenium bundle"):
        list_slides([tmp_path / "empty", folder])


def test_a_table(folder: Path) -> None:
    text = f"slide; mpp; nuclei; months; event\nb.svs;0.25;n.geojson;12.5;1\n {folder / 'a.tiff'} ;;;;0\n"
    found = read_slide_list(written(folder, text))
    assert found["slide"].tolist() == [str(folder / "b.svs"), str(folder / "a.tiff")]
    assert found["mpp"].tolist() == ["0.25", ""]
    assert found["nuclei"].tolist() == [str(folder / "n.geojson"), ""]
    assert found["months"].tolist() == ["12.5", ""]
    assert found["event"].tolist() == ["1", "0"]


def test_a_slide_that_is_not_there_is_not_the_tables_fault(folder: Path) -> None:
    assert len(read_slide_list(written(folder, "slide\nb.svs\ngone.svs\n"))) == 2
    with pytest.raises(FileNotFoundError, match=r"None of the 2 slides in slides.csv is there, such as .*gone.svs"):
        read_slide_list(written(folder, "slide\ngone.svs\nlost.svs\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,mpp\na.tiff,0.25\n", r"has the columns \['file', 'mpp'\]; expected slide, and perhaps mpp"),
        ("slide,slide_id\na.tiff,1\n", r"but no slide_id. Rename slide_id, which is made of the names of files"),
        ("slide,mpp\n", "has a header and no row; expected one for each slide"),
        ("slide,mpp\na.tiff,\n,0.5\n,0.5\n", r"Rows 2, 3 of the 3 in slides.csv have no slide"),
        ("slide\na.tiff\nb.svs\n./a.tiff\n", r"Row 3 of the 3 in slides.csv has a slide that another row has, too"),
        ("slide,mpp\na.tiff,40x\n", r"Row 1 of the 1 in slides.csv has the mpp '40x'. Expected µm per pixel, a number"),
        ("slide,mpp\na.tiff,0.25\nb.svs,-1\n", r"Row 2 of the 2 in slides.csv has the mpp '-1'"),
        ("slide\n" + "\n".join(["a.tiff"] * 8) + "\n", r"Rows 2, 3, 4, 5, 6 and 2 more of the 8 in slides.csv have"),
    ],
)
def test_a_broken_table(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_slide_list(written(folder, text))


def test_no_table(folder: Path) -> None:
    (folder / "slides.csv").write_bytes(b"\0\1\2\3")
    with pytest.raises(ValueError, match=r"slides.csv is no table of slides \(slide, and perhaps mpp"):
        read_slide_list(folder / "slides.csv")
    with pytest.raises(FileNotFoundError, match="no table of slides"):
        read_slide_list(folder / "none.csv")


def test_columns_in_other_capitals(folder: Path) -> None:
    """What is asked for is used, and patients stay text; the user's own columns keep their names."""
    found = read_slide_list(written(folder, "SLIDE,MPP, Nuclei ,Patient,Stage\nb.svs,0.274,n.csv,007,II\n"))
    assert list(found.columns) == ["slide", "mpp", "nuclei", "patient", "Stage"]
    assert found.loc[0, "mpp"] == "0.274"
    assert found.loc[0, "nuclei"] == str(folder / "n.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("slide,mpp,MPP", r"has the columns \['mpp', 'MPP'\], of which one is mpp\. Rename the others"),
        ("slide,Slide,group", r"has the columns \['slide', 'Slide'\], of which one is slide"),
        ("slide,Slide_ID,group", r"but no slide_id\. Rename slide_id"),
        ("slide,Scene,group", r"the column scene, which is not read.* --scene chooses for all"),
    ],
)
def test_columns_that_cannot_be_meant(folder: Path, header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_slide_list(written(folder, f"{header}\nb.svs,0.5,0.274\n"))
