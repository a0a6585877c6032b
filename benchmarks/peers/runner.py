"""What scripts of this folder have in common: they are run on a slide, and write niches, seconds and memory.

It is loaded in the environments of the packages that are compared, and needs none of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

KIB_PER_GIB = 2**20

Method = Callable[[Any, str, int, int], Any]
"""Table, key of the latent, number of niches, seed → niche of each cell."""


def run_all(method: Method, cells: Any, latents: list[str], k: int, seeds: list[int]) -> list[dict[str, Any]]:
    """Run a method with each latent and seed; a row of each."""
    rows = []
    for latent in latents:
        for seed in seeds:
            start = time.perf_counter()
            niches = method(cells.copy(), latent, k, seed)
            seconds = time.perf_counter() - start
            rows.append({"latent": latent, "seed": seed, "seconds": seconds, "niches": [str(each) for each in niches]})
    return rows


def main(method: Method, package: str) -> None:
    """Read the slide, run the method as the command line says, and write JSON."""
    import anndata

    parser = argparse.ArgumentParser()
    parser.add_argument("slide", type=Path)
    parser.add_argument("--latents", nargs="+", required=True)
    parser.add_argument("--k", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cells = anndata.read_h5ad(arguments.slide)
    rows = run_all(method, cells, arguments.latents, arguments.k, arguments.seeds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    found = {"version": f"{package} {version(package)}", "memory_gib": peak, "rows": rows}
    arguments.out.write_text(json.dumps(found))
