"""Opening a large H&E and reading windows of it: time, memory and pixels decoded beside spatialdata-io.

    python benchmarks/read_he.py --side 30000

Writes a tiled, pyramidal JPEG OME-TIFF (into --folder, once), then opens it in a fresh process for each reader and
reads windows of 224 × 224 pixels at random places.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

TILE = 512
WINDOW = 224
MPP = 0.274


def write_slide(path: Path, side: int) -> None:
    """Write a slide of stain-coloured noise, tile by tile."""
    rng = np.random.default_rng(0)
    base = rng.integers(-20, 20, (TILE // 8, TILE // 8, 3)).repeat(8, 0).repeat(8, 1)
    tile = np.clip(base + np.array([200, 140, 190]), 0, 255).astype(np.uint8)

    def tiles(n: int) -> Iterator[np.ndarray]:
        for number in range((-(-n // TILE)) ** 2):
            yield np.roll(tile, number * 37, axis=0)

    options = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg", "dtype": np.uint8}
    sides = [side // 2**level for level in range(5)]
    metadata = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": MPP}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level, n in enumerate(sides):
            extra = {"subifds": len(sides) - 1, "metadata": metadata} if level == 0 else {"subfiletype": 1}
            tiff.write(tiles(n), shape=(n, n, 3), **options, **extra)


def run(reader: str, path: Path, n_windows: int) -> dict[str, Any]:
    """Open the slide and read windows."""
    import dask.array  # noqa: F401 (either reader needs it, and loading it is no part of opening)

    if reader == "stdistill":
        from stdistill._formats.slides.open import open_slide
    else:
        from spatialdata_io import xenium_aligned_image
        from xarray import DataTree
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if reader == "stdistill":
        pixels = open_slide(path).levels[0]
    else:
        image = xenium_aligned_image(path, None)
        pixels = (next(iter(image["scale0"].values())) if isinstance(image, DataTree) else image).data
    opened = time.perf_counter()
    after_opening = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    corners = np.random.default_rng(0).integers(0, pixels.shape[1] - WINDOW, (n_windows, 2))
    for y, x in corners:
        pixels[:, y : y + WINDOW, x : x + WINDOW].compute(scheduler="synchronous")
    done = time.perf_counter()
    after_reading = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "reader": reader,
        "open_seconds": opened - start,
        "open_mb": (after_opening - before) / 1000,
        "seconds_per_window": (done - opened) / n_windows,
        "window_mb": (after_reading - after_opening) / 1000,
    }


def main() -> None:
    """Compare the readers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--n-windows", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run(arguments.only, arguments.folder / "slide.ome.tif", arguments.n_windows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        path = folder / "slide.ome.tif"
        if not path.exists():
            write_slide(path, arguments.side)
        print(f"{arguments.side} × {arguments.side} px, JPEG tiles of {TILE}, {path.stat().st_size / 1e6:.0f} MB")
        print(f"{'reader':<16}{'open, s':>10}{'open, MB':>10}{'window, s':>11}{'windows, MB':>13}")
        # A window of the peer decodes the whole page, so one is enough to see it.
        for reader, n_windows in (("stdistill", arguments.n_windows), ("spatialdata-io", 1)):
            command = [
                sys.executable,
                __file__,
                "--only",
                reader,
                "--folder",
                str(folder),
                "--n-windows",
                str(n_windows),
            ]
            result = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            row = json.loads(result)
            print(
                f"{row['reader']:<16}{row['open_seconds']:>10.3f}{row['open_mb']:>10.1f}"
                f"{row['seconds_per_window']:>11.4f}{row['window_mb']:>13.1f}"
            )


if __name__ == "__main__":
    main()
