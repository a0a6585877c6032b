"""Tiles: laying them over the cells of a slide, and embedding them at three scales, beside what one would write first.

    python benchmarks/tiles.py
    python benchmarks/tiles.py --quick

Tiles are laid in processes of their own, so that peak memories do not mix; the peak is what is taken beyond the most
that making the slide took.

- `sd.pp.tiles` on cells at random, by default 1.35 million; and on fewer, beside `spatialdata.aggregate`, which sums
  counts by shapes that are there already.
- `sd.pp.embed_tiles`, beside a loop that reads, resizes and encodes one crop after the other; with an encoder that
  costs next to nothing (mean colours), so that reading and cutting count, and with "texture". The largest difference of
  their features is shown: the loop resizes each crop from the full resolution, ours the tile, from which crops are cut.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

N_CELLS = 1_353_765
CELLS_PER_MM2 = 4500
N_GENES, COUNTS_PER_CELL = 300, 40
MPP = 0.25


def make_slide(n_cells: int, *, with_pixels: bool = False) -> SpatialData:
    """Cells at random on a square H&E of a quarter of a µm per pixel, with counts of some genes."""
    rng = np.random.default_rng(0)
    side_um = 1000 * np.sqrt(n_cells / CELLS_PER_MM2)
    centers = rng.uniform(0, side_um, (n_cells, 2))
    genes = rng.integers(0, N_GENES, n_cells * COUNTS_PER_CELL, dtype=np.int32)
    starts = np.arange(n_cells + 1) * COUNTS_PER_CELL
    counts = csr_matrix((np.ones(len(genes), np.float32), genes, starts), shape=(n_cells, N_GENES))
    obs = pd.DataFrame({"region": pd.Categorical(["cells"]).repeat(n_cells), "instance": np.arange(n_cells)})
    obs.index = obs.index.astype(str)
    strips = np.floor(4 * centers[:, 1] / side_um).astype(int)
    obs["split"] = pd.Categorical(np.where(strips == 1, "test", "train"))
    table = ad.AnnData(counts, obs=obs, obsm={"spatial": centers})
    table.var_names = [f"gene-{number}" for number in range(N_GENES)]
    side = int(side_um / MPP)
    if with_pixels:
        small = rng.integers(60, 220, (3, side // 8 + 1, side // 8 + 1), dtype=np.uint8)
        pixels = da.from_array(small.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side], chunks=(3, 512, 512))
    else:
        pixels = da.zeros((3, side, side), dtype=np.uint8, chunks=(3, 4096, 4096))
    to_um = {"global": Scale([MPP, MPP], axes=("x", "y"))}
    image = Image2DModel.parse(pixels, dims=("c", "y", "x"), c_coords=("r", "g", "b"), transformations=to_um)
    return SpatialData(
        images={"he": image},
        shapes={"cells": ShapesModel.parse(centers, geometry=0, radius=0.01, transformations={"global": Identity()})},
        tables={"table": TableModel.parse(table, region="cells", region_key="region", instance_key="instance")},
    )


def lay(method: str, n_cells: int) -> dict[str, Any]:
    """Lay tiles over a slide, and measure."""
    import stdistill as sd

    slide = make_slide(n_cells)
    sd.pp.tiles(make_slide(1000), min_cells=1)  # everything is imported
    if method == "spatialdata.aggregate":
        import spatialdata

        sd.pp.tiles(slide)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if method == "sd.pp.tiles":
        sd.pp.tiles(slide)
    else:
        found = spatialdata.aggregate(
            values_sdata=slide,
            values="cells",
            by_sdata=slide,
            by="tiles_squares",
            value_key=slide["table"].var_names.tolist(),
            agg_func="sum",
            table_name="table",
        )
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    result = {"seconds": seconds, "mb": peak, "n_tiles": slide["tiles"].n_obs}
    if method == "spatialdata.aggregate":
        sums = next(iter(found.tables.values())).X
        result["apart"] = float(abs(csr_matrix(sums) - slide["tiles"].X).max())
    return result


def embed(n_cells: int) -> list[tuple[str, str, int, float, float]]:
    """Embed the tiles of a slide in both ways, the loop some of them: method, encoder, crops, seconds, difference."""
    import stdistill as sd

    slide, warm = make_slide(n_cells, with_pixels=True), make_slide(200, with_pixels=True)
    sd.pp.tiles(slide, split_key=None)
    sd.pp.tiles(warm, split_key=None, min_cells=1)
    tiles = slide["tiles"]
    colour = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    colour_64 = sd.encoders.from_module(colour, mean=(0, 0, 0), std=(1, 1, 1), input_px=64, name="colour")
    rows = []
    for encoder in (colour_64, sd.encoders.get("texture")):
        sd.pp.embed_tiles(warm, encoder=encoder, device="cpu")  # everything is imported
        start = time.perf_counter()
        sd.pp.embed_tiles(slide, encoder=encoder, device="cpu")
        rows.append(("sd.pp.embed_tiles", encoder.name, 21 * tiles.n_obs, time.perf_counter() - start, 0.0))
        some = range(min(tiles.n_obs, 10))
        start = time.perf_counter()
        features = np.stack([loop(slide, row, encoder)[0] for row in some])
        seconds = time.perf_counter() - start
        apart = np.abs(features - tiles.obsm["X_he_micro"][list(some)]).max()
        rows.append(("one crop at a time", encoder.name, 21 * len(some), seconds, float(apart)))
    return rows


def loop(slide: SpatialData, row: int, encoder: Any) -> list[np.ndarray]:
    """Read, resize and encode the crops of a tile one by one: the means over 16, 4 and 1."""
    module, image = encoder.load(), slide["he"]
    side = round(slide["tiles"].uns["stdistill"]["tiles"]["tile_um"] / MPP)
    left, top = np.round(slide["tiles"].obsm["spatial"][row] / MPP - side / 2).astype(int)
    means = []
    for n in (4, 2, 1):
        features, small = [], side // n
        for i in range(n):
            for j in range(n):
                rows, columns = slice(top + i * small, None), slice(left + j * small, None)
                crop = image[:, rows.start : rows.start + small, columns.start : columns.start + small].values
                pixels = torch.from_numpy(crop)[None].float() / 255
                to = encoder.input_px or 256 // n
                resized = torch.nn.functional.interpolate(pixels, (to, to), mode="bilinear", antialias=True)
                with torch.inference_mode():
                    features.append(module(resized)[0].numpy())
        means.append(np.mean(features, axis=0))
    return means


def run_apart(*words: str) -> Any:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "--only", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Measure both, beside the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 cells, and the tiles of 4,000 to embed")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        warnings.simplefilter("ignore")
        logging.disable(logging.INFO)
        torch.set_num_threads(1)
        what, *words = arguments.only
        print(json.dumps(lay(words[0], int(words[1])) if what == "lay" else embed(int(words[0]))))
        return
    sizes = [20_000] if arguments.quick else [100_000, N_CELLS]
    print(f"{'method':<24}{'cells':>10}{'tiles':>8}{'seconds':>9}{'peak MB':>9}  largest difference")
    for n_cells in sizes:
        for method in ("sd.pp.tiles", "spatialdata.aggregate"):
            if method == "spatialdata.aggregate" and n_cells == N_CELLS:
                continue
            found = run_apart("lay", method, str(n_cells))
            apart = f"{found['apart']:g}" if "apart" in found else ""
            numbers = f"{n_cells:>10}{found['n_tiles']:>8}{found['seconds']:>9.2f}{found['mb']:>9.0f}"
            print(f"{method:<24}{numbers}  {apart}")
    print(f"{'method':<24}{'encoder':>10}{'crops':>8}{'seconds':>9}{'crops/s':>9}  largest difference")
    for method, encoder, n_crops, seconds, apart in run_apart("embed", "4000" if arguments.quick else "5000"):
        print(f"{method:<24}{encoder:>10}{n_crops:>8}{seconds:>9.2f}{n_crops / seconds:>9.0f}  {apart:.2g}")


if __name__ == "__main__":
    main()
