"""Niches of the teacher beside two baselines, on simulated slides with known niches and on a real mouse brain.

    python benchmarks/teacher.py --seeds 0 1 2
    python benchmarks/teacher.py --xenium shared/data/xenium_mouse_brain --k 10 20 --map brain.png

All methods work on the same expression latent. The baselines: k-means of neighbourhood means (same neighbourhoods), and
in the manner of CellCharter (Varrone et al. 2024) a Gaussian mixture with full covariance of the latent of a cell and
its means over one, two and three hops of the Delaunay graph without its 1 % longest edges.

Measures, chosen before any result was seen: ARI and NMI with the true niches, where they are known; PAS, the share of
cells of which at least six of ten nearest neighbours are in another niche, and CHAOS, the mean distance to the nearest
cell of the same niche in standardised coordinates (both as in Shang and Zhou 2022; low is coherent); R2, the share of
the variance of log-normalised expression that lies between niches, mean over genes (high is separated), of
neighbourhood means and, for completeness, of single cells.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import squidpy as sq
from scipy.sparse import csr_matrix, eye_array
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

import stdistill as sd

N_HOPS = 3
MIN_COUNTS = 10


def read(folder: Path, latent_epochs: int) -> ad.AnnData:
    """Read counts and centres, and make the latent and the neighbourhoods."""
    adata = sc.read_10x_h5(folder / "cell_feature_matrix.h5")
    parquet = folder / "cells.parquet"
    cells = pd.read_parquet(parquet) if parquet.exists() else pd.read_csv(folder / "cells.csv.gz")
    cells = cells.set_index(cells["cell_id"].astype(str)).loc[adata.obs_names]
    adata.obsm["spatial"] = cells[["x_centroid", "y_centroid"]].to_numpy(dtype=float)
    truth = folder.with_name(f"{folder.name}_truth.parquet")
    if truth.exists():
        known = pd.read_parquet(truth).set_index("cell_id")
        adata.obs["niche"] = known.set_axis(known.index.astype(str))["niche"]
    adata = adata[np.asarray(adata.X.sum(axis=1)).ravel() >= MIN_COUNTS].copy()
    sd.pp.embed_expression(adata, max_epochs=latent_epochs)
    sd.pp.neighborhoods(adata)
    return adata


def mean_over(graph: csr_matrix, values: np.ndarray) -> np.ndarray:
    """Mean of the values (n, d) over the neighbours of each cell."""
    counts = np.asarray(graph.sum(axis=1)).ravel()
    return (graph @ values) / np.maximum(counts, 1)[:, None]


def neighborhood_means(adata: ad.AnnData, values: np.ndarray) -> np.ndarray:
    """Mean over each cell and its neighbourhood."""
    return mean_over(csr_matrix(adata.obsp["spatial_connectivities"] + eye_array(adata.n_obs)), values)


def hop_means(adata: ad.AnnData, values: np.ndarray) -> np.ndarray:
    """Values of each cell beside their means over its neighbours at one, two, three hops."""
    cells = ad.AnnData(csr_matrix((adata.n_obs, 1)), obsm={"spatial": adata.obsm["spatial"]})
    sq.gr.spatial_neighbors_delaunay(cells, percentile=99)
    edges = csr_matrix(cells.obsp["spatial_connectivities"])
    reached = hop = csr_matrix(eye_array(adata.n_obs))
    means = [values]
    for _ in range(N_HOPS):
        hop = ((hop @ edges) > 0).astype(float)
        hop = csr_matrix(hop - hop.multiply(reached))
        hop.eliminate_zeros()
        reached = reached + hop
        means.append(mean_over(hop, values))
    return np.hstack(means)


def methods(
    adata: ad.AnnData, k: int, seed: int, arguments: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Niches of every cell, by each method, with its seconds."""
    latent = adata.obsm["X_scVI"].astype(float)
    start = time.perf_counter()
    yield (
        "k-means of means",
        KMeans(k, n_init=10, random_state=seed).fit_predict(neighborhood_means(adata, latent)),
        time.perf_counter() - start,
    )
    start = time.perf_counter()
    mixture = GaussianMixture(k, max_iter=200, random_state=seed)
    yield "hops + mixture", mixture.fit_predict(hop_means(adata, latent)), time.perf_counter() - start
    for centering in arguments.centering:
        start = time.perf_counter()
        key = f"{centering}_k{k}"
        sd.tl.nolan(
            adata, k=k, key_added=key, centering=centering, max_epochs=arguments.epochs, seed=seed, progress_bar=False
        )
        yield centering, adata.obs[f"{key}_niche"].cat.codes.to_numpy(), time.perf_counter() - start


def r2(values: np.ndarray, niches: np.ndarray) -> float:
    """Share of the variance between niches, mean over the columns that vary."""
    members = csr_matrix((np.ones(len(niches)), (niches, np.arange(len(niches)))))
    centered = values - values.mean(axis=0)
    sizes = np.bincount(niches)[:, None]
    between = (sizes * mean_over(members, centered) ** 2).sum(axis=0)
    total = (centered**2).sum(axis=0)
    return float((between[total > 0] / total[total > 0]).mean())


def pas(centers: np.ndarray, niches: np.ndarray) -> float:
    """Share of cells of which at least six of ten nearest neighbours are in another niche."""
    nearest = NearestNeighbors(n_neighbors=10).fit(centers).kneighbors(return_distance=False)
    return float(((niches[nearest] != niches[:, None]).sum(axis=1) >= 6).mean())


def chaos(centers: np.ndarray, niches: np.ndarray) -> float:
    """Mean distance to the nearest cell of the same niche, in standardised coordinates."""
    scaled = (centers - centers.mean(axis=0)) / centers.std(axis=0)
    groups = [scaled[niches == niche] for niche in np.unique(niches)]
    return sum(
        NearestNeighbors(n_neighbors=1).fit(group).kneighbors()[0].sum() for group in groups if len(group) > 1
    ) / len(niches)


def compare(name: str, adata: ad.AnnData, k: int, seed: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all methods on a slide."""
    expression = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True).X.toarray()
    around = neighborhood_means(adata, expression)
    rows = []
    for method, niches, seconds in methods(adata, k, seed, arguments):
        row: dict[str, object] = {"slide": name, "k": k, "method": method, "niches": len(np.unique(niches))}
        if "niche" in adata.obs:
            row["ARI"] = adjusted_rand_score(adata.obs["niche"], niches)
            row["NMI"] = normalized_mutual_info_score(adata.obs["niche"], niches)
        row["PAS"] = pas(adata.obsm["spatial"], niches)
        row["CHAOS"] = chaos(adata.obsm["spatial"], niches)
        row["R2"] = r2(around, niches)
        row["R2_cells"] = r2(expression, niches)
        row["seconds"] = seconds
        rows.append(row)
    return rows


def compare_slide(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all methods on the slide of a folder, and draw the teacher's niches."""
    adata = read(arguments.xenium, arguments.latent_epochs)
    rows = [row for k in arguments.k for row in compare(arguments.xenium.name, adata, k, 0, arguments)]
    if arguments.map is not None:
        keys = [f"{arguments.centering[0]}_k{k}_niche" for k in arguments.k]
        sd.pl.niches(adata, keys=keys, title=[f"K = {k}" for k in arguments.k], save=arguments.map)
    return rows


def compare_simulated(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all methods on slides with as many true niches as are looked for."""
    rows = []
    for k in arguments.k:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                folder = sd.datasets.simulate_xenium(
                    Path(scratch) / "slide", n_cells=arguments.n_cells, seed=seed, n_niches=k
                )
                adata = read(folder, arguments.latent_epochs)
            rows += compare(f"simulated {seed}", adata, k, seed, arguments)
    return rows


def main() -> None:
    """Compare on simulated slides, or on the slide of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xenium", type=Path, help="folder with cell_feature_matrix.h5 and cells.parquet or .csv.gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of simulated slides")
    parser.add_argument("--n-cells", type=int, default=10_000)
    parser.add_argument("--k", type=int, nargs="+", default=[10], help="also the number of simulated niches")
    parser.add_argument("--latent-epochs", type=int, default=40, help="of scVI")
    parser.add_argument("--epochs", type=int, help="of the teacher, by default its default")
    parser.add_argument("--centering", nargs="+", default=["centering", "sinkhorn"], help="of the teachers")
    parser.add_argument("--map", type=Path, help="where to draw the teacher's niches of the slide of --xenium")
    arguments = parser.parse_args()
    rows = compare_simulated(arguments) if arguments.xenium is None else compare_slide(arguments)
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    if table["slide"].nunique() > 1:
        mean = table.drop(columns="slide").groupby(["k", "method"], sort=False).mean()
        print(f"\nMean\n{mean.round(4).to_string()}")


if __name__ == "__main__":
    main()
