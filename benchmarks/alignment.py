"""How often H&E and expression find each other on simulated Xenium slides: the model, its parts, and plain baselines.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --slides 11 12 13 --variants full none macro
    python benchmarks/alignment.py --onto 10000
    python benchmarks/alignment.py --quick

Tiles of 256 px at 0.5 µm per pixel, those of the second quarter of their rows as test, features of the built-in
encoder; a cell is described by 50 principal components of its log-normalised counts, those of the cells of training
tiles. Recall@5, 10 and 15 % is on the test tiles, both ways, with all scales; beside it CCA, linear InfoNCE and ridge,
and the true composition as a ceiling. `probe` is the correlation with the 50 most variable genes. Variants: "full",
"all" (candidate edges), "none" (no added edges), "no graph" (no edge at all), "macro" (one scale). `--folder` keeps
slides and features for the next run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from spatialdata import SpatialData

import stdistill as sd
from stdistill._measures.alignment.baselines import expression_components, project_by_cca
from stdistill._measures.alignment.expression import log_expression
from stdistill._measures.alignment.recall import partner_ranks

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "all": {"edges": "all"},
    "none": {"edges": "none"},
    "no graph": {"edges": "none", "radius_um": 1e-6},
    "macro": {"scales": ("macro",)},
}
P = (5, 10, 15)


def read(folder: Path, n_cells: int, seed: int) -> SpatialData:
    """Simulate a slide, and describe its tiles and cells."""
    outs = folder / f"{n_cells}_{seed}" / "outs"
    if not outs.exists():
        sd.datasets.simulate_xenium(outs, n_cells=n_cells, seed=seed)
    slide = sd.pp.read_xenium(outs)
    sd.pp.tiles(slide, split_key=None)
    sd.pp.embed_tiles(slide, encoder="texture", store=folder / f"{n_cells}_{seed}" / "features")
    return slide


def hold_out(slide: SpatialData) -> None:
    """Hold out the second quarter of the rows of tiles."""
    y = slide["tiles"].obsm["spatial"][:, 1]
    row = np.rint((y - y.min()) / 128)
    n_rows = row.max() + 1
    test = (row >= n_rows // 4) & (row < n_rows // 2)
    slide["tiles"].obs["split"] = pd.Categorical(np.where(test, "test", "train"))


def describe_cells(slides: list[SpatialData]) -> None:
    """Write principal components of the cells, which are fitted to those of training tiles."""
    values, training = [], []
    for slide in slides:
        cells, tiles = slide["table"].copy(), slide["tiles"]
        sc.pp.normalize_total(cells, target_sum=100)
        sc.pp.log1p(cells)
        values.append(cells.X.toarray().astype(np.float32))
        train = set(tiles.obs["instance_id"][tiles.obs["split"] == "train"])
        training.append(cells.obs["tile"].isin(train).fillna(False).to_numpy(dtype=bool))
    components = PCA(50, random_state=0).fit(np.concatenate([v[t] for v, t in zip(values, training, strict=True)]))
    for slide, each in zip(slides, values, strict=True):
        slide["table"].obsm["X_pca"] = components.transform(each).astype(np.float32)


def ceiling(slides: list[SpatialData]) -> list[float]:
    """Recall by the true cell types of each tile, and their number, instead of H&E features."""
    tables = [slide["tiles"] for slide in slides]
    names = sorted(set().union(*(slide["table"].obs["cell_type"].dropna().unique() for slide in slides)))
    shares = []
    for slide, tiles in zip(slides, tables, strict=True):
        counted = pd.crosstab(slide["table"].obs["tile"], slide["table"].obs["cell_type"])
        counted = counted.reindex(index=tiles.obs["instance_id"], columns=names, fill_value=0).to_numpy(float)
        shares.append(np.c_[counted / np.maximum(counted.sum(axis=1, keepdims=True), 1), np.log(tiles.obs["n_cells"])])
    split = np.concatenate([tiles.obs["split"] for tiles in tables])
    train, test = np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
    genes = set.intersection(*(set(tiles.var_names) for tiles in tables))
    counts = np.concatenate([tiles[:, sorted(genes)].X.toarray() for tiles in tables])
    n_cells = np.concatenate([tiles.obs["n_cells"] for tiles in tables])
    cells = expression_components(log_expression(csr_matrix(counts), train), n_cells, train)
    found = project_by_cca(np.concatenate(shares), cells, train)
    ranks = partner_ranks(found.he[test], found.expression[test])
    return [float((each <= np.ceil(p * len(test) / 100)).mean()) for each in ranks for p in P]


def recalls(frame: pd.DataFrame, method: str) -> list[float]:
    """Recall of a method, at each p, from H&E and back; the mean over the slides."""
    own = frame[frame["method"] == method].groupby(["direction", "p"])["recall"].mean()
    return [float(own[direction, p]) for direction in ("he_to_expression", "expression_to_he") for p in P]


def probe(slides: list[SpatialData]) -> dict[str, float]:
    """Mean correlation with the genes, of each representation."""
    frame = sd.tl.expression_probe(slides)
    return frame[frame["gene"] == "all"].set_index("key")["pcc"].round(3).to_dict()


def compare(slides: list[SpatialData], name: str, variants: list[str], seeds: list[int], quick: dict[str, Any]) -> Any:
    """Fit each variant to the training tiles, and say how well tiles of the test are found."""
    describe_cells(slides)
    rows = []
    for variant in variants:
        for seed in seeds:
            start = time.perf_counter()
            model = sd.tl.align(
                slides,
                use_rep="X_pca",
                seed=seed,
                progress_bar=False,
                accelerator="cpu",
                **{**VARIANTS[variant], **quick},
            )
            seconds = time.perf_counter() - start
            frame = sd.tl.retrieval(slides, p=P, baselines=not rows)
            if not rows:
                extra = [method for method in ("CCA", "linear InfoNCE", "ridge") if method in set(frame["method"])]
                rows += [(name, method, "", *recalls(frame, method), np.nan) for method in extra]
                rows.append((name, "true composition", "", *ceiling(slides), np.nan))
            rows.append((name, variant, seed, *recalls(frame, "aligned"), seconds))
            n = int(frame["n"].sum() / frame["n"].size) if len(frame) else 0
            print(rows[-1], f"{len(model.history)} epochs, {n} tiles in the pool", flush=True)
            if variant == "full" and seed == seeds[0]:
                print("probe", probe(slides), flush=True)
    return rows


def main() -> None:
    """Compare on each slide, or from one to another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, nargs="+", default=[0], help="seeds of the slides")
    parser.add_argument("--n-cells", type=int, default=40_000)
    parser.add_argument("--onto", type=int, help="cells of another slide of each seed, on all of which is tested")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the model")
    parser.add_argument("--folder", type=Path, help="where slides and features are kept")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    sizes = [arguments.n_cells, *([] if arguments.onto is None else [arguments.onto])]
    sizes = [1500] if arguments.quick else sizes
    quick: dict[str, Any] = {"max_epochs": 2, "width": 16} if arguments.quick else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for slide_seed in arguments.slides:
            slides = [read(arguments.folder or Path(folder), n, slide_seed) for n in sizes]
            if len(slides) == 1:
                hold_out(slides[0])
            else:
                for slide, group in zip(slides, ("train", "test"), strict=True):
                    slide["tiles"].obs["split"] = pd.Categorical([group] * slide["tiles"].n_obs)
            name = f"{'→'.join(f'{n:,}' for n in sizes)} (seed {slide_seed})"
            if arguments.variants:
                rows += compare(slides, name, arguments.variants, arguments.seeds, quick)
    columns = ["slide", "method", "seed", *(f"{way} {p}" for way in ("HE→ex", "ex→HE") for p in P), "seconds"]
    frame = pd.DataFrame(rows, columns=columns)
    print(f"\n{frame.round(3).to_string(index=False)}")
    means = frame.drop(columns=["slide", "seed"]).groupby("method", sort=False).mean()
    print(f"\nmeans\n{means.round(3).to_string()}")


if __name__ == "__main__":
    main()
