# /// script
# requires-python = ">=3.12,<3.14"
# dependencies = ["cellcharter==0.3.8"]
# ///
"""CellCharter (Varrone et al. 2024), as its documentation runs it: three hops of the Delaunay graph, and a mixture."""

from __future__ import annotations

from typing import Any

import cellcharter as cc
import squidpy as sq
from runner import main

N_HOPS = 3


def find(cells: Any, latent: str, k: int, seed: int) -> Any:
    """Find niches, with all defaults beside the latent, the hops and the number of them."""
    sq.gr.spatial_neighbors(cells, coord_type="generic", delaunay=True)
    cc.gr.remove_long_links(cells)
    cc.gr.aggregate_neighbors(cells, n_layers=N_HOPS, use_rep=latent)
    mixture = cc.tl.Cluster(n_clusters=k, random_state=seed)
    mixture.fit(cells)
    return mixture.predict(cells)


if __name__ == "__main__":
    main(find, "cellcharter")
