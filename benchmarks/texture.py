"""The built-in encoder on all cells of a window together, beside crop by crop: speed, and how alike the features are.

    python benchmarks/texture.py
    python benchmarks/texture.py --quick

Cells lie at random, 4,500 per mm², on pixels of a real H&E that is mirrored to fill a window. Both ways take 8-bit
pixels that are in memory, and take turns; crop by crop goes some of the cells, cut and encoded in batches as
`sd.pp.embed_he` would. One thread, CPU seconds, so that other work on the machine counts less; the median and the
range of the ratios of the turns. Finer pixels mean fewer cells in a window: 0.5 and 0.274 µm. The window is a square of
2,048 px of centres, with the crops' margin around it. Likeness is Pearson's correlation over cells, feature by feature.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
import torch

import stdistill as sd
from stdistill._features.embedder import BATCH_SIZE_CPU
from stdistill._features.encoding import encode_window, prepare, run_encoder
from stdistill._slide.crops import CropCutter
from stdistill._slide.plan import CropPlan, Window
from stdistill._slide.pyramid import SlideLevel

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELLS_PER_MM2 = 4500
CROP = 224
MPPS = (0.5, 0.274)


def mirrored(image: np.ndarray, side: int) -> np.ndarray:
    """Fill a square of pixels with an image and its mirror images."""
    pad = [(0, max(0, side - size)) for size in image.shape[:2]]
    return np.ascontiguousarray(np.pad(image, [*pad, (0, 0)], mode="symmetric")[:side, :side])


def plan_window(pixels: np.ndarray, n_cells: int) -> tuple[CropPlan, Window]:
    """Lay crops at random within a window."""
    side = pixels.shape[0]
    origins = np.random.default_rng(0).integers(0, side - CROP, (n_cells, 2)).astype(float)
    level = SlideLevel(da.from_array(np.moveaxis(pixels, -1, 0)), np.ones(2))
    window = Window(0, 0, side, side, 0, n_cells)
    return CropPlan(level, np.arange(n_cells), origins, np.array([CROP, CROP]), [window]), window


def cpu_seconds(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Measure, and return what comes out."""
    start = time.process_time()
    with torch.inference_mode():
        out = work()
    return time.process_time() - start, out


def main() -> None:
    """Compare both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a window of 768 px, once")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    centres_px, repeats, n_cut = (768, 1, 32) if arguments.quick else (2048, arguments.repeats, 128)
    image = tifffile.imread(arguments.image, key=0)[..., :3]
    encoder = sd.encoders.get("texture")
    module = encoder.load()
    pixels = mirrored(image, centres_px + CROP)
    for mpp in (0.0, *MPPS):  # the first is not counted
        n_cells = max(n_cut, round(CELLS_PER_MM2 * (centres_px * (mpp or MPPS[0]) / 1000) ** 2))
        plan, window = plan_window(pixels, n_cells)
        shown, some = torch.from_numpy(pixels), slice(0, n_cut)

        def by_crops(plan: CropPlan = plan, window: Window = window, shown: torch.Tensor = shown) -> torch.Tensor:
            cutter, features = CropCutter(shown, plan, window), []
            for start in range(0, n_cut, BATCH_SIZE_CPU):
                part = slice(start, start + BATCH_SIZE_CPU)
                images = prepare(cutter.images(cutter.cut(part), part, CROP, "bilinear"), encoder)
                features.append(run_encoder(encoder, module, images, "float32"))
            return torch.cat(features)

        def by_window(plan: CropPlan = plan, window: Window = window, shown: torch.Tensor = shown) -> torch.Tensor:
            return encode_window(encoder, module, shown, plan, window, CROP, "float32")

        if not mpp:
            by_crops()
            continue
        turns = []
        for _ in range(repeats):
            (cut_s, cut), (whole_s, whole) = cpu_seconds(by_crops), cpu_seconds(by_window)
            turns.append((n_cut / cut_s, n_cells / whole_s))
        speeds = np.array(turns)
        ratios = speeds[:, 1] / speeds[:, 0]
        print(
            f"{mpp} µm per pixel, {n_cells} cells: crop by crop {np.median(speeds[:, 0]):.0f}, by window "
            f"{np.median(speeds[:, 1]):.0f} crops per CPU second; {np.median(ratios):.1f} times "
            f"({ratios.min():.1f} to {ratios.max():.1f})",
            flush=True,
        )
    alike = [float(np.corrcoef(cut[:, i], whole[some, i])[0, 1]) for i in range(cut.shape[1])]
    print(
        f"{n_cut} cells by both: correlation of features, median {np.median(alike):.3f}, lower decile "
        f"{np.quantile(alike, 0.1):.3f}; above .8: {np.mean(np.array(alike) > 0.8):.0%}"
    )


if __name__ == "__main__":
    main()
