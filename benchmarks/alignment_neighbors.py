"""Does the cell graph earn its place? An effect between neighbouring cells, which no cell shows by itself.

    python benchmarks/alignment_neighbors.py
    python benchmarks/alignment_neighbors.py --quick

On a simulated Xenium slide what the cells express is dealt out anew, from those of two types: tiles are alike in what
they consist of. Then cells change places, each within its place of 32 µm, the smallest that the model tells apart: in
some tiles the types touch, in others they keep away from each other, as far as the place lets them. A cell of the
first type with one of the second within 10 µm is painted dark on the H&E, as if it had changed its look; what the cells
express says nothing of it. So nothing but who is beside whom, within a place, tells tiles apart.

Recall@5, 10 and 15 % on the tiles of the second quarter of the rows, mean over both ways, with the 95 % interval over
tiles, of models that connect cells within 10 µm, with stochastic, all or no added edges; of one that connects them
within the default of 20 µm; and of one without any edge. "CCA, told" is canonical correlation that knows of each tile
how many of its cells were painted: what the best graph could tell it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from alignment import P, describe_cells, hold_out
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

BESIDE_UM = 10.0
SPOT_UM = 3.0
SHADE = 0.35
"""Light that is left in a spot."""
N_ORDERS = 24
"""In which the cells of a place are tried."""
MODELS: dict[str, dict[str, Any]] = {
    "stochastic": {"radius_um": BESIDE_UM},
    "all": {"radius_um": BESIDE_UM, "edges": "all"},
    "none added": {"radius_um": BESIDE_UM, "edges": "none"},
    "within 20 µm": {},
    "no edge": {"radius_um": 1e-6, "edges": "none"},
}


def scatter(slide: SpatialData, seed: int) -> None:
    """Deal out anew what the cells of the two commonest types express, among all cells."""
    cells = slide["table"]
    types = cells.obs["cell_type"]
    pool = np.flatnonzero(types.isin(types.value_counts().index[:2]))
    rows = np.random.default_rng(seed).choice(pool, cells.n_obs)
    cells.X = cells.X[rows]
    cells.obs["cell_type"] = types.astype(str).to_numpy()[rows]


def plant(slide: SpatialData, seed: int) -> Any:
    """Let cells change places within their 32 µm, and paint those beside the other type: return their rows."""
    rng = np.random.default_rng(seed)
    cells, centers = slide["table"], slide["table"].obsm["spatial"]
    types = cells.obs["cell_type"].to_numpy()
    first, second = sorted(set(types))
    tile, place = (cells.obs[name].fillna(0).to_numpy(dtype=int) for name in ("tile", "tile_place"))
    inside = np.flatnonzero(tile > 0)
    touch = {each: rng.uniform() for each in np.unique(tile[inside])}
    source = np.arange(cells.n_obs)
    for (of_tile, _), group in pd.Series(inside).groupby([tile[inside], place[inside]]):
        rows = group.to_numpy()
        source[rows] = rows[arrange(types[rows] == first, centers[rows], touch[of_tile], rng)]
    cells.obsm["X_pca"] = cells.obsm["X_pca"][source]
    types = types[source]
    trees = [np.flatnonzero(types == each) for each in (first, second)]
    distance, _ = cKDTree(centers[trees[1]]).query(centers[trees[0]], distance_upper_bound=BESIDE_UM)
    changed = trees[0][np.isfinite(distance)]
    print(f"{len(changed)} of {len(trees[0])} cells of {first!r} are beside one of {second!r}", flush=True)
    paint(slide, changed)
    return changed


def arrange(is_first: Any, centers: Any, touch: float, rng: np.random.Generator) -> Any:
    """Order the cells of a place so that many of the first type are beside another (1), few (0), or between."""
    near = np.linalg.norm(centers[:, None] - centers, axis=2) < BESIDE_UM
    orders = [rng.permutation(len(is_first)) for _ in range(N_ORDERS)]
    beside = [near[is_first[order]][:, ~is_first[order]].any(axis=1).sum() for order in orders]
    return orders[np.argsort(beside, kind="stable")[round(touch * (N_ORDERS - 1))]]


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
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    arguments = parser.parse_args()
    n_cells = 1500 if arguments.quick else arguments.n_cells
    quick: dict[str, Any] = {"max_epochs": 2, "width": 16} if arguments.quick else {}
    with tempfile.TemporaryDirectory() as folder:
        outs = sd.datasets.simulate_xenium(Path(folder) / "outs", n_cells=n_cells, seed=arguments.slide)
        slide = sd.pp.read_xenium(outs)
        scatter(slide, arguments.slide)
        sd.pp.tiles(slide, split_key=None)
        hold_out(slide)
        describe_cells([slide])
        painted = plant(slide, arguments.slide)
        sd.pp.embed_tiles(slide, encoder="texture")
    rows: list[tuple[Any, ...]] = [("CCA, told", "", *tell(slide, painted))]
    print(rows[0], flush=True)
    for variant, chosen in MODELS.items():
        for seed in arguments.seeds:
            how = {"progress_bar": False, "accelerator": "cpu", **chosen, **quick}
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
