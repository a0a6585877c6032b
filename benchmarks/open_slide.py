"""Opening a slide of 100,000² pixels and cutting crops from it: time, memory and the size of the graph.

    python benchmarks/open_slide.py --side 100000

Writes two slides, one in tiles of 256 × 256 pixels, one in 400,000 of 16 × 512, nearly as NDPI has them (into --folder,
once: about a gigabyte at full size). Opens each in a fresh process, and reads the pixels under crops of 224 × 224, as
`embed_he` does: window by window. tifffile with zarr, crop by crop, is what is nearest to the disk.
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

import imagecodecs
import numpy as np
import tifffile

CROP = 224
N_CROPS = 2000
APERIO = (
    "Aperio Image Library v12.0.15\n{side}x{side} [0,0 {side}x{side}] (256x256) JPEG/RGB Q=90|AppMag = 40|MPP = 0.25"
)
KINDS = {"squares": (256, 256), "strips": (16, 512)}
"""Height and width of the tiles."""


def write_slide(path: Path, side: int, segment: tuple[int, int]) -> None:
    """Write a pyramid of pink tissue and glass, all tiles of which are the same bytes: it takes seconds."""
    height, width = segment
    noise = np.random.default_rng(0).normal(0, 12, (height // 16, width // 16, 1)).repeat(16, 0).repeat(16, 1)
    pixels = np.clip(np.array([225, 170, 205]) + noise, 0, 255).astype(np.uint8)
    pixels[:, : width // 8] = 238
    tile = imagecodecs.jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="YCbCr", subsampling="444")
    options = {"tile": segment, "photometric": "ycbcr", "compression": "jpeg", "subsampling": (1, 1)}

    def tiles(n: int) -> Iterator[bytes]:
        return (tile for _ in range(-(-n // height) * -(-n // width)))

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for n in (side, side // 4, side // 16, side // 64):
            words = APERIO.format(side=side) if n == side else "Aperio"
            tiff.write(tiles(n), shape=(n, n, 3), dtype=np.uint8, description=words, metadata=None, **options)


def peak_mb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def run(reader: str, path: Path) -> dict[str, Any]:
    """Open the slide, and read crops of it."""
    if reader == "stdistill":
        import stdistill as sd
        from stdistill._slide.plan import plan_crops
        from stdistill._slide.windows import read_windows
        from stdistill._table.he.images import slide_levels

        sd.pp.read_slide(path.with_name("small.svs"))  # what is loaded in any case is not counted
    else:
        import zarr

        zarr.open(tifffile.imread(path.with_name("small.svs"), aszarr=True), mode="r")
    before, start = peak_mb(), time.perf_counter()
    if reader == "stdistill":
        sdata = sd.pp.read_slide(path)
        level = slide_levels(sdata["he"], "he")[0]
        shape, n_chunks = level.shape, level.pixels.npartitions
    else:
        pixels = zarr.open(tifffile.imread(path, aszarr=True), mode="r")["0"]
        shape, n_chunks = pixels.shape[:2], int(np.prod(pixels.cdata_shape))
    opened, after_opening = time.perf_counter(), peak_mb()
    side = min(shape)
    # A piece of tissue of a tenth of the side, in which the crops lie.
    corners = np.random.default_rng(0).integers(side // 2, side // 2 + max(side // 10, CROP), (N_CROPS, 2))
    if reader == "stdistill":
        plan = plan_crops(level, np.arange(N_CROPS), corners, CROP)
        for _ in read_windows(level, plan.windows, np.full(3, 255, np.uint8)):
            pass
    else:
        for x, y in corners:
            pixels[y : y + CROP, x : x + CROP]
    return {
        "reader": reader,
        "open_seconds": opened - start,
        "open_mb": after_opening - before,
        "chunks": n_chunks,
        "crops_seconds": time.perf_counter() - opened,
        "crops_mb": peak_mb() - after_opening,
    }


def main() -> None:
    """Compare the kinds of slides, and the readers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs=2)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run(arguments.only[0], Path(arguments.only[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        write_slide(folder / "small.svs", 1024, (256, 256))
        print(f"{arguments.side} × {arguments.side} px; {N_CROPS} crops of {CROP} px")
        print(f"{'':<26}{'open, s':>9}{'open, MB':>10}{'chunks':>9}{'crops, s':>10}{'crops, MB':>11}")
        for kind, segment in KINDS.items():
            path = folder / f"{kind}.svs"
            if not path.exists():
                write_slide(path, arguments.side, segment)
            for reader in ("stdistill", "tifffile and zarr"):
                command = [sys.executable, __file__, "--only", reader, str(path)]
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"{kind + ', ' + reader:<26}{row['open_seconds']:>9.3f}{row['open_mb']:>10.1f}{row['chunks']:>9}"
                    f"{row['crops_seconds']:>10.2f}{row['crops_mb']:>11.1f}"
                )


if __name__ == "__main__":
    main()
