"""Explanations where it is known what decides: do they find it, and how long do they take.

    python benchmarks/explain.py
    python benchmarks/explain.py --methods shapley --n-explained 20
    python benchmarks/explain.py --speed
    python benchmarks/explain.py --figure docs/_static/explain.png --seeds 10
    python benchmarks/explain.py --quick

A tissue has six types of cells in one mixture everywhere, and in patches, niche A, a seventh type among them. That type
is all that A and B differ by; features of a cell tell its type with some noise. A student learns the niches on one
section, and cells of another section of the same tissue are explained that it sees in A, rightly.

- precision: share of the seventh type among the five cells that add most, and among as many as there are of that type
  around a cell (R-precision); beside it their share among all cells around, which is what chance finds.
- deletion: probability of A without the cells that add most, and without as many random ones, mean over the cells, at
  each of the 9 steps between all cells and none: at how many steps it is lower, and by how much at the closest.
- `beaten`: share of random orders whose curve is clearly higher, mean over the cells. Completeness: mean error, in
  log-odds, against the mean of what lies between the answer and the baseline.

`--speed` explains 1,000 cells of 60 neighbours by a student of the default size and as many features as UNI2-h has,
with two threads, and says how long it took.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter

import stdistill as sd

N_TYPES = 7
DECIDING = f"type {N_TYPES - 1}"
SHARE = 0.15
"""Of the deciding type in A."""
SIDE_PER_CELL_UM = 10.0
N_FEATURES = 32
NOISE = 0.5
"""Of features, whose types lie about √2 apart."""
N_NEIGHBORS = 60
STUDENT = {"progress_bar": False, "accelerator": "cpu"}
NARROW = {"max_epochs": 8, "width": 32, "learning_rate": 3e-3}
"""A student that learns on a CPU in a minute."""
N_FEATURES_SPEED = 1536
"""As many as UNI2-h has."""


def simulate(n_cells: int, tissue: int, section: int, n_features: int = N_FEATURES) -> ad.AnnData:
    """Make a section of a tissue: its types look the same in each, they lie elsewhere."""
    look = np.random.default_rng((tissue, 0)).normal(size=(N_TYPES, n_features)) / np.sqrt(n_features)
    mixture = np.random.default_rng((tissue, 1)).dirichlet(np.full(N_TYPES - 1, 4.0))
    rng = np.random.default_rng((tissue, 2, section))
    side = SIDE_PER_CELL_UM * np.sqrt(n_cells)
    centers = rng.uniform(0, side, (n_cells, 2))
    field = gaussian_filter(rng.normal(size=(64, 64)), 64 * 90 / side, mode="wrap")
    column, row = (centers / side * 64).astype(int).T
    in_a = (field > np.median(field))[row, column]
    types = rng.choice(N_TYPES - 1, n_cells, p=mixture)
    types[in_a & (rng.random(n_cells) < SHARE)] = N_TYPES - 1
    features = look[types] + rng.normal(0, NOISE / np.sqrt(n_features), (n_cells, n_features))
    cells = ad.AnnData(
        np.zeros((n_cells, 1), np.float32), obsm={"spatial": centers, "X_he": features.astype("float16")}
    )
    cells.obs["truth"] = pd.Categorical(np.where(in_a, "A", "B"))
    cells.obs["cell_type"] = pd.Categorical.from_codes(types, [f"type {number}" for number in range(N_TYPES)])
    return cells


def prepare(n_cells: int, seed: int, n_neighbors: int = N_NEIGHBORS) -> tuple[ad.AnnData, sd.models.NicheModel]:
    """Fit a student on one section, and let it predict another."""
    paired, other = (simulate(n_cells, seed, section) for section in (0, 1))
    sd.pp.neighborhoods(paired, n_neighbors=n_neighbors)
    student = sd.tl.distill(paired, teacher_key="truth", seed=seed, **STUDENT, **NARROW)
    sd.tl.predict(other, student)
    return other, student


def choose(cells: ad.AnnData, n_explained: int, seed: int) -> np.ndarray:
    """Choose cells that are rightly seen in A, with five cells of the deciding type around them at least."""
    right = (cells.obs["student_niche"].astype(str) == "A") & (cells.obs["truth"] == "A")
    around = cells.obsp["spatial_connectivities"] @ (cells.obs["cell_type"] == DECIDING).to_numpy(float)
    names = cells.obs_names[right & (around >= 5)].to_numpy()
    return np.random.default_rng(seed).choice(names, min(n_explained, len(names)), replace=False)


def draw(path: str, n_cells: int, seed: int) -> None:
    """Draw the explanation of one cell."""
    cells, student = prepare(n_cells, seed)
    (name,) = choose(cells, 1, seed)
    found = sd.tl.explain(cells, student, cells=[name], label_key="cell_type")
    sd.pl.explain(cells, found, cell=name, size_um=5, save=path)


def measure(
    cells: ad.AnnData, student: sd.models.NicheModel, method: str, n_explained: int, seed: int
) -> dict[str, Any]:
    """Explain cells, and compare with the truth."""
    names = choose(cells, n_explained, seed)
    start = time.perf_counter()
    found = sd.tl.explain(cells, student, cells=names, method=method, label_key="cell_type", seed=seed)
    seconds = time.perf_counter() - start
    is_deciding = (found.neighbors["label"] == DECIDING).astype(float)
    rank = found.neighbors.groupby("cell", sort=False).cumcount()
    n_deciding = is_deciding.groupby(found.neighbors["cell"]).transform("sum")
    curves = found.deletion.groupby("removed")[["probability", "random"]].mean().iloc[1:-1]
    below = curves["random"] - curves["probability"]
    span = found.cells["log_odds"] - found.cells["baseline"]
    return {
        "explained": len(names),
        "accuracy": (cells.obs["student_niche"].astype(str) == cells.obs["truth"].astype(str)).mean(),
        "precision of 5": is_deciding[rank < 5].mean(),
        "R-precision": is_deciding[rank < n_deciding].mean(),
        "by chance": is_deciding.mean(),
        "steps below": (below > 0).mean(),
        "least below": below.min(),
        "area": found.cells["deletion_area"].mean(),
        "random area": found.cells["random_area"].mean(),
        "beaten": found.cells["beaten"].mean(),
        "completeness error": found.cells["completeness_error"].abs().mean() / span.abs().mean(),
        "seconds": seconds,
    }


def measure_speed(method: str, n_explained: int) -> None:
    """Explain cells of a section with two threads."""
    torch.set_num_threads(2)
    cells = simulate(2000, 0, 0, N_FEATURES_SPEED)
    sd.pp.neighborhoods(cells, n_neighbors=N_NEIGHBORS)
    student = sd.tl.distill(cells, teacher_key="truth", max_epochs=1, **STUDENT)
    n_neighbors = np.diff(cells.obsp["spatial_connectivities"].indptr)
    nearest = np.argsort(np.abs(n_neighbors - N_NEIGHBORS), kind="stable")[:n_explained]
    sd.tl.explain(cells, student, cells=cells.obs_names[:1], method=method)  # loads and compiles
    start, used = time.perf_counter(), time.process_time()
    sd.tl.explain(cells, student, cells=cells.obs_names[nearest], method=method)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{method}: {n_explained} cells of {n_neighbors[nearest].mean():.1f} neighbours in {seconds:.1f} s "
        f"({used:.1f} s of a CPU), "
        f"{torch.get_num_threads()} threads, peak {peak:.1f} GiB"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["integrated_gradients", "leave_one_out"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-cells", type=int, default=2000)
    parser.add_argument("--n-neighbors", type=int, default=N_NEIGHBORS)
    parser.add_argument("--n-explained", type=int, help="by default 200, for --speed 1,000")
    parser.add_argument("--speed", action="store_true", help="measure time, and nothing else")
    parser.add_argument("--figure", help="draw one cell, and measure nothing")
    parser.add_argument("--quick", action="store_true", help="one small slide")
    options = parser.parse_args()
    options.n_explained = options.n_explained or (1000 if options.speed else 200)
    if options.speed:
        for method in options.methods:
            measure_speed(method, options.n_explained)
        return
    if options.figure:
        draw(options.figure, options.n_cells, options.seeds[0])
        return
    if options.quick:
        options.seeds, options.n_cells, options.n_explained = options.seeds[:1], 600, 10
        options.n_neighbors = 25
        NARROW.update(width=16, learning_rate=1e-2)
    rows = []
    for seed in options.seeds:
        cells, student = prepare(options.n_cells, seed, options.n_neighbors)
        for method in options.methods:
            found = measure(cells, student, method, options.n_explained, seed)
            rows.append({"method": method, "seed": seed, **found})
            print(method, seed, ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    table = pd.DataFrame(rows).drop(columns="seed").groupby("method", sort=False)
    print("\n" + table.mean().T.round(3).to_string())
    print("\nspread (standard deviation over the seeds)\n" + table.std().T.round(3).to_string())


if __name__ == "__main__":
    main()
