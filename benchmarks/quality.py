"""Tissue and quality of a simulated slide before and after it is damaged: what is found, how long it takes, a picture.

    python benchmarks/quality.py --n-cells 10000 --out quality.png

A pen stroke, a black border, a doubled band of tissue (a fold) and a blurred quarter are drawn into the H&E.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import stdistill as sd

PEN = (35, 80, 170)
FOLD_UM = 120
BLUR_UM = 1.5
SHOWN = ("tissue_share", "ink_share", "focus", "unfocused_share", "fold_share", "pen_share", "stain_distance")


def damage(pixels: npt.NDArray[np.uint8], mpp: float) -> npt.NDArray[np.uint8]:
    """Draw a pen stroke, a black border, a fold and a blurred quarter into pixels (3, height, width)."""
    _, height, width = pixels.shape
    y, x = np.ogrid[:height, :width]
    out = pixels.copy()
    out[:, : height // 2, width // 2 :] = gaussian_filter(out, (0, BLUR_UM / mpp, BLUR_UM / mpp))[
        :, : height // 2, width // 2 :
    ]
    fold = np.abs(y - 0.7 * height - 0.2 * x) * mpp < FOLD_UM / 2
    out[:, fold] = (out[:, fold].astype(float) ** 2 / 245).astype(np.uint8)
    stroke = np.abs(x - 0.12 * width - 40 / mpp * np.sin(y * mpp / 150)) * mpp < 60
    out[:, stroke] = np.array(PEN, np.uint8)[:, None]
    out[:, :, -int(100 / mpp) :] = 8
    return out


def measure(slide: SpatialData) -> dict[str, Any]:
    """Find the tissue and measure the quality of a slide."""
    start = time.perf_counter()
    sd.pp.find_tissue(slide)
    found = time.perf_counter()
    sd.pp.quality(slide)
    done = time.perf_counter()
    records = slide.attrs["stdistill"]
    return {**records["find_tissue"], **records["quality"], "seconds": (found - start, done - found)}


def draw(slide: SpatialData, path: Path) -> None:
    """Draw the slide with the outlines of its tissue, and the focus of its cells."""
    import matplotlib.pyplot as plt

    scale = list(slide["he"])[-1]
    pixels = np.moveaxis(slide["he"][scale]["image"].to_numpy(), 0, -1)
    height, width = slide["he"]["scale0"]["image"].shape[1:]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    axes[0].imshow(pixels, extent=(0, width, height, 0))
    um_to_px = np.asarray(slide["table"].uns["stdistill"]["slide"]["um_to_px"])
    for piece in slide["tissue"].geometry:
        for ring in (piece.exterior, *piece.interiors):
            px = np.asarray(ring.coords) @ um_to_px[:2, :2].T + um_to_px[:2, 2]
            axes[0].plot(*px.T, color="black", linewidth=1)
    places = sd.get.he_pixels(slide)
    dots = axes[1].scatter(places["x"], places["y"], c=slide["table"].obs["he_focus"], s=3, cmap="viridis")
    figure.colorbar(dots, ax=axes[1], label="focus of the nearest field")
    axes[0].set_title("Outlines of the tissue")
    axes[1].set_title('.obs["he_focus"]')
    for each in axes:
        each.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def main() -> None:
    """Compare the slide before and after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = sd.datasets.simulate_xenium(Path(folder) / "outs", n_cells=arguments.n_cells, seed=1)
        slide = sd.pp.read_xenium(bundle)
        mpp = slide["table"].uns["stdistill"]["slide"]["mpp"]
        before = measure(slide)
        image = Image2DModel.parse(
            damage(slide["he"]["scale0"]["image"].to_numpy(), mpp),
            dims=("c", "y", "x"),
            scale_factors=[4],
            transformations=get_transformation(slide["he"], get_all=True),
        )
        damaged = SpatialData.init_from_elements(
            {"he": image, "cell_circles": slide["cell_circles"], "table": slide["table"].copy()}
        )
        after = measure(damaged)
        print(f"{'':<20}{'before':>10}{'damaged':>10}")
        for name in SHOWN:
            print(f"{name:<20}{before[name]:>10.3f}{after[name]:>10.3f}")
        tissue, quality = after["seconds"]
        print(f"find_tissue {tissue:.1f} s, quality {quality:.1f} s, {after['n_fields']} fields")
        if arguments.out:
            draw(damaged, arguments.out)


if __name__ == "__main__":
    main()
