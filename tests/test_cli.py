from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata as ad
from click.testing import CliRunner

import stdistill as sd
from stdistill._cli import main


def test_help() -> None:
    result = CliRunner().invoke(main, ["demo", "--help"])
    assert result.exit_code == 0
    assert "--n-cells" in result.output


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from stdistill._cli import main; main(['--help'], standalone_mode=False); "
        "print([m for m in ('numpy', 'anndata', 'torch', 'spatialdata') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")


def test_demo(tmp_path: Path) -> None:
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
