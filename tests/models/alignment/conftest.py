from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stdistill.models.alignment.fit import AlignmentData
from stdistill.models.alignment.tiles import CellGraphs

SIDE_UM = 128.0


def make_data(
    n_side: int = 6, n_cells: int = 20, *, seed: int = 0, noise: float = 0.5, max_pairs: int = 5000, **changes
) -> AlignmentData:
    """A square of tiles, each with a state of its own that both sides show."""
    rng = np.random.default_rng(seed)
    n = n_side**2
    corners = np.stack(np.divmod(np.arange(n), n_side)[::-1], axis=1) * SIDE_UM
    state = rng.normal(size=(n, 4))
    tile = rng.permutation(np.repeat(np.arange(n), n_cells))
    within = rng.uniform(0, SIDE_UM, (len(tile), 2))
    column, row = (within // (SIDE_UM / 4)).astype(int).T
    cells = (state[tile] @ rng.normal(size=(4, 6)) + rng.normal(0, noise, (len(tile), 6))).astype(np.float32)
    images = {
        scale: (state @ rng.normal(size=(4, 8)) + rng.normal(0, noise, (n, 8))).astype(np.float16)
        for scale in ("micro", "meso", "macro")
    }
    graphs = CellGraphs(
        changes.get("cells", cells),
        corners[tile] + within,
        tile,
        row * 4 + column,
        n,
        radius_um=20.0,
        max_pairs=max_pairs,
    )
    return AlignmentData(images, graphs, np.zeros(n, dtype=np.int64), corners + SIDE_UM / 2, SIDE_UM)


@pytest.fixture
def make() -> Callable[..., AlignmentData]:
    return make_data
