from __future__ import annotations

import base64
import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import stdistill as sd
from stdistill._cli import main
from stdistill._report.cohort import write_cohort
from stdistill._report.facts import describe_run, read_tables
from stdistill._report.he import choose_shrinkage
from stdistill._report.layers import find_layers, method_title
from stdistill._report.source import read_slide
from stdistill._report.write import write_report

ODD = "</script><b>odd & 'named'</b>"
"""A niche of `finished`."""


class Page(HTMLParser):
    """What a page refers to, its text, and the tags it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.data: dict[str, Any] = {}
        self._script = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
        self._script = dict(attrs).get("id") or "code" if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script.endswith("-data"):
            self.data[self._script] = json.loads(data)
        elif not self._script:
            self.text += data


def check_links(page: Path, root: Path) -> Page:
    """All that a page refers to is beside it, or in itself; nothing is loaded from anywhere else."""
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    for link in parsed.links:
        if link.startswith("data:"):
            continue
        assert not re.match(r"[a-z]+:|//", link), link
        if link.startswith("#"):
            assert link == "#" or link[1:] in parsed.ids
            continue
        target = (page.parent / link).resolve()
        assert target.is_file(), link
        assert target.is_relative_to(root.resolve())
    for style in root.rglob("*.css"):
        assert "url(" not in style.read_text()
        assert "@import" not in style.read_text()
    return parsed


def test_folder(finished: Path, own_run: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(own_run)])
    assert result.exit_code == 0, result.output
    page = own_run / "report" / "index.html"
    assert str(page) in result.output
    parsed = check_links(page, own_run / "report")
    assert "Usable in part, with care" in parsed.text
    assert "<i>86% of the cells</i> can be trusted" in parsed.text  # as text, not as markup
    assert ODD in parsed.text
    assert "b" not in parsed.tags
    for words in ("a student", "0.274", "stdistill 0.1, python 3.12", "trusted_share", "800"):
        assert words in parsed.text
    viewer = parsed.data["viewer-data"]
    keys = [picture["key"] for picture in viewer["pictures"]]
    assert keys == ["he", "student_niche", "student_confidence", "student_ood", "outside"]
    for picture in viewer["pictures"]:
        for level, there in enumerate(picture["there"]):
            width = math.ceil(picture["width"] / 2 ** (picture["levels"] - 1 - level))
            columns = math.ceil(width / viewer["tile"])
            for number, is_there in enumerate(there):
                place = f"{number % columns}_{number // columns}.{picture['ending']}"
                assert (own_run / "report" / picture["key"] / str(level) / place).is_file() == (is_there == "1")
    assert ODD in viewer["layers"][0]["names"]
    assert {path.stem for path in (own_run / "report" / "cells").iterdir()} == set(viewer["squares"])
    licence = (own_run / "report" / "assets" / "openseadragon.LICENSE.txt").read_text()
    assert "Redistributions in binary form must reproduce the above copyright" in licence
    assert sorted(path.name for path in own_run.iterdir()) == sorted(
        [*(path.name for path in finished.iterdir()), "report"]
    )


def test_h_and_e_is_that_of_the_slide(own_run: Path) -> None:
    """The finest tile, by an independent shrinking of the pixels."""
    page = write_report(own_run)
    slide = read_slide(own_run)
    viewer = Page(page).data["viewer-data"]
    shrinkage = round(viewer["mpp"] / slide.frame.mpp)
    assert shrinkage == 2
    full = np.moveaxis(slide.levels[0].pixels[:, :1024, :1024].compute(), 0, -1).astype(float)
    expected = full.reshape(512, 2, 512, 2, 3).mean(axis=(1, 3))
    last = viewer["pictures"][0]["levels"] - 1
    found = np.asarray(Image.open(page.parent / "he" / str(last) / "0_0.jpg")).astype(float)
    assert np.abs(found - expected).mean() < 6
    assert np.abs(found.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 2


def test_cells_lie_on_the_niches_that_are_drawn(own_run: Path) -> None:
    """Places in the files of cells, colours in the tiles: both say the same of nearly all cells."""
    page = write_report(own_run)
    viewer = Page(page).data["viewer-data"]
    picture = viewer["pictures"][1]
    layer = viewer["layers"][0]
    last = picture["levels"] - 1
    scale = picture["width"] / viewer["width"]
    tiles: dict[tuple[int, int], Any] = {}
    agree = total = 0
    for name in viewer["squares"]:
        text = (page.parent / "cells" / f"{name}.js").read_text()
        content = base64.b64decode(text.split('"')[3])
        n = len(content) // (4 + len(viewer["layers"]))
        column, row = map(int, name.split("_"))
        x, y = np.frombuffer(content, "<u2", 2 * n).reshape(2, n) / viewer["parts"]
        codes = np.frombuffer(content, np.uint8, n, 4 * n)
        for px, py, code in zip(x + column * viewer["bin"], y + row * viewer["bin"], codes, strict=True):
            place = int(px * scale), int(py * scale)
            tile = place[0] // viewer["tile"], place[1] // viewer["tile"]
            if tile not in tiles:
                path = page.parent / picture["key"] / str(last) / f"{tile[0]}_{tile[1]}.png"
                tiles[tile] = np.asarray(Image.open(path).convert("RGBA"))
            color = tiles[tile][place[1] % viewer["tile"], place[0] % viewer["tile"]]
            expected = [int(layer["colors"][code - 1][at : at + 2], 16) for at in (1, 3, 5)] if code else None
            agree += (color[3] == 0) if expected is None else color[:3].tolist() == expected
            total += 1
    assert total == 800
    assert agree / total > 0.95  # cells overlap


def test_names_are_suggested(own_run: Path) -> None:
    """By the cell types, beside these; the niches keep theirs."""
    cells = ad.read_h5ad(own_run / "niches.h5ad")
    names = sd.tl.niche_profile(cells, niche_key="student_niche").names
    text = Page(write_report(own_run)).text
    assert set(names) == set(cells.obs["student_niche"].cat.categories)
    for niche, name in names.items():
        assert f"{niche}: {name}" in text
    assert "Names are suggestions" in text


def test_single_file(own_run: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(own_run), "--single-file"])
    assert result.exit_code == 0, result.output
    assert not (own_run / "report").exists()
    page = own_run / "report.html"
    parsed = check_links(page, own_run)
    assert all(link.startswith(("data:", "#")) for link in parsed.links)
    viewer, inline = parsed.data["viewer-data"], parsed.data["inline-data"]
    assert 2 <= viewer["mpp"] < 5
    for picture in viewer["pictures"]:
        n_tiles = sum(there.count("1") for there in picture["there"])
        assert n_tiles == sum(path.startswith(f"{picture['key']}/") for path in inline)
    assert ODD in parsed.text
    assert page.stat().st_size < 2**21


def test_the_h_and_e_may_be_gone(own_run: Path, tmp_path: Path) -> None:
    """The page says so and shows the niches; with the new place of the file it is as before."""
    slide = read_slide(own_run)
    image = Path(slide.manifest["asked"]["data"])
    moved = tmp_path / "moved.ome.tif"
    shutil.copy(image, moved)
    (own_run / "niches.zarr").rename(tmp_path / "elsewhere")
    table = ad.read_h5ad(own_run / "niches.h5ad")
    table.uns["stdistill"]["slide"]["path"] = str(tmp_path / "gone.tif")
    table.write_h5ad(own_run / "niches.h5ad")
    without = Page(write_report(own_run))
    assert "Shown without its H&E" in without.text
    assert "gone.tif" in without.text
    assert without.data["viewer-data"]["pictures"][0]["key"] == "student_niche"
    found = CliRunner().invoke(main, ["report", str(own_run), "--he-image", str(moved)])
    assert found.exit_code == 0, found.output
    again = Page(own_run / "report" / "index.html")
    assert again.data["viewer-data"]["pictures"][0]["key"] == "he"
    other = tmp_path / "other.tif"
    Image.fromarray(np.full((64, 64, 3), 200, dtype=np.uint8)).save(other)
    before = (own_run / "report" / "index.html").read_bytes()
    refused = CliRunner().invoke(main, ["report", str(own_run), "--he-image", str(other)])
    assert refused.exit_code == 1
    assert "is not the H&E of this slide" in refused.output
    assert (own_run / "report" / "index.html").read_bytes() == before


def test_table_without_a_slide(tmp_path: Path, make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(300, student_niche=["a", "b", None] * 100)
    cells.obs["student_niche"] = cells.obs["student_niche"].astype("category")
    cells.write_h5ad(tmp_path / "niches.h5ad")
    (tmp_path / "manifest.json").write_text(json.dumps({"command": "predict"}))
    parsed = check_links(write_report(tmp_path), tmp_path / "report")
    assert "does not say where its cells lie" in parsed.text
    assert parsed.data["viewer-data"]["pictures"][0]["key"] == "student_niche"


def test_no_niche(tmp_path: Path, own_run: Path) -> None:
    shutil.rmtree(own_run / "niches.zarr")
    table = ad.read_h5ad(own_run / "niches.h5ad")
    table.obs["student_niche"] = table.obs["student_niche"].mask(np.ones(table.n_obs, dtype=bool))
    table.obs["student_confidence"] = np.nan
    table.write_h5ad(own_run / "niches.h5ad")
    parsed = Page(write_report(own_run))
    assert "No cell of this slide has a niche" in parsed.text
    assert [picture["key"] for picture in parsed.data["viewer-data"]["pictures"]] == ["he", "student_ood"]


def test_niches_that_were_renamed(own_run: Path) -> None:
    """In the table that sd.tl.cohort reads; outlines are from the other file, of the names of before."""
    table = ad.read_h5ad(own_run / "niches.h5ad")
    last = table.obs["student_niche"].cat.categories[-1]
    table.obs["student_niche"] = table.obs["student_niche"].cat.rename_categories({last: "T cells <5 % & B"})
    table.write_h5ad(own_run / "niches.h5ad")
    with pytest.warns(UserWarning, match=r"student_niche in niches.h5ad are others than in niches.zarr.*are shown"):
        parsed = Page(write_report(own_run))
    (names,) = (each["names"] for each in parsed.data["viewer-data"]["layers"] if each["key"] == "student_niche")
    assert "T cells <5 % & B" in names
    assert "T cells <5 % & B" in parsed.text
    assert last not in names


def test_no_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path} has no niches.h5ad or cells.h5ad" in result.output


def test_a_report_that_fails_leaves_the_one_before(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_report(own_run)
    before = page.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    monkeypatch.setattr("stdistill._report.slide.write_cells", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_report(own_run)
    assert page.read_bytes() == before
    assert [path.name for path in own_run.iterdir() if path.name.startswith(".report")] == []


def test_cohort(make_cohort: Callable[[], Path]) -> None:
    cohort = make_cohort()
    result = CliRunner().invoke(main, ["report", str(cohort)])
    assert result.exit_code == 0, result.output
    report = cohort / "report"
    parsed = check_links(report / "index.html", report)
    assert "3 slides" in parsed.text
    for words in ("case", "control", "<case>", "61", "Usable in part", "c.svs is not whole", ODD):
        assert words in parsed.text
    assert "case" not in parsed.tags
    assert {"slides/a/index.html", "slides/b/index.html"} <= set(parsed.links)
    slide = check_links(report / "slides" / "a" / "index.html", report)
    assert "../../index.html" in slide.links
    moved = cohort.parent / "moved"
    report.rename(moved)
    check_links(moved / "index.html", moved)
    moved.rename(report)

    stamp = (report / "slides" / "a" / "index.html").stat().st_mtime_ns
    table = ad.read_h5ad(cohort / "slides" / "b" / "niches.h5ad")
    table.obs["new"] = 1
    table.write_h5ad(cohort / "slides" / "b" / "niches.h5ad")
    changed = (report / "slides" / "b" / "index.html").stat().st_mtime_ns
    assert CliRunner().invoke(main, ["report", str(cohort), "--single-file"]).exit_code == 0
    assert (report / "slides" / "a" / "index.html").stat().st_mtime_ns == stamp
    assert (report / "slides" / "b" / "index.html").stat().st_mtime_ns > changed
    alone = check_links(cohort / "report.html", cohort)
    assert sum(link.startswith("data:image/jpeg") for link in alone.links) == 2
    assert not [link for link in alone.links if not link.startswith(("data:", "#"))]


def test_a_slide_without_a_page_does_not_stop_the_cohort(make_cohort: Callable[[], Path]) -> None:
    cohort = make_cohort()
    shutil.rmtree(cohort / "slides" / "a" / "niches.zarr")
    (cohort / "slides" / "a" / "niches.h5ad").write_bytes(b"no table")
    result = CliRunner().invoke(main, ["report", str(cohort)])
    assert result.exit_code == 0, result.output
    assert "Warning: No page of the slide 'a'" in result.output
    parsed = check_links(cohort / "report" / "index.html", cohort / "report")
    assert "slides/a/index.html" not in parsed.links
    assert "slides/b/index.html" in parsed.links


def test_layers(finished: Path) -> None:
    slide = read_slide(finished)
    niches, confidence, ood = find_layers(slide.cells)
    assert sum(niches.sizes) == 780
    assert (niches.codes == 0).sum() == 20
    assert confidence.codes[-1] == 255
    assert ood.codes[-1] == 255  # 10 is beyond what is to be trusted
    assert ood.codes[0] == 1
    facts = describe_run(slide)
    assert facts["Command"] == "stdistill predict"
    assert facts["Cells"] == "800"
    assert "Cells that the student was fitted on" not in facts
    slide.cells.obs["student_fitted"] = np.arange(800) < 300
    assert describe_run(slide)["Cells that the student was fitted on"] == "300: no test of it"
    assert method_title("student_k10") == "Student, 10 niches"
    assert method_title("he_leiden") == "Histology-Leiden"
    assert method_title("my_kind") == "My kind"


def test_scale() -> None:
    """Not finer than 20x, not more pixels than a page can hold; a single file has a few µm per pixel."""
    mm2 = 1e6
    assert choose_shrinkage(0.25, 20 * mm2, single_file=False) == 2
    assert choose_shrinkage(0.5, 20 * mm2, single_file=False) == 1
    assert choose_shrinkage(1.0, 20 * mm2, single_file=False) == 1
    assert choose_shrinkage(0.25, 400 * mm2, single_file=False) == 4
    assert choose_shrinkage(0.25, 20 * mm2, single_file=True) == 8
    assert choose_shrinkage(0.25, 400 * mm2, single_file=True) == 32


def test_a_niche_that_is_called_na(tmp_path: Path) -> None:
    (tmp_path / "agreement.csv").write_text("key,ari\nNA,0.5\nnan,\n")
    (table,) = read_tables(tmp_path)
    assert table["rows"] == [["NA", "0.5"], ["nan", ""]]
    assert table["numeric"] == [False, True]


def test_a_cohort_of_two_students(make_cohort: Callable[[], Path]) -> None:
    """Slides of another cohort that were copied over: the page does not show their niches as one without a word."""
    cohort = make_cohort()
    for slide_id, student in (("a", "e" * 64), ("b", "f" * 64)):
        (table,) = (cohort / "slides" / slide_id).glob("*.h5ad")
        cells = ad.read_h5ad(table)
        cells.uns["stdistill"]["predict"] = {"model_sha256": student}
        cells.write_h5ad(table)
    with pytest.warns(UserWarning, match="slides are of 2 students, such as a and b: niches of one name are not the"):
        page = write_cohort(cohort).read_text()
    assert "The slides are of 2 students, such as a and b" in page
