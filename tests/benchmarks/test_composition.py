"""Short runs of what measures cell types told from H&E."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

Run = Callable[..., str]


def test_composition(run: Run, shared_data: Path) -> None:
    table = run("composition.py", "--quick", "--data", str(shared_data)).split("correlation sd")[1]
    rows = {line.split()[-9]: line.split()[-8:] for line in table.splitlines() if line.endswith("NaN")}
    assert {"mlp", "ridge", "knn", "mean"} <= set(rows)
    assert float(rows["ridge"][0]) > 0.15  # CC: the features know of cell types
    assert float(rows["mean"][2]) == 0  # what is the same everywhere says nothing of what lies together


def test_composition_simulated(run: Run) -> None:
    means = run("composition_simulated.py", "--quick").split("\n\n")[-1]
    ridge = next(line.split() for line in means.splitlines() if line.startswith("ridge"))
    assert float(ridge[2]) > 0.1


def test_verdicts(run: Run, tmp_path: Path) -> None:
    """That of a slide without tissue is never in doubt."""
    assert "safe: " in run("verdicts.py", "--quick", "--out", str(tmp_path))
    table = pd.read_csv(tmp_path / "verdicts.csv").set_index("slide")
    assert table.loc["blank", ["expected", "verdict"]].tolist() == ["not", "not"]
    assert table["of the strip"].notna().sum() == len(table) - 1
