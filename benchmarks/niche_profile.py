"""Niche profiles: time and memory on a table of the size of the paper's largest, part by part.

    python benchmarks/niche_profile.py

The table has sparse counts, cell types, logits, columns of nuclei and neighbourhoods. Parts are timed by leaving the
rest out: the markers are what counts add, the neighbours what the graph adds. Memory is what the process grows by.
"""

from __future__ import annotations

import argparse
import resource
import time

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

import stdistill as sd

N_CELLS, N_GENES, N_NICHES, N_TYPES, PER_CELL = 1_353_765, 380, 20, 18, 60
"""The last is the genes that are counted in a cell."""
PER_MM2 = 4500


def make_table(n_cells: int) -> ad.AnnData:
    """Make a slide of square niches, each of which has some genes and types more than others."""
    rng = np.random.default_rng(0)
    side = 1000 * np.sqrt(n_cells / PER_MM2)
    centers = rng.uniform(0, side, (n_cells, 2))
    column, row = (centers / side * (5, 4)).astype(int).T
    niche = 4 * column + row
    genes = rng.integers(0, N_GENES, (n_cells, PER_CELL))
    genes[:, :6] = niche[:, None] * 6 + np.arange(6)  # of its own
    places = np.arange(0, n_cells * PER_CELL + 1, PER_CELL)
    values = rng.integers(1, 4, n_cells * PER_CELL).astype(np.float32)
    counts = csr_matrix((values, genes.ravel().astype(np.int32), places), shape=(n_cells, N_GENES))
    counts.sum_duplicates()
    logits = rng.normal(size=(n_cells, N_NICHES)).astype(np.float32)
    logits[np.arange(n_cells), niche] += 9
    obs = pd.DataFrame(logits, columns=[f"student_logit_{number}" for number in range(N_NICHES)])
    obs["student_niche"] = pd.Categorical.from_codes(niche, np.arange(N_NICHES).astype(str))
    types = (niche + rng.integers(0, 6, n_cells)) % N_TYPES
    obs["cell_type"] = pd.Categorical.from_codes(types, [f"type {number}" for number in range(N_TYPES)])
    obs["area_um2"], obs["haematoxylin"] = rng.uniform(20, 60, (2, n_cells))
    obs.index = obs.index.astype(str)
    names = pd.DataFrame(index=[f"gene {number}" for number in range(N_GENES)])
    return ad.AnnData(counts, obs=obs, var=names, obsm={"spatial": centers})


def timed(adata: ad.AnnData) -> tuple[float, object]:
    """Return the seconds that a profile takes, and the profile."""
    start = time.perf_counter()
    profile = sd.tl.niche_profile(adata, niche_key="student_niche")
    return time.perf_counter() - start, profile


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Time a profile without counts and graph, with the graph, and with both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 cells")
    n_cells = 20_000 if parser.parse_args().quick else N_CELLS
    adata = make_table(n_cells)
    small = adata[:2000].copy()
    sd.pp.neighborhoods(small, n_neighbors=10)
    timed(small)  # loads and compiles scanpy and squidpy
    bare = ad.AnnData(obs=adata.obs, obsm=dict(adata.obsm))
    seconds = {"types, nuclei and cells": timed(bare)[0]}
    sd.pp.neighborhoods(adata, n_neighbors=30)
    bare.obsp, bare.uns = adata.obsp, adata.uns
    seconds["neighbours"] = timed(bare)[0] - seconds["types, nuclei and cells"]
    before = peak_mb()
    whole, profile = timed(adata)
    seconds["markers"] = whole - sum(seconds.values())
    print(f"{n_cells} cells, {N_GENES} genes, {N_NICHES} niches")
    for part, value in [*seconds.items(), ("together", whole)]:
        print(f"{part:<25}{value:>8.2f} s")
    matrix_mb = (adata.X.data.nbytes + adata.X.indices.nbytes) / 2**20
    print(f"memory grew by {peak_mb() - before:.0f} MB; the counts have {matrix_mb:.0f} MB")
    best = profile.markers.groupby("niche", sort=False).head(6)  # type: ignore[attr-defined]
    found = best["gene"].str.removeprefix("gene ").astype(int) // 6 == best["niche"].astype(int)
    print(f"{found.mean():.0%} of the first six markers are the niche's own genes")


if __name__ == "__main__":
    main()
