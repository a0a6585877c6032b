from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._measures.labels import Labels
from stdistill._runs.annotations import annotated_folds
from stdistill._table.annotations import check_fit


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    """Annotated in stripes of 300 µm, but for a tenth; no niches."""
    rng = np.random.default_rng(0)
    cells = make_cells(2000, extent=3000.0)
    annotation = np.array(["Tumor 1", "Tumor 2"], dtype=object)[(cells.obsm["spatial"][:, 0] // 300).astype(int) % 2]
    annotation[rng.random(2000) < 0.1] = None
    cells.obs["annotation"] = pd.Categorical(annotation)
    cells.obs["split"] = np.where(cells.obsm["spatial"][:, 1] < 1000, "test", "train").astype(object)
    return cells


def folds_of(cells: ad.AnnData, **options: Any) -> Any:
    return annotated_folds(cells, label_key="annotation", polygons=None, polygons_unit="px", **options)


def test_blocks_score_each_annotated_test_cell_once(cells: ad.AnnData) -> None:
    truth, annotated, folds = folds_of(cells)
    expected = np.flatnonzero(cells.obs["annotation"].notna() & (cells.obs["split"] == "test"))
    np.testing.assert_array_equal(annotated, expected)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.score for fold in folds])), expected)
    assert len(folds) == 5
    assert all(np.isin(fold.fit, expected).all() and not np.isin(fold.fit, fold.score).any() for fold in folds)
    assert [truth.names[code] for code in truth.codes[annotated]] == cells.obs["annotation"].iloc[annotated].tolist()


def test_the_split_fits_on_the_training_cells(cells: ad.AnnData) -> None:
    _, annotated, (fold,) = folds_of(cells, protocol="split", labels=["Tumor 2", "Tumor 1"])
    assert set(cells.obs["split"].iloc[fold.fit]) == {"train"}
    assert set(cells.obs["split"].iloc[fold.score]) == {"test"}
    np.testing.assert_array_equal(np.sort(annotated), np.flatnonzero(cells.obs["annotation"].notna()))


def test_a_fold_that_would_be_fitted_to_one_annotation(make_cells: Callable) -> None:
    """Four corners, of which a gap leaves little; found without any niche."""
    corners = np.repeat([[50.0, 50], [150, 50], [50, 150], [150, 150]], 5, axis=0)
    cells = make_cells(corners, annotation=pd.Categorical(np.repeat(["a", "b", "b", "a"], 5)))
    with pytest.raises(ValueError, match=r"A fold has only cells annotated \[.*\] to be predicted from"):
        folds_of(cells, n_folds=4, block_um=100, gap_um=60)
    with pytest.raises(ValueError, match=r"annotated \['b'\] and of a kind to be predicted from. Use a smaller"):
        check_fit(Labels(np.array([0, 1, 1]), ["a", "b"]), np.array([1, 2]), " and of a kind")
