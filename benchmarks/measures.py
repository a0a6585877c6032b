"""Measures: time and memory on a table of the size of the paper's largest, beside the plain ways.

    python benchmarks/measures.py

The table has three methods beside the teacher, a split, cell types, and an expression matrix that takes up memory only
once somebody reads it: the growth of the process shows that nobody does. The plain ways are timed for one method, the
random pairings from 100 of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

import stdistill as sd

N_CELLS, N_GENES, N_NICHES, N_TYPES = 1_353_765, 380, 20, 18
METHODS = ("student", "he_nolan", "he_leiden")


def make_table(n_cells: int) -> ad.AnnData:
    """Make labels of a teacher, of methods wrong for 30 to 60 % of the cells, and cell types that follow it."""
    rng = np.random.default_rng(0)
    names = np.arange(N_NICHES).astype(str)
    teacher = rng.integers(0, N_NICHES, n_cells)
    obs = {"teacher_niche": teacher}
    for method, wrong in zip(METHODS, (0.3, 0.5, 0.6), strict=True):
        obs[f"{method}_niche"] = np.where(rng.random(n_cells) < wrong, rng.integers(0, N_NICHES, n_cells), teacher)
    split = rng.choice(3, n_cells, p=[0.68, 0.3, 0.02])
    for key in obs:
        obs[key] = np.where(split == 2, -1, obs[key])
    columns = {key: pd.Categorical.from_codes(codes, names) for key, codes in obs.items()}
    columns["split"] = pd.Categorical.from_codes(split, ["train", "test", "buffer"])
    types = (teacher * 7 + rng.integers(0, 6, n_cells)) % N_TYPES
    columns["cell_type"] = pd.Categorical.from_codes(types, np.arange(N_TYPES).astype(str))
    frame = pd.DataFrame(columns, index=pd.RangeIndex(n_cells).astype(str))
    return ad.AnnData(np.zeros((n_cells, N_GENES), dtype=np.float32), obs=frame)


def plain_composition(adata: ad.AnnData) -> pd.DataFrame:
    """Count with one mask per niche, on strings."""
    types = adata.obs["cell_type"].astype(str)
    niches = adata.obs["student_niche"].astype(object)
    return pd.DataFrame({name: types[niches == name].value_counts(normalize=True) for name in niches.dropna().unique()})


def plain_pairings(adata: ad.AnnData, n_pairings: int) -> list[float]:
    """Compute the divergences of each random pairing anew."""
    compositions = [
        sd.tl.composition(adata, niche_key=f"{method}_niche", cell_type_key="cell_type").to_numpy()
        for method in ("teacher", "student")
    ]
    rng = np.random.default_rng(0)
    means = []
    for _ in range(n_pairings):
        order = rng.permutation(N_NICHES)
        pairs = zip(compositions[0], compositions[1][order], strict=True)
        means.append(float(np.mean([jensenshannon(p, q, 2) ** 2 for p, q in pairs])))
    return means


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Time the measures and the plain ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50,000 cells")
    n_cells = 50_000 if parser.parse_args().quick else N_CELLS
    adata = make_table(n_cells)
    sd.tl.agreement(adata[:1000])  # loads scikit-learn
    before = peak_mb()
    ours = {
        "agreement": timed(lambda: sd.tl.agreement(adata)),
        "composition": timed(lambda: sd.tl.composition(adata, niche_key="student_niche", cell_type_key="cell_type")),
        "composition_jsd": timed(lambda: sd.tl.composition_jsd(adata, cell_type_key="cell_type")),
    }
    grown = peak_mb() - before
    plain = {
        "composition": timed(lambda: plain_composition(adata))[0],
        "composition_jsd": timed(lambda: plain_pairings(adata, 100))[0] * 100,
    }
    matrix_mb = adata.X.nbytes / 2**20
    print(f"{n_cells} cells, {N_NICHES} niches, {N_TYPES} cell types, {len(METHODS)} methods, 10,000 random pairings")
    print(f"{'measure':<20}{'seconds':>9}{'plain':>9}")
    for name, (seconds, _) in ours.items():
        print(f"{name:<20}{seconds:>9.2f}" + (f"{plain[name]:>9.2f}" if name in plain else f"{'':>9}"))
    print(f"{'together':<20}{sum(seconds for seconds, _ in ours.values()):>9.2f}")
    print(f"memory grew by {grown:.0f} MB; the expression matrix has {matrix_mb:.0f} MB")
    print(ours["agreement"][1].round(3).to_string(index=False))
    print(ours["composition_jsd"][1].summary.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
