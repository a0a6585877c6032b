"""Reading the crops of all cells of a slide: window by window, beside loops over cells and plain decoding.

    python benchmarks/read_crops.py
    python benchmarks/read_crops.py --quick

Loops over cells through openslide and tiffslide are timed where these are installed:
`uv run --with openslide-python --with openslide-bin --with tiffslide python benchmarks/read_crops.py`.

The slide is a pyramidal OME-TIFF of JPEG tiles, of real pixels: those of `--image`, mirrored to and fro (by default
CMU-1-Small-Region of OpenSlide's freely distributable test data). Cells lie at random. The ways take turns, several
times over, and the best time of each counts, so that other work on the machine disturbs none of them more than others.

- "windows": what `sd.pp.embed_he` does before the encoder; the same with its cropping left out; both with
  the planning of the windows.
- "tiles once": every tile under a crop is decoded by tifffile with as many threads, and thrown away: the limit.
- Loops over cells are timed on a sample: of cells as they come, and of cells that are neighbours, window after window,
  where the tiles that openslide keeps in memory help it.
- `spatialdata.dataloader.ImageTilesDataset`, one item at a time, on a sample as well.

Of each way the smallest wall time and the smallest CPU time of its runs count, per crop.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch

from stdistill._features.embedder import BATCH_SIZE_CPU
from stdistill._formats.slides.open import open_slide
from stdistill._slide.crops import CropCutter
from stdistill._slide.plan import CropPlan, plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._slide.windows import read_windows

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
TILE = 512
CROP = 224
N_LEVELS = 4
WHITE = np.full(3, 255, dtype=np.uint8)
MARKS = {"best loop over cells": 10.0, "ImageTilesDataset": 100.0, "tiles once": 0.8}
"""Ours in crops per second over theirs: what is to be reached."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Way:
    """A way to read crops."""

    name: str
    read: Callable[[], None]
    n_crops: int


@dataclass(frozen=True)
class Cost:
    """What a crop costs."""

    wall_seconds: float
    cpu_seconds: float


def write_slide(path: Path, side: int, image: Pixels, *, n_levels: int = N_LEVELS) -> None:
    """Write a slide of an image that is mirrored to and fro, tile by tile."""
    height, width = (n // TILE * TILE for n in image.shape[:2])
    image = image[:height, :width]
    block = np.block([[[image], [image[:, ::-1]]], [[image[::-1]], [image[::-1, ::-1]]]])

    def tiles(n: int, step: int) -> Iterator[Pixels]:
        pixels = block[::step, ::step]
        for top in range(0, n, TILE):
            for left in range(0, n, TILE):
                rows, columns = (np.arange(at, at + TILE) for at in (top, left))
                yield pixels[np.ix_(rows % pixels.shape[0], columns % pixels.shape[1])]

    options = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}}
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.274, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.274}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level in range(n_levels):
            n = side >> level
            extra = {"subifds": n_levels - 1, "metadata": metadata} if level == 0 else {"subfiletype": 1}
            tiff.write(tiles(n, 1 << level), shape=(n, n, 3), dtype=np.uint8, **options, **extra)


def read_by_windows(level: SlideLevel, origins: npt.NDArray[np.int64], *, cut: bool) -> None:
    """Read windows, and cut their crops in batches as the embedder does."""
    plan = plan_crops(level, np.arange(len(origins)), origins, CROP)
    for window, pixels in zip(plan.windows, read_windows(level, plan.windows, WHITE), strict=True):
        if not cut:
            continue
        cutter = CropCutter(torch.from_numpy(pixels), plan, window)
        n_crops = window.stop - window.start
        bounds = np.linspace(0, n_crops, math.ceil(n_crops / BATCH_SIZE_CPU) + 1).round().astype(int)
        for start, stop in pairwise(bounds):
            cutter.cut(slice(start, stop))


def decode_tiles(path: Path, plan: CropPlan) -> None:
    """Decode every tile that a window needs once."""
    with tifffile.TiffFile(path) as tiff, ThreadPoolExecutor(os.cpu_count()) as threads:
        page = tiff.series[0].levels[0].keyframe
        n_columns = -(-page.imagewidth // page.tilewidth)
        numbers = sorted(
            {
                row * n_columns + column
                for window in plan.windows
                for row in _tiles(window.top, window.height, page.imagelength)
                for column in _tiles(window.left, window.width, page.imagewidth)
            }
        )
        segments = tiff.filehandle.read_segments(
            [page.dataoffsets[n] for n in numbers], [page.databytecounts[n] for n in numbers], numbers
        )
        for future in [threads.submit(page.decode, data, number) for data, number in segments]:
            future.result()


def _tiles(start: int, length: int, n: int) -> range:
    """Numbers of the tiles under an interval, along one direction of a slide of n pixels."""
    return range(max(start, 0) // TILE, (min(start + length, n) - 1) // TILE + 1)


def loop_over_cells(library: str, path: Path, origins: npt.NDArray[np.int64]) -> None:
    """Read crop after crop."""
    if library == "openslide":
        from openslide import OpenSlide as Slide
    else:
        from tiffslide import TiffSlide as Slide
    with Slide(path) as slide:
        for x, y in origins.tolist():
            np.asarray(slide.read_region((x, y), 0, (CROP, CROP)).convert("RGB"))


def read_by_dataset(level: SlideLevel, origins: npt.NDArray[np.int64]) -> Callable[[], None]:
    """Prepare spatialdata's dataset of tiles, and return the loop over it."""
    import anndata as ad
    import pandas as pd
    from spatialdata import SpatialData
    from spatialdata.dataloader import ImageTilesDataset
    from spatialdata.models import Image2DModel, ShapesModel, TableModel

    obs = pd.DataFrame({"region": pd.Categorical(["cells"] * len(origins)), "cell": np.arange(len(origins))})
    obs.index = obs.index.astype(str)
    table = TableModel.parse(ad.AnnData(obs=obs), region="cells", region_key="region", instance_key="cell")
    sdata = SpatialData(
        images={"he": Image2DModel.parse(level.pixels, dims=("c", "y", "x"), c_coords=("r", "g", "b"))},
        shapes={"cells": ShapesModel.parse(origins + CROP / 2, geometry=0, radius=CROP / 2)},
        tables={"table": table},
    )
    tiles = ImageTilesDataset(
        sdata,
        {"cells": "he"},
        {"cells": "global"},
        tile_dim_in_units=CROP,
        table_name="table",
        return_annotations="cell",
    )

    def read() -> None:
        for number in range(len(tiles)):
            np.asarray(tiles[number][0])

    return read


def measure(ways: list[Way], repeats: int) -> dict[str, Cost]:
    """Let the ways take turns; the best of each."""
    runs: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            start, before = time.perf_counter(), os.times()
            way.read()
            after, seconds = os.times(), time.perf_counter() - start
            cpu = after.user + after.system - before.user - before.system
            runs[way.name].append((seconds / way.n_crops, cpu / way.n_crops))
    return {name: Cost(*map(min, zip(*costs, strict=True))) for name, costs in runs.items()}


def report(ways: list[Way], costs: dict[str, Cost], loops: list[str]) -> None:
    """Print the table, and how far the marks are reached."""
    cutting, reading = costs["windows, crops cut"], costs["windows, read alone"]
    print(f"{'way':<34}{'crops':>7}{'crops/s':>9}{'CPU ms':>8}{'cut / it':>10}{'read / it':>11}{'CPU, it / cut':>15}")
    for way in ways:
        cost = costs[way.name]
        print(
            f"{way.name:<34}{way.n_crops:>7}{1 / cost.wall_seconds:>9.0f}{1000 * cost.cpu_seconds:>8.3f}"
            f"{cost.wall_seconds / cutting.wall_seconds:>10.2f}{cost.wall_seconds / reading.wall_seconds:>11.2f}"
            f"{cost.cpu_seconds / cutting.cpu_seconds:>15.2f}"
        )
    theirs = {name: costs[name].wall_seconds for name in ("ImageTilesDataset", "tiles once")}
    if loops:
        theirs["best loop over cells"] = min(costs[name].wall_seconds for name in loops)
    for name, seconds in theirs.items():
        cut, read = seconds / cutting.wall_seconds, seconds / reading.wall_seconds
        print(f"{name}: {cut:.2f} times with cropping, {read:.2f} without; the mark is {MARKS[name]:g}")


def main() -> None:
    """Compare the ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a slide of 4,096 px and 1,000 cells, once")
    parser.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    arguments = parser.parse_args()
    side, n_cells, repeats = (4096, 1000, 1) if arguments.quick else (12_000, 20_000, 3)
    n_loop, n_dataset = (100, 20) if arguments.quick else (1000, 200)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.ome.tif"
        write_slide(path, side, tifffile.imread(arguments.image, key=0))
        level = SlideLevel(open_slide(path).levels[0], np.ones(2))
        origins = np.random.default_rng(0).integers(0, side - CROP, (n_cells, 2))
        plan = plan_crops(level, np.arange(n_cells), origins, CROP)
        ways = [
            Way("windows, crops cut", lambda: read_by_windows(level, origins, cut=True), n_cells),
            Way("windows, read alone", lambda: read_by_windows(level, origins, cut=False), n_cells),
            Way("tiles once", lambda: decode_tiles(path, plan), n_cells),
            Way("ImageTilesDataset", read_by_dataset(level, origins[:n_dataset]), n_dataset),
        ]
        print(f"{side} × {side} px, JPEG tiles of {TILE}, {path.stat().st_size / 1e6:.0f} MB; {n_cells} cells")
        orders = {"as they come": origins[:n_loop], "neighbours together": origins[plan.order[:n_loop]]}
        loops = []
        for library in ("openslide", "tiffslide"):
            if find_spec(library) is None:
                print(f"{library} is not installed, and left out")
                continue
            for order, some in orders.items():
                loops.append(f"{library}, {order}")
                ways.append(Way(loops[-1], lambda lib=library, some=some: loop_over_cells(lib, path, some), n_loop))
        report(ways, measure(ways, repeats), loops)


if __name__ == "__main__":
    main()
