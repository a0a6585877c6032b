"""Cell types around the cells of a simulated Xenium slide, from its H&E, on a strip that was held out.

    python benchmarks/composition_simulated.py
    python benchmarks/composition_simulated.py --quick

Targets are the cell types that the simulator drew, counted within the radius of the neighbourhoods (about 50 cells);
features are those of the built-in encoder. `sd.tl.decompose` is fitted to three of four strips, without ("own") and
with the mean features of the neighbourhood ("around"), and ridge regression beside it. CC and L1 are of
`sd.tl.abundance_scores` on the strip left out, and `signs` is how many of the ten pairs of types with the largest
bivariate Moran's R in the truth there, by absolute value, have R of the same sign in the prediction. `--quick` takes a
small slide, a small network and one epoch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import stdistill as sd

N_PAIRS = 10


def read(folder: Path, n_cells: int, seed: int) -> AnnData:
    """Simulate a slide, and return its cells with features, neighbourhoods and abundances."""
    slide = sd.pp.read_xenium(sd.datasets.simulate_xenium(folder / "outs", n_cells=n_cells, seed=seed))
    sd.pp.split_strips(slide)
    sd.pp.neighborhoods(slide)
    sd.pp.embed_he(slide, encoder="texture")
    sd.pp.abundances(slide, cell_type_key="cell_type")
    return slide["table"]


def count_signs(cells: AnnData, key: str) -> int:
    """Count the strongest pairs of types that lie together, or apart, in the prediction as they do in the truth."""
    truth, predicted = (sd.tl.colocalization(cells, key=one).r.to_numpy() for one in ("abundance", key))
    pairs = np.triu_indices(len(truth), 1)
    strongest = np.argsort(-np.abs(truth[pairs]), kind="stable")[:N_PAIRS]
    return int((np.sign(truth[pairs][strongest]) == np.sign(predicted[pairs][strongest])).sum())


def main() -> None:
    """Compare the methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the slides")
    parser.add_argument("--n-cells", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    n_cells, seeds = (1000, arguments.seeds[:1]) if arguments.quick else (arguments.n_cells, arguments.seeds)
    how: dict[str, Any] = {"max_epochs": 1, "n_members": 1, "width": 64} if arguments.quick else {}
    rows = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            cells = read(Path(folder), n_cells, seed)
        for method, around in [(method, around) for method in ("mlp", "ridge") for around in (False, True)]:
            start = time.perf_counter()
            sd.tl.decompose(cells, method=method, use_neighbors=around, progress_bar=False, **how)
            seconds = time.perf_counter() - start
            scores = sd.tl.abundance_scores(cells, keys="he_abundance").query("cells == 'unseen' and type == 'all'")
            signs = count_signs(cells[cells.obs["split"] == "test"].copy(), "he_abundance")
            features = "around" if around else "own"
            rows.append((seed, method, features, *scores[["cc", "l1", "skill"]].iloc[0], signs, seconds))
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows, columns=["seed", "method", "features", "CC", "L1", "skill", "signs", "seconds"])
    print(f"\n{n_cells} cells, seeds {seeds}\n{frame.round(3).to_string(index=False)}")
    print(f"\n{frame.groupby(['method', 'features'], sort=False).mean().drop(columns='seed').round(3).to_string()}")


if __name__ == "__main__":
    main()
