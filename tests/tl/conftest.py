from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stdistill._measures.alignment.recall import unit_rows

SCALES = ("micro", "meso", "macro")


@pytest.fixture
def make_tiles() -> Callable[..., ad.AnnData]:
    """A table of tiles as it is after sd.tl.align: H&E features, counts and embeddings have causes in common.

    The first `n_train` tiles are for training; the causes are those of all tables.
    """

    def make(n: int = 320, n_train: int = 160, *, seed: int = 0, split: bool = True, noise: float = 0.6) -> ad.AnnData:
        shared, rng = np.random.default_rng(99), np.random.default_rng(seed)
        causes = rng.normal(size=(n, 8))
        rates = np.exp(1.5 + 0.5 * causes @ shared.normal(size=(8, 40)))
        training = np.arange(n) < n_train
        n_cells = np.rint(np.exp(4 + 0.3 * causes[:, 0])).astype(int)
        obs = pd.DataFrame({"aligned_fitted": training, "n_cells": n_cells}, index=[f"tile-{i + 1}" for i in range(n)])
        if split:
            obs["split"] = pd.Categorical(np.where(training, "train", "test"), categories=["train", "test"])
        tiles = ad.AnnData(
            csr_matrix(rng.poisson(rates).astype(np.float32)),
            obs=obs,
            var=pd.DataFrame(index=[f"gene-{i}" for i in range(40)]),
            obsm={"spatial": np.stack(np.divmod(np.arange(n), 20), axis=1) * 128.0 + 64},
            uns={"stdistill": {"tiles": {"tile_px": 256, "mpp": 0.5, "n_tiles": n}}},
        )
        parts: dict[str, list[np.ndarray]] = {"he": [], "expression": []}
        for scale in SCALES:
            features = causes @ shared.normal(size=(8, 25)) + rng.normal(size=(n, 25))
            tiles.obsm[f"X_he_{scale}"] = features.astype(np.float16)
            for side, several in parts.items():
                several.append(unit_rows(causes + noise * rng.normal(size=causes.shape)))
                tiles.obsm[f"X_aligned_{side}_{scale}"] = several[-1]
        for side, several in parts.items():
            tiles.obsm[f"X_aligned_{side}"] = unit_rows(np.hstack(several))
        return tiles

    return make
