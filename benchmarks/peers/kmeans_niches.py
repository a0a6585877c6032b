"""Our k-means of neighbourhood means."""

from __future__ import annotations

from typing import Any

from runner import main

import stdistill as sd


def find(cells: Any, latent: str, k: int, seed: int) -> Any:
    """Find niches by k-means of means of the standardised latent."""
    sd.tl.kmeans_niches(cells, k=k, use_rep=latent, seed=seed)
    return cells.obs["kmeans_niche"]


if __name__ == "__main__":
    main(find, "stdistill")
