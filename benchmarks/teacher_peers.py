"""Our teacher and k-means beside CellCharter, BANKSY and novae, with the spread over scVI runs and seeds.

    python benchmarks/teacher_peers.py --out peers
    python benchmarks/teacher_peers.py --peers cellcharter banksy novae --out peers
    python benchmarks/teacher_peers.py --quick --out peers

Simulated slides (`--slides`: their seeds) with known niches. Each method gets the same scVI latents of a slide,
`--latents` of them from other seeds, and is run with each of `--seeds`; it looks for `--k` niches, whether or not there
are as many (`n_true`). Each is a script of `peers/`, run in a process of its own, of which the memory is the peak.
Those of other packages run in environments of their own, which `uv run` makes from what the script names. novae takes
no latent, and is trained for its default number of epochs: on a GPU where there is one, else for hours on large slides
(`--n-cells`).

Written to `--out`: `peers.csv`, a row for each slide, latent, seed and method, with ARI and NMI with the true niches,
PAS and CHAOS (see `teacher.py`; PAS rewards plain smoothing, so never alone) and seconds; and `peers.json`, for each
method the mean, the standard deviation over latents and seeds of a slide, the mean over slides of the paired difference
to k-means of neighbourhood means, and its standard error, of slides. Of fewer than two slides there is none.

`--quick` takes a tiny slide and our methods, all in this process: it shows that the script works, nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import runpy
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from teacher import chaos, pas, read

import stdistill as sd

FOLDER = Path(__file__).parent / "peers"
OURS = {"teacher": "nolan", "k-means": "kmeans_niches", "scikit-learn k-means": "scikit_learn"}
PEERS = {"cellcharter": "with_cellcharter", "banksy": "with_banksy", "novae": "with_novae"}
WITHOUT_LATENT = ("novae",)
REFERENCE = "k-means"
QUICK = {"teacher": {"max_epochs": 1}}
MEASURES = ["ARI", "NMI", "PAS", "CHAOS", "seconds"]


def make_slide(scratch: Path, seed: int, options: argparse.Namespace) -> tuple[Path, ad.AnnData, list[str]]:
    """Simulate a slide and its latents; return where its table is written, the table, and the keys of the latents."""
    folder = sd.datasets.simulate_xenium(
        scratch / f"slide_{seed}", n_cells=options.n_cells, seed=seed, n_niches=options.k
    )
    cells = read(folder, options.latent_epochs)
    keys = ["X_scVI"]
    for run in range(1, options.latents):
        keys.append(f"X_scVI_{run}")
        sd.pp.embed_expression(cells, max_epochs=options.latent_epochs, seed=run, key_added=keys[-1])
    cells.X = csr_matrix(cells.X, dtype=np.float32)
    path = scratch / f"slide_{seed}.h5ad"
    cells.write_h5ad(path)
    return path, cells, keys


def run_method(
    name: str, path: Path, cells: ad.AnnData, latents: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Run a method on a slide with all latents and seeds; what its script writes."""
    script = FOLDER / f"{OURS.get(name) or PEERS[name]}.py"
    latents = latents[:1] if name in WITHOUT_LATENT else latents
    if options.quick:
        sys.path.insert(0, str(FOLDER))
        try:
            find = runpy.run_path(str(script))["find"]
            from runner import run_all
        finally:
            sys.path.remove(str(FOLDER))
        method = partial(find, **QUICK.get(name, {}))
        rows = run_all(method, cells, latents, options.k, options.seeds)
        return {"version": "this", "memory_gib": math.nan, "rows": rows}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "niches.json"
        start = [sys.executable] if name in OURS else ["uv", "run", "--no-project", "--script"]
        given = ["--latents", *latents, "--k", str(options.k), "--seeds", *map(str, options.seeds), "--out", str(out)]
        subprocess.run([*start, str(script), str(path), *given], check=True)
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def measure(cells: ad.AnnData, niches: list[str]) -> dict[str, float]:
    """Compare niches with the true ones, and say how coherent they are."""
    codes = pd.factorize(np.asarray(niches))[0]
    truth, centers = cells.obs["niche"].to_numpy(), cells.obsm["spatial"]
    return {
        "n_niches": len(np.unique(codes)),
        "ARI": adjusted_rand_score(truth, codes),
        "NMI": normalized_mutual_info_score(truth, codes),
        "PAS": pas(centers, codes),
        "CHAOS": chaos(centers, codes),
    }


def compare_slide(scratch: Path, seed: int, options: argparse.Namespace) -> pd.DataFrame:
    """Run and measure all methods on one slide."""
    path, cells, latents = make_slide(scratch, seed, options)
    rows = []
    for name in [*OURS, *options.peers]:
        found = run_method(name, path, cells, latents, options)
        for row in found["rows"]:
            measured = measure(cells, row.pop("niches"))
            about = {"slide": seed, "n_true": cells.obs["niche"].nunique(), "k": options.k, "method": name}
            shared = {"memory_gib": found["memory_gib"], "version": found["version"]}
            rows.append({**about, **row, **measured, **shared})
            print(f"slide {seed}, {name}: ARI {measured['ARI']:.3f}, {row['seconds']:.1f} s", flush=True)
    return pd.DataFrame(rows)


def summarise(rows: pd.DataFrame) -> dict[str, Any]:
    """Give each method its mean, its spread within slides, and its paired difference to the reference."""
    slides = rows.groupby(["method", "slide"], sort=False)[MEASURES]
    means, spread = slides.mean(), slides.std().groupby("method", sort=False).mean()
    summary: dict[str, Any] = {}
    for method, of_slides in means.groupby("method", sort=False):
        paired = (of_slides.droplevel("method") - means.loc[REFERENCE])[["ARI", "NMI"]]
        chosen = rows[rows["method"] == method]
        summary[str(method)] = {
            "n_slides": len(of_slides),
            "n_runs": len(chosen),
            "n_true": sorted(map(int, chosen["n_true"].unique())),
            "mean": of_slides.mean().to_dict(),
            "sd_within_slides": spread.loc[method].to_dict(),
            "minus_k_means": paired.mean().to_dict(),
            "standard_error": paired.sem().to_dict(),
            "memory_gib": float(chosen["memory_gib"].max()),
            "version": chosen["version"].iloc[0],
        }
    return summary


def main() -> None:
    """Compare, and write tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, nargs="+", default=[3, 4, 5], help="seeds of simulated slides")
    parser.add_argument("--n-cells", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--latents", type=int, default=3, help="scVI runs of each slide")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of each method")
    parser.add_argument("--latent-epochs", type=int, default=40, help="of scVI")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=[], help="packages to run beside ours")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    options = parser.parse_args()
    if options.quick:
        options.slides, options.n_cells, options.k, options.latents = [0], 300, 4, 1
        options.seeds, options.latent_epochs, options.peers = [0], 1, []
    options.out.mkdir(parents=True, exist_ok=True)
    parts = []
    for seed in options.slides:
        with tempfile.TemporaryDirectory() as scratch:
            parts.append(compare_slide(Path(scratch), seed, options))
        rows = pd.concat(parts, ignore_index=True)
        rows.to_csv(options.out / "peers.csv", index=False)
    summary = summarise(rows)
    (options.out / "peers.json").write_text(json.dumps(summary, indent=2))
    table = pd.DataFrame({method: {**found["mean"], "GiB": found["memory_gib"]} for method, found in summary.items()})
    print(table.T.round(4).to_string())


if __name__ == "__main__":
    main()
