"""Does the cell graph earn its place? An effect between neighbouring cells, which no cell shows by itself.

    python benchmarks/alignment_neighbors.py
    python benchmarks/alignment_neighbors.py --n-cells 80000 --scatter
    python benchmarks/alignment_neighbors.py --quick

On a simulated Xenium slide the cells of two types that share many tiles change places among each other: in
some tiles the types lie apart, in others they are mixed. What a tile consists of stays as it was. A cell of the first
type with one of the second within 15 µm is then painted dark on the H&E, as if it had changed its look; what the cells
express says nothing of it. Tiles of the same composition are then told apart by who is beside whom. Recall@5, 10 and
15 % on the tiles of the second quarter of the rows, mean over both ways, with the 95 % interval over tiles, of the
model with stochastic, all or no added edges, and without any edge. "CCA, told" is canonical correlation that knows of
each tile how many of its cells were painted: what the best graph could tell it.

With `--scatter` what cells express is first dealt out anew among all cells of the slide: tiles are then alike in what
they consist of, the H&E shows nothing of it, and who is beside whom is nearly all that is left to find a tile by.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from alignment import VARIANTS, P, describe_cells, hold_out
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from skimage.draw import disk
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import stdistill as sd
from stdistill._measures.alignment.baselines import expression_components, project_by_cca
from stdistill._measures.alignment.expression import log_expression
from stdistill._measures.alignment.recall import partner_ranks

BESIDE_UM = 15.0
SPOT_UM = 3.0
SHADE = 0.35
"""Light that is left in a spot."""


def plant(slide: SpatialData, seed: int) -> Any:
    """Let cells change places within their tiles, and paint those that are beside the other type: return their rows."""
    rng = np.random.default_rng(seed)
    cells = slide["table"]
    types = cells.obs["cell_type"].astype(str).to_numpy()
    tile = cells.obs["tile"].fillna(0).to_numpy(dtype=int)
    counts = pd.crosstab(tile[tile > 0], types[tile > 0]).drop(columns="nan", errors="ignore")
    first, second = max(combinations(counts, 2), key=lambda pair: counts[list(pair)].min(axis=1).sum())
    centers = cells.obsm["spatial"]
    source = np.arange(cells.n_obs)
    both = np.flatnonzero(np.isin(types, (first, second)) & (tile > 0))
    for _, rows in pd.Series(both).groupby(tile[both]):
        source[rows] = arrange(rows.to_numpy(), types, centers, first, rng)
    cells.obsm["X_pca"] = cells.obsm["X_pca"][source]
    types = types[source]
    trees = [np.flatnonzero(types == each) for each in (first, second)]
    distance, _ = cKDTree(centers[trees[1]]).query(centers[trees[0]], distance_upper_bound=BESIDE_UM)
    changed = trees[0][np.isfinite(distance)]
    print(f"{len(changed)} of {len(trees[0])} cells of {first!r} are beside one of {second!r}", flush=True)
    paint(slide, changed)
    return changed


def scatter(slide: SpatialData, seed: int) -> None:
    """Deal out what the cells express, and their types, anew among all of them."""
    cells = slide["table"]
    rows = np.random.default_rng(seed).permutation(cells.n_obs)
    cells.X = cells.X[rows]
    cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy()[rows]


def arrange(rows: Any, types: Any, centers: Any, first: str, rng: np.random.Generator) -> Any:
    """Put the cells of the first type to one side of the tile, or, by chance, anywhere."""
    is_first = types[rows] == first
    angle = rng.uniform(0, 2 * np.pi)
    along = centers[rows] @ (np.cos(angle), np.sin(angle))
    rank = np.argsort(np.argsort(along)) / len(rows)
    mixed = rng.uniform() > 0.5
    places = np.argsort(rng.permutation(len(rows)) if mixed else rank, kind="stable")
    who = np.concatenate([rows[is_first], rows[~is_first]])
    arranged = np.empty(len(rows), dtype=int)
    arranged[places] = who
    return arranged


def paint(slide: SpatialData, rows: Any) -> None:
    """Darken the H&E at some cells."""
    image = slide["he"]
    level = image["scale0"]["image"]
    pixels = np.asarray(level.data).copy()
    px = sd.get.he_pixels(slide)
    radius = SPOT_UM / float(px["mpp"].iloc[0])
    for x, y in px[["x", "y"]].to_numpy()[rows]:
        spot = disk((y, x), radius, shape=pixels.shape[1:])
        pixels[:, *spot] = (pixels[:, *spot] * SHADE).astype(np.uint8)
    systems = get_transformation(image, get_all=True)
    del slide.images["he"]
    slide.images["he"] = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), c_coords=["r", "g", "b"], transformations=systems, chunks=(3, 512, 512)
    )


def tell(slide: SpatialData, painted: Any) -> list[float]:
    """Recall of canonical correlation that knows how many cells of each tile were painted; NaN for its intervals."""
    tiles, cells = slide["tiles"], slide["table"]
    train, test = (np.flatnonzero(tiles.obs["split"] == group) for group in ("train", "test"))
    tile = cells.obs["tile"].iloc[painted].dropna().astype(int)
    number = np.log1p(tile.value_counts().reindex(tiles.obs["instance_id"], fill_value=0).to_numpy())
    known = expression_components(log_expression(csr_matrix(tiles.X), train), tiles.obs["n_cells"].to_numpy(), train)
    told = np.column_stack([known, number * known[train, 0].std() / number[train].std()])
    features = np.hstack([tiles.obsm[f"X_he_{scale}"] for scale in ("micro", "meso", "macro")])
    found = project_by_cca(features, told, train)
    ranks = partner_ranks(found.he[test], found.expression[test])
    recalls = (np.mean([(each <= np.ceil(p * len(test) / 100)).mean() for each in ranks]) for p in P)
    return [value for recall in recalls for value in (recall, np.nan, np.nan)]


def main() -> None:
    """Compare models with and without edges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-cells", type=int, default=40_000)
    parser.add_argument("--slide", type=int, default=0, help="seed of the slide")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the models")
    parser.add_argument("--scatter", action="store_true", help="let tiles consist of the same everywhere")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    n_cells = 1500 if arguments.quick else arguments.n_cells
    quick: dict[str, Any] = {"max_epochs": 2, "width": 16} if arguments.quick else {}
    with tempfile.TemporaryDirectory() as folder:
        outs = sd.datasets.simulate_xenium(Path(folder) / "outs", n_cells=n_cells, seed=arguments.slide)
        slide = sd.pp.read_xenium(outs)
        if arguments.scatter:
            scatter(slide, arguments.slide)
        sd.pp.tiles(slide, split_key=None)
        hold_out(slide)
        describe_cells([slide])
        painted = plant(slide, arguments.slide)
        sd.pp.embed_tiles(slide, encoder="texture")
    rows: list[tuple[Any, ...]] = [("CCA, told", "", *tell(slide, painted))]
    print(rows[0], flush=True)
    for variant in [name for name in VARIANTS if name != "macro"]:
        for seed in arguments.seeds:
            how = {"progress_bar": False, "accelerator": "cpu", **VARIANTS[variant], **quick}
            sd.tl.align(slide, use_rep="X_pca", seed=seed, **how)
            frame = sd.tl.retrieval(slide, baselines=len(rows) == 1)
            for method, own in frame[~frame["method"].str.startswith("aligned ")].groupby("method", sort=False):
                name = variant if method == "aligned" else method
                means = own.groupby("p")[["recall", "low", "high"]].mean()
                rows.append((name, seed, *(value for p in means.index for value in means.loc[p])))
                print(rows[-1], flush=True)
    columns = [f"{what} {p}" for p in (5, 10, 15) for what in ("recall", "low", "high")]
    result = pd.DataFrame(rows, columns=["method", "seed", *columns])
    print(f"\n{result.drop(columns='seed').groupby('method', sort=False).mean().round(3).to_string()}")


if __name__ == "__main__":
    main()
