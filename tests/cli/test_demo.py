from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest
from click.testing import CliRunner

import stdistill as sd
import stdistill._flows.demo
import stdistill.tl._nolan
from stdistill._cli import main


def test_demo(narrow: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdistill._flows.demo, "EXPRESSION_EPOCHS", 1)
    monkeypatch.setattr(stdistill._flows.demo, "STUDENT_EPOCHS", 1)
    monkeypatch.setattr(stdistill.tl._nolan, "EPOCHS", (1, 1))
    out = tmp_path / "demo"
    result = CliRunner().invoke(main, ["demo", "--out", str(out), "--n-cells", "1000"])
    assert result.exit_code == 0, result.output
    cells = ad.read_h5ad(out / "cells.h5ad")
    assert cells.n_obs == 1000
    assert {"train", "test"} <= set(cells.obs["split"])
    assert cells.obsp["spatial_connectivities"].nnz > 0
    assert cells.obs["student_niche"].notna().any()
    assert (out / "outs_truth.parquet").is_file()
    assert {path.name for path in out.glob("*.png")} == {"crops.png", "niches.png", "training.png"}
    assert sd.models.NicheModel.load(out / "student").card.k == 8
    assert "student_niche" in result.output
    again = CliRunner().invoke(main, ["demo", "--out", str(out)])
    assert again.exit_code == 1
    assert "exists already" in again.output
