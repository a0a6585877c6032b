# /// script
# requires-python = ">=3.12,<3.14"
# dependencies = ["novae==1.1.2"]
# ///
"""novae (Blampey et al. 2025), trained on the slide from the start, for its default number of epochs.

It reads counts and no latent. Training that is cut short says nothing of it: there is no option to do so here.
Its domains are merged from leaves; where cells are in fewer leaves than there are niches to find, those are the niches.
"""

from __future__ import annotations

from typing import Any

import novae
import torch
from lightning import seed_everything
from runner import main

RADIUS_UM = 100
"""Longest edges of its Delaunay graph (our choice)."""


def find(cells: Any, latent: str, k: int, seed: int) -> Any:
    """Find niches, with all defaults; `latent` is not read."""
    seed_everything(seed, verbose=False)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    novae.spatial_neighbors(cells, radius=RADIUS_UM)
    model = novae.Novae(cells)
    model.fit(accelerator=accelerator)
    model.compute_representations(accelerator=accelerator)
    n_leaves = cells.obs["novae_leaves"].nunique()
    return cells.obs[model.assign_domains(n_domains=min(k, n_leaves))]


if __name__ == "__main__":
    main(find, "novae")
