from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._runs.folder import Run
from stdistill._support.files import replacing


def open_run(folder: Path | None, **parameters: object) -> Run:
    return Run(folder, command="evaluate", parameters={"seed": 0, **parameters}, asked={"ks": (3,)})


def test_manifest(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", encoder="texture")
    assert not run.folder.exists()  # nothing was done yet
    assert run.step("first", lambda: 7) == 7
    run.check_input({"n_cells": 10})
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["command"] == "evaluate"
    assert manifest["parameters"] == {"seed": 0, "encoder": "texture"}
    assert manifest["asked"] == {"ks": [3]}
    assert manifest["input"] == {"n_cells": 10}
    assert {"python", "stdistill", "torch", "scanpy"} <= manifest["versions"].keys()
    assert manifest["device"].startswith(("cpu", "cuda"))
    (step,) = manifest["steps"]
    assert step["step"] == "first"
    assert step["seconds"] >= 0
    assert step["ended"].startswith("20")


def test_a_finished_step_is_loaded(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> str:
        made.append("made")
        return "made"

    assert open_run(tmp_path).step("step", make, lambda: "loaded") == "made"
    again = open_run(tmp_path)
    seconds = again.steps["seconds"].tolist()
    assert again.step("step", make, lambda: "loaded") == "loaded"
    assert made == ["made"]
    assert again.step("step", make) == "made"  # quick steps are made again, and their first time is kept
    assert again.steps["seconds"].tolist() == seconds


def tables_of(n: int = 3) -> dict[str, tuple[ad.AnnData, str]]:
    """Two tables, each with a key of its own."""
    found = {"tiles": (ad.AnnData(obs=pd.DataFrame(index=list("abc"))), "aligned")}
    return found | {"cells": (ad.AnnData(obs=pd.DataFrame(index=list("vwxyz")[:n])), "aligned_cells")}


def test_what_a_step_writes_to_several_tables_is_kept_and_read_again(tmp_path: Path) -> None:
    """And only with all of it is the step finished: of what it wrote, and of what it makes besides."""
    tried: list[Path | None] = []

    def run(tables: dict[str, tuple[ad.AnnData, str]]) -> None:
        def fit(checkpoints: Path | None) -> None:
            tried.append(checkpoints)
            for table, key in tables.values():
                table.obsm[key] = np.full((table.n_obs, 2), float(len(tried)))
            (tmp_path / "model").mkdir(parents=True, exist_ok=True)

        open_run(tmp_path).write_tables("aligned", tables, fit, makes=tmp_path / "model")

    def read() -> list[float]:
        tables = tables_of()
        run(tables)
        return [float(table.obsm[key].max()) for table, key in tables.values()]

    assert read() == read() == [1.0, 1.0]
    assert tried == [tmp_path / "checkpoints" / "aligned"]
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "steps" / "cells.h5ad").unlink()
    assert read() == read() == [2.0, 2.0]
    (tmp_path / "model").rmdir()
    assert read() == [3.0, 3.0]
    with pytest.raises(ValueError, match="is of other cells than the table"):
        run(tables_of(n=5))


def test_without_a_folder_a_step_that_writes_to_tables_is_made(tmp_path: Path) -> None:
    tried: list[Path | None] = []
    open_run(None).write_tables("aligned", tables_of(), tried.append)
    assert tried == [None]


def test_a_step_that_fails_is_not_finished(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    run = open_run(tmp_path)
    run.step("first", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        run.step("second", fail)
    assert open_run(tmp_path).steps["step"].tolist() == ["first"]


def test_other_parameters(tmp_path: Path) -> None:
    open_run(tmp_path, encoder="texture").step("first", lambda: None)
    with pytest.raises(ValueError, match=r"other parameters \(encoder: 'texture', now 'uni'\).*another folder"):
        open_run(tmp_path, encoder="uni")
    with pytest.raises(ValueError, match=r"command: 'evaluate', now 'run'"):
        Run(tmp_path, command="run", parameters={"seed": 0, "encoder": "texture"})


def test_another_slide(tmp_path: Path) -> None:
    open_run(tmp_path).check_input({"n_cells": 10, "cells": "a"})
    open_run(tmp_path).check_input({"n_cells": 10, "cells": "a"})
    with pytest.raises(ValueError, match=r"another slide or with other features \(n_cells: 10, now 11\)"):
        open_run(tmp_path).check_input({"n_cells": 11, "cells": "a"})


def test_other_versions(tmp_path: Path) -> None:
    open_run(tmp_path).step("first", lambda: None)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"python": "', '"python": "2.'))
    with pytest.warns(UserWarning, match=r"goes on with other versions \(python: '2\."):
        open_run(tmp_path)


def test_another_stdistill(tmp_path: Path) -> None:
    open_run(tmp_path).step("first", lambda: None)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"stdistill": "', '"stdistill": "0.0.'))
    with pytest.raises(ValueError, match=r"other parameters \(stdistill: '0\.0\."):
        open_run(tmp_path)


def test_a_manifest_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json of a run"):
        open_run(tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        open_run(tmp_path)
    with pytest.raises(FileExistsError):
        open_run(tmp_path / "photo.png")


def test_without_a_folder() -> None:
    run = open_run(None)
    assert run.step("first", lambda: 7) == 7
    run.check_input({"n_cells": 10})
    assert run.steps["step"].tolist() == ["first"]


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as new:
            new.write_text("ha")
            raise OSError

    with pytest.raises(OSError, match=r"^$"):
        write_half()
    assert path.read_text() == "old"
    with replacing(path) as new:
        new.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("entry", "value", "why"),
    [
        ("steps", [{"step": 3}], r"its 'step' is 3 \(int\), expected str"),
        ("steps", ["table"], "AttributeError"),
        ("versions", [], r"its 'versions' is \[\] \(list\), expected dict"),
        ("parameters", None, r"its 'parameters' is None"),
    ],
)
def test_a_manifest_that_was_changed(tmp_path: Path, entry: str, value: object, why: str) -> None:
    open_run(tmp_path).step("first", lambda: None)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(ValueError, match=rf"manifest\.json is no manifest of a run \(.*{why}.*\): name another folder"):
        open_run(tmp_path)


def test_a_manifest_that_was_cut_off(tmp_path: Path) -> None:
    open_run(tmp_path).step("first", lambda: None)
    path = tmp_path / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"manifest\.json is no manifest of a run \(JSONDecodeError"):
        open_run(tmp_path)
