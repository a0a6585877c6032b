"""The public function: seeds, files and arguments."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import tifffile

import stdistill as sd
from stdistill.datasets import _simulate
from stdistill.datasets._simulation.biology.cell_types import ALWAYS_PRESENT, ARCHETYPES
from stdistill.datasets._simulation.biology.templates import TEMPLATES
from stdistill.datasets._simulation.writing import bundle as bundle_module
from stdistill.datasets._simulation.writing.layout import LAYOUTS

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide


def test_same_seed_same_arrays(outs: SimulatedSlide, simulate: Callable[..., SimulatedSlide]) -> None:
    again = simulate(n_cells=700, seed=4)
    for name in ("cells", "cell_boundaries", "nucleus_boundaries", "transcripts"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(outs.path / f"{name}.parquet"), pd.read_parquet(again.path / f"{name}.parquet")
        )
    np.testing.assert_array_equal(outs.he, again.he)
    dapi = "morphology_focus/morphology_focus_0000.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(outs.path / dapi), tifffile.imread(again.path / dapi))
    for name in ("simulated_he_imagealignment.csv", "simulated_cell_groups.csv", "simulated_pathology.geojson"):
        assert (outs.path / name).read_bytes() == (again.path / name).read_bytes()
    pd.testing.assert_frame_equal(outs.truth, again.truth)


def test_other_seed_other_tissue(outs: SimulatedSlide, other_tissue: SimulatedSlide) -> None:
    assert not np.allclose(outs.centroids, other_tissue.centroids)
    assert set(outs.truth["niche"]) != set(other_tissue.truth["niche"])
    assert set(outs.truth["cell_type"]) != set(other_tissue.truth["cell_type"])
    genes = [set(sc.read_10x_h5(slide.path / "cell_feature_matrix.h5").var_names) for slide in (outs, other_tissue)]
    assert genes[0] != genes[1]
    assert not np.allclose(outs.alignment[:2, :2], other_tissue.alignment[:2, :2], atol=1e-4)
    colours = [slide.he.reshape(-1, 3).min(axis=0).astype(int) for slide in (outs, other_tissue)]
    assert np.abs(colours[0] - colours[1]).max() > 2


def test_returns_the_path(tmp_path: Path) -> None:
    assert sd.datasets.simulate_xenium(str(tmp_path / "deep" / "outs"), n_cells=100) == tmp_path / "deep" / "outs"
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["outs", "outs_truth.parquet"]


def test_existing_bundle_stays(tmp_path: Path) -> None:
    (tmp_path / "outs").mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
    assert list(tmp_path.iterdir()) == [tmp_path / "outs"]


def test_existing_truth_stays(tmp_path: Path) -> None:
    (tmp_path / "outs_truth.parquet").write_text("mine")
    with pytest.raises(FileExistsError, match="outs_truth"):
        sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
    assert (tmp_path / "outs_truth.parquet").read_text() == "mine"


def test_overwrite_replaces_a_simulated_bundle(simulate: Callable[..., SimulatedSlide]) -> None:
    simulate(n_cells=100, xoa_version="1.7.6")
    slide = simulate(n_cells=120, overwrite=True)
    assert len(slide.cells) == len(slide.truth) == 120
    assert not (slide.path / "morphology_mip.ome.tif").exists()


@pytest.mark.parametrize("content", [None, "not JSON", "[]", '{"run_name": "real"}'])
def test_overwrite_never_deletes_anything_else(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "outs").mkdir()
    (tmp_path / "outs" / "precious.txt").write_text("keep")
    if content is not None:
        (tmp_path / "outs" / "experiment.xenium").write_text(content)
    with pytest.raises(FileExistsError, match="is no bundle that simulate_xenium wrote"):
        sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100, overwrite=True)
    assert (tmp_path / "outs" / "precious.txt").read_text() == "keep"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(bundle_module, "write_pyramid", fail)
    with pytest.raises(error):
        sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_bundle(
    simulate: Callable[..., SimulatedSlide], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = simulate(n_cells=100)
    truth = before.truth

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(bundle_module, "write_cells_zarr", fail)
    with pytest.raises(RuntimeError):
        simulate(n_cells=100, seed=9, overwrite=True)
    after = dataclasses.replace(before)  # reads its files anew
    pd.testing.assert_frame_equal(after.truth, truth)
    assert after.sdata["table"].n_obs == 100


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_cells": 99}, ValueError, "n_cells must be at least 100, found 99"),
        ({"n_cells": 1e3}, TypeError, "n_cells must be an integer, found 1000.0"),
        ({"n_cells": "many"}, TypeError, "n_cells must be an integer, found 'many'"),
        ({"seed": -1}, ValueError, "seed must be at least 0, found -1"),
        ({"seed": None}, TypeError, "seed must be an integer, found None"),
        ({"n_niches": 1}, ValueError, "n_niches must be at least 2 and at most 26, found 1"),
        ({"n_niches": 27}, ValueError, "n_niches must be at least 2 and at most 26, found 27"),
        ({"n_cell_types": 5}, ValueError, "n_cell_types must be at least 6 and at most 22, found 5"),
        ({"n_cell_types": 23}, ValueError, "n_cell_types must be at least 6 and at most 22, found 23"),
        ({"he_mpp": 0}, ValueError, "he_mpp must be positive and finite, found 0"),
        ({"he_mpp": 0.05}, ValueError, "he_mpp must be at least 0.1 and at most 2.0 µm per pixel, found 0.05"),
        ({"he_mpp": 2.5}, ValueError, "he_mpp must be at least 0.1 and at most 2.0 µm per pixel, found 2.5"),
        ({"he_mpp": float("nan")}, ValueError, "he_mpp must be positive and finite, found nan"),
        ({"he_mpp": "0.5"}, TypeError, "he_mpp must be a number, found '0.5'"),
        ({"stain_seed": -1}, ValueError, "stain_seed must be at least 0, found -1"),
        ({"stain_seed": "pale"}, TypeError, "stain_seed must be an integer, found 'pale'"),
        ({"scanner_seed": -1}, ValueError, "scanner_seed must be at least 0, found -1"),
        ({"scanner_seed": 1.0}, TypeError, "scanner_seed must be an integer, found 1.0"),
        ({"xoa_version": "5.0.0"}, ValueError, r"1\.0\.2', '1\.7\.6', '2\.0\.0', '3\.0\.0', '4\.0\.0'\].*'5.0.0'"),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sd.datasets.simulate_xenium(tmp_path / "outs", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_documented_versions_are_those_that_can_be_written() -> None:
    assert tuple(LAYOUTS) == ("1.0.2", "1.7.6", "2.0.0", "3.0.0", "4.0.0")
    assert all(f'``"{version}"``' in sd.datasets.simulate_xenium.__doc__ for version in LAYOUTS)


def test_limits_of_the_arguments_are_those_of_the_catalogue() -> None:
    assert (ALWAYS_PRESENT, len(ARCHETYPES)) == _simulate._N_CELL_TYPES
    assert _simulate._N_NICHES[1] == 2 * len(TEMPLATES)


@pytest.mark.parametrize(
    "arguments",
    [{"n_niches": 2, "n_cell_types": 6}, {"n_niches": 26, "n_cell_types": 22}, {"n_cells": np.int64(100)}],
)
def test_extreme_arguments_work(simulate: Callable[..., SimulatedSlide], arguments: dict[str, Any]) -> None:
    truth = simulate(**{"n_cells": 150, **arguments}).truth
    assert len(truth) == arguments.get("n_cells", 150)
    assert truth["niche"].nunique() <= arguments.get("n_niches", 8)
    assert truth["cell_type"].nunique() <= arguments.get("n_cell_types", 16)


def test_importing_stays_light() -> None:
    heavy = ["numba", "tifffile", "zarr", "pandas", "pyarrow", "h5py", "scipy"]
    code = f"import sys, stdistill.datasets; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
