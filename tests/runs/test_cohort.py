from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from stdistill._runs.cohort import CohortFolder, make_id

PARAMETERS = {"student_sha256": "a1"}


def listed(*paths: str, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"slide": list(paths), **columns})


def begun(path: Path, slides: pd.DataFrame, **parameters: str) -> CohortFolder:
    cohort = CohortFolder(path)
    cohort.begin(slides, command="predict", parameters={**PARAMETERS, **parameters})
    return cohort


def finish(cohort: CohortFolder, slide_id: str) -> None:
    cohort.work(slide_id).mkdir(parents=True)
    (cohort.work(slide_id) / "niches.h5ad").write_text(slide_id)
    facts = {"n_cells": 100, "n_niches": 90, "verdict": "usable", "seconds": {"nuclei": 2.0, "student": 0.5}}
    cohort.settle(slide_id, status="done", reason=None, error=None, **facts)


def test_a_new_folder(tmp_path: Path) -> None:
    slides = listed("/archive/a.svs", "/archive/b.ome.tif", patient=["007", "008"], months=["1.5", ""])
    cohort = CohortFolder(tmp_path / "cohort")
    assert cohort.begin(slides, command="predict", parameters=PARAMETERS).tolist() == ["a", "b"]
    begun_with = json.loads((tmp_path / "cohort" / "cohort.json").read_text())
    assert begun_with["command"] == "predict"
    assert begun_with["parameters"] == PARAMETERS
    assert "stdistill" in begun_with["versions"]

    found = CohortFolder.open(tmp_path / "cohort").slides
    assert found.index.tolist() == ["a", "b"]
    assert list(found.columns) == ["slide", "patient", "months"]
    assert found["patient"].tolist() == ["007", "008"]  # no numbers
    assert found["months"].iloc[0] == 1.5
    assert pd.isna(found["months"].iloc[1])
    assert cohort.statuses()["status"].tolist() == ["waiting", "waiting"]


def test_statuses(tmp_path: Path) -> None:
    cohort = begun(tmp_path, listed("/x/a.svs", "/x/b.svs", "/x/c.svs"))
    finish(cohort, "a")
    cohort.work("b").mkdir(parents=True)
    cohort.settle("b", status="failed", reason="It is truncated.", error="ValueError", seconds={"tissue": 1.0})
    found = cohort.statuses()
    assert list(found.columns) == ["status", "reason", "n_cells", "n_niches", "verdict", "seconds"]
    assert found["status"].to_dict() == {"a": "done", "b": "failed", "c": "waiting"}
    assert found.loc["a", ["n_cells", "n_niches", "verdict", "seconds"]].tolist() == [100, 90, "usable", 2.5]
    assert found.loc["b", "reason"] == "It is truncated."
    assert pd.isna(found.loc["b", "n_cells"])
    assert (cohort.result("a") / "niches.h5ad").read_text() == "a"
    assert not cohort.work("a").exists()
    assert cohort.work("b").exists()
    written = pd.read_csv(tmp_path / "status.csv", index_col="slide_id")
    assert written["status"].tolist() == ["done", "failed", "waiting"]

    cohort.forget_failure("b")
    cohort.forget_failure("a")  # which did not fail
    assert cohort.statuses()["status"].to_dict() == {"a": "done", "b": "waiting", "c": "waiting"}


def test_a_slide_is_not_done_before_its_folder_is_there(tmp_path: Path) -> None:
    """As after a kill between the two."""
    cohort = begun(tmp_path, listed("/x/a.svs"))
    finish(cohort, "a")
    cohort.result("a").rename(cohort.work("a"))
    assert cohort.statuses().loc["a", "status"] == "waiting"


def test_slides_are_added(tmp_path: Path) -> None:
    begun(tmp_path, listed("/x/a.svs", "/x/b.svs", group=["1", "2"]))
    cohort = CohortFolder(tmp_path)
    ids = cohort.begin(listed("/x/c.svs", "/x/b.svs", age=["40", "50"]), command="predict", parameters=PARAMETERS)
    assert ids.tolist() == ["c", "b"]
    found = cohort.slides
    assert found.index.tolist() == ["a", "b", "c"]
    assert found["group"].tolist()[:2] == ["1", "2"]
    assert pd.isna(found.loc["c", "group"])
    assert found.loc[["b", "c"], "age"].tolist() == [50, 40]
    again = cohort.begin(listed("/x/a.svs", group=[""]), command="predict", parameters=PARAMETERS)
    assert again.tolist() == ["a"]
    assert pd.isna(cohort.slides.loc["a", "group"])


def test_another_student(tmp_path: Path) -> None:
    begun(tmp_path, listed("/x/a.svs"))
    with pytest.raises(ValueError, match=r"other parameters \(student_sha256: 'a1', now 'b2'\)"):
        begun(tmp_path, listed("/x/a.svs"), student_sha256="b2")


def test_no_cohort(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none is no folder of a cohort: it is not there"):
        CohortFolder.open(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"it has no cohort.json and no slides.csv. Expected what `stdistill"):
        CohortFolder.open(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"but thesis.tex: name a folder that is new or empty"):
        begun(tmp_path, listed("/x/a.svs"))
    with pytest.raises(FileExistsError, match=r"but thesis.tex: name a folder"):
        begun(tmp_path / "thesis.tex", listed("/x/a.svs"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_folders_of_an_engine_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    begun(tmp_path, listed("/x/a.svs"))
    (tmp_path / "other" / "slides").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="but slides: name a folder"):
        begun(tmp_path / "other", listed("/x/a.svs"))


@pytest.mark.parametrize(
    ("path", "taken", "expected"),
    [
        ("/x/S 1 (a).ome.tiff", [], "S_1_a_"),
        ("/x/TCGA-A1.01Z.svs", [], "TCGA-A1.01Z"),
        ("/x/.hidden.svs", [], "hidden"),
        ("/x/größe.svs", [], "größe"),
        ("/y/p2/a.svs", ["a"], "p2_a"),
        ("/y/p2/A.svs", ["a"], "p2_A"),
        ("/y/p2/a.svs", ["a", "p2_a"], "y_p2_a"),
        ("/y/a.ndpi", ["a", "y_a"], "y_a_2"),
        ("/y/a.ndpi", ["a", "y_a", "y_a_2"], "y_a_3"),
    ],
)
def test_ids(path: str, taken: list[str], expected: str) -> None:
    assert make_id(Path(path), taken) == expected


BEGIN = """
import sys
import pandas as pd
from stdistill._runs.cohort import CohortFolder
slides = pd.DataFrame({"slide": [f"/x/{sys.argv[2]}-{each}.svs" for each in range(3)]})
CohortFolder(sys.argv[1]).begin(slides, command="predict", parameters={})
"""


def test_many_begin_at_once(tmp_path: Path) -> None:
    """As the tasks of an array do."""
    commands = [[sys.executable, "-c", BEGIN, str(tmp_path), str(number)] for number in range(3)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(CohortFolder.open(tmp_path).slides) == 9


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("cohort.json", "[]", r"cohort\.json is no record of a cohort \(.*it holds a list"),
        ("cohort.json", '{"command": "predict"}', r"its 'parameters' is missing"),
        (
            "status/a.json",
            '{"status": "done", "seconds": {"tissue": "long"}}',
            r"a\.json is no record .*'long'.*tried again",
        ),
        ("status/a.json", '{"status": "failed", "n_cells": "many"}', r"a\.json is no record .*its 'n_cells' is 'many'"),
        ("status/a.json", '{"status": ', r"a\.json is no record of a slide \(JSONDecodeError"),
        ("slides.csv", "slide\n/x/a.svs\n", r"slides\.csv is no table .*it has the columns \['slide'\]"),
        ("slides.csv", "slide_id,slide\n../../a,/x/a.svs\n", r"slides\.csv is no table .*the slide_id '\.\./\.\./a'"),
        ("slides.csv", "slide_id,slide\na,/x/a.svs\nA,/y/a.svs\n", r"the slide_id 'A' is there twice"),
    ],
)
def test_files_that_were_spoilt(tmp_path: Path, file: str, content: str, why: str) -> None:
    """Each is named, and what to do; and no id leads out of the folder."""
    cohort = begun(tmp_path, listed("/x/a.svs"))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=why):
        (cohort.statuses(), begun(tmp_path, listed("/x/a.svs")))


def test_slides_that_changed_since(tmp_path: Path) -> None:
    slides = [tmp_path / f"{name}.svs" for name in "abcdef"]
    for slide in slides:
        slide.write_bytes(bytes(10))
    nuclei = [tmp_path / f"{name}.csv" for name in "abcdef"]
    for file in nuclei:
        file.write_bytes(bytes(5))

    def rows(**columns: list[str]) -> pd.DataFrame:
        given = {"mpp": ["0.25"] * 5 + [""], "nuclei": [*map(str, nuclei[:5]), ""]}
        return listed(*map(str, slides), **(given | columns))

    cohort = begun(tmp_path / "cohort", rows())
    for name in "abdef":
        cohort.work(name).mkdir(parents=True)
        cohort.settle(name, status="done", reason=None, seconds={}, **cohort.inputs(name))
    finish(cohort, "c")  # by an earlier version, which did not say what it was made of
    assert cohort.changed("abcdef") == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cohort.warn_of_changes("abcdef")

    slides[0].unlink()  # put elsewhere when it was done
    slides[1].write_bytes(bytes(11))
    slides[2].write_bytes(bytes(11))
    nuclei[3].write_bytes(bytes(6))
    mpp = ["0.250", "0.25", "0.5", "0.25", "0.5", "0.25"]  # the first is the same number
    cohort = begun(tmp_path / "cohort", rows(mpp=mpp, nuclei=[*map(str, nuclei[:4]), str(nuclei[3]), ""]))
    changed = {"b": ["bytes"], "d": ["nuclei_bytes"], "e": ["mpp", "nuclei", "nuclei_bytes"], "f": ["mpp"]}
    assert cohort.changed("abcdef") == changed
    what = r"4 slides are done, and have changed since: b \(its file has another size\); d \(the file of its nuclei.*"
    with pytest.warns(UserWarning, match=rf"{what}e \(another mpp, other nuclei.*f \(another mpp\)\. Their results"):
        cohort.warn_of_changes("abcdef")
    shutil.rmtree(cohort.result("b"))
    assert "b" not in cohort.changed("abcdef")


def test_a_group_that_had_no_treatment(tmp_path: Path) -> None:
    """Who has "None" is in a group; what R and pandas write for missing is none."""
    given = {"group": ["None", "chemo", "NA"], "months": ["1.5", "NA", "3"]}
    cohort = begun(tmp_path, listed("/x/a.svs", "/x/b.svs", "/x/c.svs", **given))
    assert cohort.slides["group"].tolist()[:2] == ["None", "chemo"]
    assert cohort.slides["group"].isna().tolist() == [False, False, True]
    assert cohort.slides["months"].isna().tolist() == [False, True, False]
    assert cohort.slides["months"].dtype == float


def test_a_slide_of_the_name_of_nothing(tmp_path: Path) -> None:
    """``NA.svs`` has a name; a patient that is NA has none."""
    cohort = begun(tmp_path, listed("/x/NA.svs", "/x/None.svs", patient=["NA", "007"]))
    assert cohort.slides.index.tolist() == ["NA", "None"]
    assert cohort.slides.loc["None", "patient"] == "007"
    assert pd.isna(cohort.slides.loc["NA", "patient"])
