"""``stdistill predict hf:owner/name``, from the hub to a map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import pytest
from click.testing import CliRunner
from huggingface_hub import constants

import stdistill as sd
from stdistill._cli import main


def predict(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


@pytest.fixture
def table(cells: ad.AnnData, tmp_path: Path) -> Path:
    kept = ad.AnnData(obs=cells.obs[[]], obsm=dict(cells.obsm))
    kept.write_h5ad(tmp_path / "table.h5ad")
    return tmp_path / "table.h5ad"


def test_a_student_on_the_hub(
    hub: Any,
    make_student: Callable[..., sd.models.NicheModel],
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    student = make_student()
    first = student.push_to_hub("lab/breast")
    make_student().push_to_hub("lab/breast", tissue="later")
    out = tmp_path / "out"
    done = predict(f"hf:lab/breast@{first}", table, "--out", out)
    assert done.exit_code == 0, done.output
    niches = ad.read_h5ad(out / "niches.h5ad")
    assert niches.obs["student_niche"].notna().all()
    assert niches.uns["stdistill"]["predict"]["model_sha256"] == student.sha256
    assert first in json.loads((out / "manifest.json").read_text())["asked"]["student"]
    # The same command goes on, also without network; the student of a later commit is another.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert predict(f"hf:lab/breast@{first}", table, "--out", out).exit_code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    other = predict("hf:lab/breast", table, "--out", out)
    assert other.exit_code == 1
    assert "student_sha256" in other.output


def test_what_the_command_says(hub: Any, table: Path, tmp_path: Path) -> None:
    missing = predict("hf:lab/none", table, "--out", tmp_path / "out")
    assert missing.exit_code == 1
    assert "the hub shows no repository 'lab/none'" in missing.output
    assert "Traceback" not in missing.output
    assert "named owner/name, found 'breast'" in predict("hf:breast", table).output
    folder = predict("nowhere", table)
    assert folder.exit_code == 2
    assert "does not exist" in folder.output
