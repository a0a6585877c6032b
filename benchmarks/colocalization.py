"""Co-localisation: time and peak memory, the same R as peers have, and what shuffled types give.

    python benchmarks/colocalization.py
    python benchmarks/colocalization.py --quick

- `spots`: 80 types on 5,000 spots, 100 µm apart; `cells`: 30 types of 1,000,000 cells. Each in a process of its own, so
  that memories do not mix; once with the compiled code warm, as in a session that has used it, and once as a first
  call.
- Beside them the plain way, a sparse matrix of weights and a loop over the pairs of types, and esda's `Moran_BV`, of
  which a few pairs are timed and all are reckoned. esda and liana are compared where they are installed; liana wants an
  older pandas than the tests have and needs an environment of its own.
- The standard deviation of R under chance beside that of 1,000 shuffles: of both types, each on its own, which is what
  it stands for, and of one type while the other stays; and how many pairs of types that know nothing of each other have
  p < 0.05, for types that are scattered and types in patches.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix, identity
from tissue import tissue

import stdistill as sd

SPACING_UM = 100.0
PEER_PAIRS = 20


def table(values: np.ndarray, centers: np.ndarray) -> ad.AnnData:
    """Make a table of abundances."""
    adata = ad.AnnData(csr_matrix((len(values), 1)), obsm={"spatial": centers})
    adata.obsm["abundance"] = values.astype(np.float32)
    adata.uns["stdistill"] = {"abundances": {"types": [f"type {number}" for number in range(values.shape[1])]}}
    return adata


def make_spots(n_spots: int, n_types: int, patch: float = 2.0, seed: int = 0) -> ad.AnnData:
    """Make spots on a square grid with types in patches, of a standard deviation of `patch` spacings."""
    side = int(np.ceil(np.sqrt(n_spots)))
    noise = np.random.default_rng(seed).normal(size=(n_types, side, side))
    fields = gaussian_filter(noise, (0, patch, patch)).reshape(n_types, -1).T[:n_spots]
    centers = SPACING_UM * np.stack(np.divmod(np.arange(n_spots), side), axis=1)
    return table(np.exp(fields / fields.std(axis=0)), centers)


def make_cells(n_cells: int, n_types: int) -> ad.AnnData:
    """Make clustered cells in tissue with holes, and counts of their types."""
    counts = np.random.default_rng(0).poisson(0.5, (n_cells, n_types))
    return table(counts, tissue(n_cells))


def run(kind: str, n_rows: int, n_types: int) -> dict[str, float]:
    """Measure one table, beyond what the process held before; the first word of `kind` names the table."""
    adata = (make_spots if kind.startswith("spots") else make_cells)(n_rows, n_types)
    sd.tl.compare_colocalization  # noqa: B018 (loads what the function needs, which is no part of the call)
    if "first call" not in kind:
        sd.tl.colocalization(make_spots(100, 2), key="abundance")
    before = peak_mb()
    start = time.perf_counter()
    sd.tl.colocalization(adata, key="abundance")
    return {"seconds": time.perf_counter() - start, "mb": peak_mb() - before, "process_mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(kind: str, n_rows: int, n_types: int) -> dict[str, float]:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "--only", kind, "--size", str(n_rows), str(n_types)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def sparse_weights(centers: np.ndarray, length_um: float, cutoff: float) -> csr_matrix:
    """Weights of spots as a matrix that sums to n, between the neighbours of the library's graph."""
    cells = ad.AnnData(csr_matrix((len(centers), 1)), obsm={"spatial": centers})
    sd.pp.neighborhoods(cells, radius_um=length_um * np.sqrt(-2 * np.log(cutoff)))
    rows, columns = cells.obsp["spatial_connectivities"].nonzero()
    squared = ((centers[rows] - centers[columns]) ** 2).sum(axis=1)
    weights = csr_matrix((np.exp(-0.5 * squared / length_um**2), (rows, columns)), shape=2 * (len(centers),))
    weights = csr_matrix(weights + identity(len(centers)))
    return weights * (len(centers) / weights.sum())


def plain(values: np.ndarray, weights: csr_matrix) -> np.ndarray:
    """Compute R in a loop over the pairs."""
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    n, n_types = z.shape
    r = np.full((n_types, n_types), np.nan)
    for i in range(n_types):
        for j in range(i, n_types):
            r[i, j] = r[j, i] = z[:, i] @ (weights @ z[:, j]) / n
    return r


def by_esda(values: np.ndarray, weights: Any, pairs: list[tuple[int, int]]) -> list[float]:
    """Compute R of pairs as esda does, with its form of the weights, as they are."""
    from esda import Moran_BV

    return [Moran_BV(values[:, i], values[:, j], weights, transformation="o", permutations=0).I for i, j in pairs]


def by_liana(values: np.ndarray, weights: csr_matrix) -> tuple[float, float]:
    """Compute R and p of the first pair as liana does."""
    import liana

    adata = ad.AnnData(csr_matrix(values), var=pd.DataFrame(index=[f"type {i}" for i in range(values.shape[1])]))
    adata.obsp["spatial_connectivities"] = weights
    found = liana.mt.bivariate(
        adata,
        local_name=None,
        global_name="morans",
        interactions=[("type 0", "type 1")],
        complex_sep=None,
        use_raw=False,
        n_perms=0,
    )
    return float(found["morans"].iloc[0]), float(found["morans_pvals"].iloc[0])


def spreads(n_spots: int, patch: float, n_shuffles: int) -> tuple[float, float]:
    """Return the standard deviations of R under shuffles of both types and of one, by that under chance."""
    adata = make_spots(n_spots, 12, patch)
    result = sd.tl.colocalization(adata, key="abundance")
    chance = result.r.iloc[0, 1] / result.z.iloc[0, 1]
    values = adata.obsm["abundance"].astype(np.float64)
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    weights = sparse_weights(adata.obsm["spatial"], result.length_um, result.cutoff)
    lagged = weights @ z
    pairs = ~np.eye(z.shape[1], dtype=bool)
    rng = np.random.default_rng(1)
    both, one = [], []
    for _ in range(n_shuffles):
        shuffled = rng.permuted(z, axis=0)
        one.append((shuffled.T @ lagged)[pairs] / n_spots)
        both.append((shuffled.T @ (weights @ rng.permuted(z, axis=0)))[pairs] / n_spots)
    return float(np.std(both) / chance), float(np.std(one) / chance)


def significant_share(n_spots: int, patch: float, n_tables: int) -> float:
    """Return the share of the pairs of independent types whose p is below 0.05."""
    pairs = np.triu_indices(20, 1)
    tables = (make_spots(n_spots, 20, patch, seed) for seed in range(n_tables))
    p = [sd.tl.colocalization(each, key="abundance").p.to_numpy()[pairs] for each in tables]
    return float((np.concatenate(p) < 0.05).mean())


def timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Return the seconds a call takes, and its result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    """Measure, and compare with the peers that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows, types and shuffles")
    parser.add_argument("--only")
    parser.add_argument("--size", type=int, nargs=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.only:
        print(json.dumps(run(arguments.only, *arguments.size)))
        return
    sizes = (
        {"spots": (900, 12), "cells": (20_000, 6)} if arguments.quick else {"spots": (5000, 80), "cells": (10**6, 30)}
    )
    print(f"{'table':<20}{'rows':>10}{'types':>7}{'seconds':>9}{'grew, MB':>10}{'process, MB':>13}")
    kinds = ("spots", "cells") if arguments.quick else ("spots", "spots, first call", "cells", "cells, first call")
    for kind in kinds:
        size = sizes[kind.split(",")[0]]
        found = run_apart(kind, *size)
        print(
            f"{kind:<20}{size[0]:>10}{size[1]:>7}{found['seconds']:>9.2f}{found['mb']:>10.0f}{found['process_mb']:>13.0f}"
        )

    n_spots, n_types = sizes["spots"]
    adata = make_spots(n_spots, n_types)
    result = sd.tl.colocalization(adata, key="abundance")
    values = adata.obsm["abundance"].astype(np.float64)
    weights = sparse_weights(adata.obsm["spatial"], result.length_um, result.cutoff)
    n_pairs = n_types * (n_types - 1) // 2
    r = result.r.to_numpy()
    print(f"\n{'peer, spots':<32}{'seconds':>9}  largest difference")
    seconds, theirs = timed(plain, values, weights)
    print(f"{'loop over pairs':<32}{seconds:>9.2f}  R {np.abs(theirs - r).max():.1e}")
    if importlib.util.find_spec("esda"):
        pairs = [(i, i + 1) for i in range(min(PEER_PAIRS, n_types - 1))]
        w = importlib.import_module("libpysal.weights").WSP(weights).to_W(silence_warnings=True)
        by_esda(values, w, pairs[:1])  # compiles
        seconds, found = timed(by_esda, values, w, pairs)
        difference = max(abs(each - r[pair]) for each, pair in zip(found, pairs, strict=True))
        name = f"esda, {n_pairs} from {len(pairs)} pairs"
        print(f"{name:<32}{seconds * n_pairs / len(pairs):>9.2f}  R {difference:.1e}")
    if importlib.util.find_spec("liana"):
        seconds, (their_r, their_p) = timed(by_liana, values, weights)
        print(
            f"{'liana, one pair':<32}{seconds:>9.2f}  R {abs(their_r - r[0, 1]):.1e}, p {their_p:.6g} and "
            f"{result.p.iloc[0, 1]:.6g}"
        )

    n_shuffles = 100 if arguments.quick else 1000
    print(f"\nspread of R in {n_shuffles} shuffles by that under chance, {n_spots} spots, independent types")
    print(f"{'types':<20}{'both shuffled':>15}{'one shuffled':>14}{'p < 0.05':>10}")
    for name, patch in (("scattered", 0.0), ("patches of 1", 1.0), ("patches of 3", 3.0)):
        both, one = spreads(n_spots, patch, n_shuffles)
        share = significant_share(n_spots, patch, n_tables=2 if arguments.quick else 10)
        print(f"{name:<20}{both:>15.2f}{one:>14.2f}{share:>10.3f}")


if __name__ == "__main__":
    main()
