"""Our teacher."""

from __future__ import annotations

from typing import Any

from runner import main

import stdistill as sd


def find(cells: Any, latent: str, k: int, seed: int, max_epochs: int | None = None) -> Any:
    """Find niches by self-distillation, with all defaults unless only a look is taken."""
    sd.tl.nolan(cells, k=k, use_rep=latent, seed=seed, max_epochs=max_epochs, progress_bar=False)
    return cells.obs["teacher_niche"]


if __name__ == "__main__":
    main(find, "stdistill")
