from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from spatialdata import SpatialData
from spatialdata_io import xenium

import stdistill as sd

VERSIONS = ("1.0.2", "1.7.6", "2.0.0", "3.0.0", "4.0.0")


@dataclass(frozen=True)
class SimulatedSlide:
    """A simulated bundle, read from its files; tests share it, and none may change what it holds."""

    path: Path

    @cached_property
    def sdata(self) -> SpatialData:
        """The bundle as spatialdata-io reads it with all defaults; no warning may reach the user."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Readers of real bundles trigger these too: they are about the code of others, not about the data.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
            return xenium(self.path)

    @cached_property
    def truth(self) -> pd.DataFrame:
        return pd.read_parquet(self.path.parent / f"{self.path.name}_truth.parquet")

    @cached_property
    def cells(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "cells.parquet")

    @cached_property
    def centroids(self) -> np.ndarray:
        """Of the cells, in µm."""
        return self.cells[["x_centroid", "y_centroid"]].to_numpy()

    @cached_property
    def he_path(self) -> Path:
        return self.path / "simulated_he_image.ome.tif"

    @cached_property
    def he(self) -> np.ndarray:
        """The pixels of the H&E."""
        return tifffile.imread(self.he_path)

    @cached_property
    def alignment(self) -> np.ndarray:
        return pd.read_csv(self.path / "simulated_he_imagealignment.csv", header=None).to_numpy()

    def to_he(self, um: np.ndarray) -> np.ndarray:
        """Places on the slide in µm, as H&E pixels (x, y)."""
        points = np.c_[um / 0.2125, np.ones(len(um))]
        return (points @ np.linalg.inv(self.alignment).T)[:, :2]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimulatedSlide]:
    """One bundle of 700 cells in every layout, of the same tissue."""
    folder = tmp_path_factory.mktemp("layouts")
    return {
        version: SimulatedSlide(sd.datasets.simulate_xenium(folder / version, n_cells=700, seed=4, xoa_version=version))
        for version in VERSIONS
    }


@pytest.fixture(scope="session")
def outs(bundles: dict[str, SimulatedSlide]) -> SimulatedSlide:
    return bundles["3.0.0"]


@pytest.fixture(scope="session")
def other_tissue(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSlide:
    """Another tissue of the same size."""
    folder = tmp_path_factory.mktemp("other")
    return SimulatedSlide(sd.datasets.simulate_xenium(folder / "outs", n_cells=700, seed=5))


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., SimulatedSlide]:
    """Simulate a slide of one's own."""

    def run(name: str = "outs", **arguments: Any) -> SimulatedSlide:
        return SimulatedSlide(sd.datasets.simulate_xenium(tmp_path / name, **arguments))

    return run
