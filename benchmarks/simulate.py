"""Time and peak memory of `sd.datasets.simulate_xenium`, as one line of JSON.

    python benchmarks/simulate.py --n-cells 20000

The first run on a machine also compiles the kernels, which takes some 15 s; `--warm-up` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import stdistill as sd


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--xoa-version", default="3.0.0")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder unless given")
    parser.add_argument("--warm-up", action="store_true", help="compile the kernels first, outside of the timing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        if arguments.warm_up:
            sd.datasets.simulate_xenium(Path(temporary) / "warm_up", n_cells=500)
        start = time.perf_counter()
        bundle = sd.datasets.simulate_xenium(
            Path(temporary) / "outs",
            n_cells=arguments.n_cells,
            seed=arguments.seed,
            xoa_version=arguments.xoa_version,
        )
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    # The kernel counts in kB on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    print(
        json.dumps(
            {
                "n_cells": arguments.n_cells,
                "xoa_version": arguments.xoa_version,
                "seconds": round(seconds, 2),
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3),
                "bundle_gb": round(size / 1e9, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
