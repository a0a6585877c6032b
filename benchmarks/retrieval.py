"""Ranks of partners among many tiles: time and peak memory beside the dense matrix of similarities.

    python benchmarks/retrieval.py
    python benchmarks/retrieval.py --quick

- `ranks`: the arithmetic of `sd.tl.retrieval`, both directions, in blocks; beside it the plain way, all n × n
  similarities at once, each direction compared with its diagonal. Each in a process of its own, so that memories do not
  mix, and whether both say the same.
- `retrieval`: the function with its baselines, half of the tiles being for training.

Embeddings have 384 columns, as of three scales of 128; a slide of a square centimetre has about 6,000 tiles of 128 µm.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import random as random_sparse

import stdistill as sd
from stdistill._measures.alignment.recall import TIE, partner_ranks, unit_rows

N_COLUMNS = 384


def make_views(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Make two views of tiles, as float32, of which some partners are near and some far."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(n, N_COLUMNS)).astype(np.float32)
    return one, one + 15 * rng.normal(size=one.shape).astype(np.float32)


def dense(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank with all similarities in memory."""
    similarities = unit_rows(one) @ unit_rows(other).T
    bar = np.diag(similarities) - np.float32(TIE)
    return (similarities >= bar[:, None]).sum(axis=1), (similarities >= bar).sum(axis=0)


def make_tiles(n: int) -> ad.AnnData:
    """Make a table of aligned tiles with features and counts, half of them fitted."""
    he, expression = make_views(n)
    counts = random_sparse(n, 300, 0.3, format="csr", dtype=np.float32, random_state=0)
    counts.data = np.ceil(20 * counts.data)
    obs = pd.DataFrame({"aligned_fitted": np.arange(n) % 2 == 0, "n_cells": 60 + np.arange(n) % 9})
    tiles = ad.AnnData(counts, obs=obs.set_index(obs.index.astype(str)))
    tiles.uns["stdistill"] = {"tiles": {"n_tiles": n}}
    tiles.obsm["X_aligned_he"], tiles.obsm["X_aligned_expression"] = he, expression
    tiles.obsm["X_he_macro"] = he.astype(np.float16)
    return tiles


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(method: str, n: int) -> dict[str, float]:
    """Measure one method, beyond what the process held before."""
    if method == "retrieval":
        tiles = make_tiles(n)
        before, start = peak_mb(), time.perf_counter()
        sd.tl.retrieval(tiles)
        return {"seconds": time.perf_counter() - start, "mb": peak_mb() - before}
    views = make_views(n)
    before, start = peak_mb(), time.perf_counter()
    ranks = (partner_ranks if method == "ranks" else dense)(*views)
    seconds, grew = time.perf_counter() - start, peak_mb() - before
    return {"seconds": seconds, "mb": grew, "sum": float(np.sum(ranks))}


def run_apart(method: str, n: int) -> dict[str, float]:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "--only", method, "--size", str(n)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    """Measure both ways for each number of tiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tiles")
    parser.add_argument("--only")
    parser.add_argument("--size", type=int)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.only:
        print(json.dumps(run(arguments.only, arguments.size)))
        return
    print(f"{'method':<12}{'tiles':>8}{'seconds':>10}{'grew, MB':>11}{'mean rank':>12}")
    for n in (3000,) if arguments.quick else (1000, 40_000):
        for method in ("ranks", "dense", "retrieval"):
            found = run_apart(method, n)
            mean = f"{found['sum'] / (2 * n):.2f}" if "sum" in found else ""
            print(f"{method:<12}{n:>8}{found['seconds']:>10.2f}{found['mb']:>11.0f}{mean:>12}")


if __name__ == "__main__":
    main()
