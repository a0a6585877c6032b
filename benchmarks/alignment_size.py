"""Time and memory of `sd.tl.align` with cached features, by the number of cells.

    python benchmarks/alignment_size.py
    python benchmarks/alignment_size.py --cells 100000 400000 --edges stochastic none
    python benchmarks/alignment_size.py --quick

Cells lie at random, 66 to a tile of 128 µm as on the simulated slides, and are described by 10 numbers as an scVI
latent is; a tile has 1,536 features at each scale. One process for each row; `peak` is the memory of the process beyond
that of the data. With `--dense` tiles hold 200 cells, as in lymphoid tissue, of whose pairs the nearest are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PER_TILE, DENSE = 66, 200
SIDE_UM = 128.0


def make(n_cells: int, per_tile: int) -> Any:
    """Tiles in a square, with cells and features at random."""
    from stdistill.models.alignment.fit import AlignmentData
    from stdistill.models.alignment.tiles import CellGraphs

    rng = np.random.default_rng(0)
    n_tiles = max(2, n_cells // per_tile)
    corners = np.stack(np.divmod(np.arange(n_tiles), int(np.ceil(np.sqrt(n_tiles)))), axis=1) * SIDE_UM
    tile = rng.integers(0, n_tiles, n_cells)
    within = rng.uniform(0, SIDE_UM, (n_cells, 2))
    column, row = (within // (SIDE_UM / 4)).astype(int).T
    cells = rng.normal(size=(n_cells, 10)).astype(np.float32)
    graphs = CellGraphs(cells, corners[tile] + within, tile, row * 4 + column, n_tiles, radius_um=20.0, max_pairs=5000)
    images = {scale: rng.normal(size=(n_tiles, 1536)).astype(np.float16) for scale in ("micro", "meso", "macro")}
    return AlignmentData(images, graphs, np.zeros(n_tiles, dtype=np.int64), corners + SIDE_UM / 2, SIDE_UM)


def measure(n_cells: int, per_tile: int, edges: str, max_epochs: int | None) -> dict[str, Any]:
    """Fit once, in this process."""
    from stdistill.models.alignment.arguments import ALIGNMENT_DEFAULTS
    from stdistill.models.alignment.fit import fit_alignment

    data = make(n_cells, per_tile)
    before = peak_mb()
    arguments: Any = {**ALIGNMENT_DEFAULTS, "edges": edges, "max_epochs": max_epochs}
    arguments |= {"progress_bar": False, "accelerator": "cpu"}
    start = time.perf_counter()
    fitted = fit_alignment(data, np.ones(len(data.slide), dtype=bool), arguments)
    seconds = time.perf_counter() - start
    found = {"cells": n_cells, "tiles": len(data.slide), "edges": edges, "epochs": fitted.training["n_epochs"]}
    return found | {"dense tiles": fitted.training["n_dense_tiles"], "seconds": seconds, "peak MB": peak_mb() - before}


def peak_mb() -> float:
    """Largest memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 40_000, 100_000])
    parser.add_argument("--edges", nargs="+", default=["stochastic", "none"], choices=["stochastic", "all", "none"])
    parser.add_argument("--epochs", type=int, help="instead of the default for the number of tiles")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--only", action="store_true", help="one size, in this process; used by the script itself")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.cells, arguments.edges, arguments.epochs, arguments.only = [3000], ["stochastic"], 1, True
    per_tile = DENSE if arguments.dense else PER_TILE
    if arguments.only:
        print(json.dumps(measure(arguments.cells[0], per_tile, arguments.edges[0], arguments.epochs)))
        return
    rows = []
    for edges in arguments.edges:
        for n_cells in arguments.cells:
            command = [sys.executable, str(Path(__file__)), "--only", "--cells", str(n_cells), "--edges", edges]
            command += ["--dense"] if arguments.dense else []
            command += [] if arguments.epochs is None else ["--epochs", str(arguments.epochs)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    print(f"\n{pd.DataFrame(rows).round(1).to_string(index=False)}")


if __name__ == "__main__":
    main()
