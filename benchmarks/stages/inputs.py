"""Synthetic slides of any size, written to disk once: cells, features, counts, niches and an H&E."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import anndata as ad
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import tifffile
from read_crops import write_slide
from scipy.sparse import csr_matrix, vstack
from spatialdata import SpatialData
from spatialdata.models import ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

import stdistill as sd
from stdistill._table.he.stored import write_without_images

CELLS_PER_MM2, MPP = 4500, 0.274
N_FEATURES, N_LATENT, N_GENES, COUNTS_PER_CELL = 276, 10, 300, 40
"""As many features as `"texture"` has, and a panel of a common size."""
N_NICHES, N_TYPES, N_VERTICES = 20, 18, 17
WRONG = {"teacher": 0.0, "student": 0.3, "he_nolan": 0.5, "he_leiden": 0.6}
"""Share of the cells that get a niche at random, by method."""
BLOCK = 50_000
SQUARE_PX, N_LEVELS = 1024, 6

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Inputs:
    """A slide of `n_cells` in a folder of its own, and for how many steps models are trained on it."""

    folder: Path
    n_cells: int
    n_steps: int

    def cells(self) -> ad.AnnData:
        """Read the table, without counts and graph."""
        return ad.read_h5ad(self.folder / "cells.h5ad")

    def counts(self) -> ad.AnnData:
        """Read the counts."""
        return ad.read_h5ad(self.folder / "counts.h5ad")

    def slide(self) -> SpatialData:
        """Read the H&E, with the table and an outline of each cell."""
        slide = sd.pp.read_slide(self.folder / "slide.ome.tif")
        table = self.cells()
        angles = np.linspace(0, 2 * np.pi, N_VERTICES)
        corners = table.obsm["spatial"][:, None] + 3.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners[:, -1] = corners[:, 0]
        nuclei = gpd.GeoDataFrame(geometry=shapely.polygons(corners), index=table.obs["instance_id"].to_numpy())
        to_pixels = {"um": Identity(), "global": Scale([1 / MPP, 1 / MPP], axes=("x", "y"))}
        slide["nuclei"] = ShapesModel.parse(nuclei, transformations=to_pixels)
        slide["table"] = TableModel.parse(table, region="nuclei", region_key="region", instance_key="instance_id")
        return slide

    def make(self, image: Path) -> None:
        """Write what is not there yet; the H&E is of the pixels of `image`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        side_um = 1000 * np.sqrt(self.n_cells / CELLS_PER_MM2)
        self._write("cells.h5ad", lambda path: make_cells(self.n_cells, side_um).write_h5ad(path))
        self._write("counts.h5ad", lambda path: make_counts(self.cells()).write_h5ad(path))
        side, square = round(side_um / MPP), darkest_square(image)
        self._write("slide.ome.tif", lambda path: write_slide(path, side, square, n_levels=N_LEVELS))
        self._write("run", self._write_run)
        self._write("student", self._write_student)

    def _write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write beside, and rename: what has the name is whole."""
        path, unfinished = self.folder / name, self.folder / f"unfinished_{os.getpid()}_{name}"
        if not path.exists():
            write(unfinished)
            unfinished.rename(path)

    def _write_run(self, folder: Path) -> None:
        """Write what `stdistill predict` leaves."""
        slide = self.slide()
        record = slide.attrs["stdistill"]["slide"]
        for key in ("X_he", "X_scVI"):
            del slide["table"].obsm[key]
        folder.mkdir()
        write_without_images(slide, folder / "niches.zarr")
        (folder / "manifest.json").write_text(json.dumps({"command": "predict", "asked": {"data": record["path"]}}))

    def _write_student(self, folder: Path) -> None:
        """Save a student that has seen a corner of the slide, at the usual density of cells."""
        cells = self.cells()
        some = cells[np.argsort(cells.obsm["spatial"].max(axis=1))[:1000]].copy()
        student = sd.tl.distill(some, max_steps=2, patience=None, progress_bar=False)
        student.save(folder)


def smooth_fields(centers: Floats, n: int, seed: int) -> npt.NDArray[np.float32]:
    """Values of `n` fields that vary over some hundred µm, at (cells, 2) places."""
    rng = np.random.default_rng(seed)
    angles, waves = rng.uniform(0, 2 * np.pi, (2, n)), 2 * np.pi / rng.uniform(300, 1500, n)
    return np.sin(centers @ (waves * [np.cos(angles[0]), np.sin(angles[0])]) + angles[1]).astype(np.float32)


def noisy(fields: npt.NDArray[np.float32], n: int, dtype: str) -> Floats:
    """Mix fields to `n` features with noise, block by block."""
    rng = np.random.default_rng(1)
    mixture = rng.normal(size=(fields.shape[1], n)).astype(np.float32)
    features = np.empty((len(fields), n), dtype)
    for start in range(0, len(fields), BLOCK):
        part = fields[start : start + BLOCK]
        features[start : start + BLOCK] = part @ mixture + rng.standard_normal((len(part), n), np.float32)
    return features


def make_cells(n_cells: int, side_um: float) -> ad.AnnData:
    """Make cells at random places, whose niches, types and features follow smooth fields."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, side_um, (n_cells, 2))
    fields = smooth_fields(centers, N_NICHES, seed=0)
    truth, names = fields.argmax(axis=1), [str(number) for number in range(N_NICHES)]
    obs = {"region": pd.Categorical(["nuclei"]).repeat(n_cells), "instance_id": np.arange(1, n_cells + 1)}
    for method, wrong in WRONG.items():
        codes = np.where(rng.random(n_cells) < wrong, rng.integers(0, N_NICHES, n_cells), truth)
        obs[f"{method}_niche"] = pd.Categorical.from_codes(codes, names)
    obs |= {f"teacher_logit_{number}": 4 * field for number, field in enumerate(fields.T)}
    types = (truth * 7 + rng.integers(0, 6, n_cells)) % N_TYPES
    obs["cell_type"] = pd.Categorical.from_codes(types, [f"type {number}" for number in range(N_TYPES)])
    obs["student_confidence"] = rng.beta(5, 2, n_cells).astype(np.float32)
    obs["student_ood"] = rng.lognormal(0, 0.4, n_cells).astype(np.float32)
    return ad.AnnData(
        obs=pd.DataFrame(obs, index=pd.RangeIndex(1, n_cells + 1).astype(str)),
        obsm={
            "spatial": centers,
            "X_he": noisy(fields, N_FEATURES, "float16"),
            "X_scVI": noisy(fields, N_LATENT, "float32"),
        },
    )


def make_counts(cells: ad.AnnData) -> ad.AnnData:
    """Draw counts: each type of cell has a profile of its own."""
    rng = np.random.default_rng(0)
    profiles = COUNTS_PER_CELL * rng.dirichlet(np.full(N_GENES, 0.5), N_TYPES)
    types = cells.obs["cell_type"].cat.codes.to_numpy()
    blocks = [
        csr_matrix(rng.poisson(profiles[types[start : start + BLOCK]]).astype(np.float32))
        for start in range(0, len(types), BLOCK)
    ]
    var = pd.DataFrame(index=[f"gene {number}" for number in range(N_GENES)])
    return ad.AnnData(vstack(blocks, "csr"), obs=cells.obs[["cell_type"]], var=var)


def darkest_square(path: Path) -> npt.NDArray[np.uint8]:
    """Return of an image where there is most tissue."""
    image = tifffile.imread(path, key=0)[..., :3]
    corners = product(*(range(0, n - SQUARE_PX + 1, SQUARE_PX // 8) for n in image.shape[:2]))
    squares = (image[top : top + SQUARE_PX, left : left + SQUARE_PX] for top, left in corners)
    return min(squares, key=lambda square: square.mean())
