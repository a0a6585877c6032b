"""Whether a teacher sees niches that differ by arrangement alone, which no mean of a neighbourhood shows.

    python benchmarks/teacher_arrangement.py
    python benchmarks/teacher_arrangement.py --quick

Four niches, of two pairs of cell types in equal shares: each pair once mixed at random and once in layers, in a
checkerboard of squares. The latent of a cell is its type's place, with noise. What sees shares alone finds the pairs,
whose ARI with the four niches is .5 ("the two pairs"); what sees arrangement finds more. `sd.tl.nolan` beside
`sd.tl.kmeans_niches`, both for four niches.
"""

from __future__ import annotations

import argparse

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import stdistill as sd

CELLS_PER_MM2 = 4_500
SQUARES = 4
"""Along each side of the tissue."""
N_DIMS = 10
NOISE = 0.5
"""Of the latent, beside places of types that are 1 apart or more."""
METHODS = {"teacher": "teacher", "k-means": "kmeans"}


def make_tissue(n_cells: int, layer_um: float, seed: int) -> ad.AnnData:
    """Draw cells with their latent, their niche, and the pair of types of it."""
    rng = np.random.default_rng(seed)
    side = 1e3 * np.sqrt(n_cells / CELLS_PER_MM2)
    centers = rng.uniform(0, side, (n_cells, 2))
    column, row = (centers * SQUARES / side).astype(int).T
    pair, is_layered = (column + row) % 2, (row // 2 + column // 2) % 2 == 1
    layer = (centers[:, 1] // layer_um).astype(int) % 2
    kind = 2 * pair + np.where(is_layered, layer, rng.integers(0, 2, n_cells))
    places = rng.normal(size=(4, N_DIMS))
    tissue = ad.AnnData(np.zeros((n_cells, 1), np.float32), obsm={"spatial": centers})
    tissue.obsm["X_scVI"] = (places[kind] + rng.normal(scale=NOISE, size=(n_cells, N_DIMS))).astype(np.float32)
    tissue.obs["niche"], tissue.obs["pair"] = pair + 2 * is_layered, pair
    return tissue


def compare(layer_um: float, seed: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """Fit both to one tissue."""
    tissue = make_tissue(options.n_cells, layer_um, seed)
    truth = tissue.obs["niche"]
    sd.pp.neighborhoods(tissue)
    sd.tl.nolan(tissue, k=4, max_epochs=options.epochs, seed=seed, progress_bar=False)
    sd.tl.kmeans_niches(tissue, k=4, seed=seed)
    found = {name: tissue.obs[f"{key}_niche"] for name, key in METHODS.items()} | {"the two pairs": tissue.obs["pair"]}
    return [
        {
            "layers, µm": layer_um,
            "seed": seed,
            "method": name,
            "ARI": adjusted_rand_score(truth, niches),
            "NMI": normalized_mutual_info_score(truth, niches),
        }
        for name, niches in found.items()
    ]


def main() -> None:
    """Compare on tissues with layers of several widths, and print means and spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-cells", type=int, default=6_000)
    parser.add_argument("--layers-um", type=float, nargs="+", default=[20, 40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of the teacher, by default its default")
    parser.add_argument("--quick", action="store_true", help="few cells, one tissue, two epochs")
    options = parser.parse_args()
    if options.quick:
        options.n_cells, options.layers_um, options.seeds, options.epochs = 1_000, [20], [0], 2
    rows = pd.DataFrame(
        [row for layer_um in options.layers_um for seed in options.seeds for row in compare(layer_um, seed, options)]
    )
    summary = rows.groupby(["layers, µm", "method"], sort=False)[["ARI", "NMI"]].agg(["mean", "std"])
    print(f"{options.n_cells} cells, seeds {options.seeds}\n\n{summary.round(3).to_string(na_rep='')}")


if __name__ == "__main__":
    main()
