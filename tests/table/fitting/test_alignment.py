"""What an alignment takes from tables of tiles and of cells, and how it comes back to them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData

from stdistill._table.fitting.alignment import (
    AlignmentInputs,
    alignment_inputs,
    check_unseen,
    find_cells,
    get_slides,
    write_alignment,
)
from stdistill._table.records import read_record, write_record

HE_KEYS = {"micro": "X_he_micro", "macro": "X_he_macro"}


def slide_of(n_tiles: int = 3, *, seed: int = 0, lost: tuple[int, ...] = ()) -> Any:
    """Tiles of 100 µm in a row, with four cells each and two in none; cells that are `lost` have no latent."""
    rng = np.random.default_rng(seed)
    n = 4 * n_tiles + 2
    tile = np.array([*np.repeat(np.arange(1, n_tiles + 1), 4), -1, -1])
    order = rng.permutation(n)
    known = tile > 0
    within = rng.uniform(0, 100, (n, 2))
    place = np.where(known, within[:, 1] // 25 * 4 + within[:, 0] // 25, -1).astype(int)
    centers = within + np.stack([(tile - 1) * 100, np.zeros(n)], axis=1)
    latent = rng.normal(size=(n, 5)).astype(np.float32)
    latent[list(lost)] = np.nan
    obs = pd.DataFrame(index=[f"cell-{i}" for i in range(n)])
    for name, values, dtype in (("tile", tile, "Int32"), ("tile_place", place, "Int8")):
        obs[name] = pd.array(np.where(known, values, 0), dtype=dtype)
        obs.loc[~known, name] = pd.NA
    cells = ad.AnnData(np.ones((n, 1), np.float32), obs=obs, obsm={"spatial": centers, "X_pca": latent})[order].copy()
    tiles = ad.AnnData(
        np.ones((n_tiles, 1), np.float32),
        obs=pd.DataFrame({"n_cells": 4, "instance_id": np.arange(1, n_tiles + 1)}, index=map(str, range(n_tiles))),
        obsm={"spatial": np.stack([np.arange(n_tiles) * 100 + 50.0, np.full(n_tiles, 50.0)], axis=1)},
    )
    for key in HE_KEYS.values():
        tiles.obsm[key] = rng.normal(size=(n_tiles, 8)).astype(np.float16)
    write_record(tiles, "tiles", tile_um=100.0, tile_px=200, mpp=0.5, table_key="table")
    return SpatialData.init_from_elements({"table": cells, "tiles": tiles})


def inputs_of(*slides: Any, use_rep: str | None = "X_pca", **changes: Any) -> AlignmentInputs:
    how: dict[str, Any] = {"radius_um": 20.0, "max_pairs": 100, "split_key": "split", "tiles_key": "tiles"}
    return alignment_inputs(slides, **{"he_keys": HE_KEYS, "use_rep": use_rep} | how | changes)


def test_tiles_of_all_slides_one_after_the_other() -> None:
    """Each with its own cells, whatever their order in their table."""
    first, second = slide_of(3), slide_of(2, seed=1)
    inputs = inputs_of(first, second)
    data = inputs.data
    assert data.slide.tolist() == [0, 0, 0, 1, 1]
    assert data.side_um == 100.0
    assert data.graphs.n_cells.tolist() == [4] * 5
    for begin, slide in ((0, first), (3, second)):
        tiles, cells = slide.tables["tiles"], slide.tables["table"]
        for scale, key in HE_KEYS.items():
            np.testing.assert_array_equal(data.images[scale][begin : begin + tiles.n_obs], tiles.obsm[key])
        for number in range(tiles.n_obs):
            own = cells[(cells.obs["tile"] == number + 1).fillna(False).to_numpy(bool)]
            batch = data.graphs.batch(np.array([begin + number]))
            expected = own.obsm["X_pca"]
            np.testing.assert_array_equal(np.sort(batch.cells.numpy(), axis=0), np.sort(expected, axis=0))
    assert inputs.with_he.all()
    assert inputs.with_cells.all()
    assert inputs.training.all()


def test_what_is_not_known_is_left_out() -> None:
    """A tile without features, and one all of whose cells have no latent; the others stay."""
    slide = slide_of(3, lost=(0, 1, 2, 3, 4))
    slide.tables["tiles"].obsm["X_he_micro"][2, 1] = np.nan
    inputs = inputs_of(slide)
    assert inputs.with_he.tolist() == [True, True, False]
    assert inputs.with_cells.tolist() == [False, True, True]
    assert inputs.data.graphs.n_cells.tolist() == [0, 3, 4]
    assert [known.sum() for known in inputs.known_cells] == [7]


def test_results_come_back_to_their_tables() -> None:
    """Of tiles all of them, of cells those that are known, each in its row; the others get none."""
    slides = [slide_of(3, lost=(1,)), slide_of(2, seed=1)]
    inputs = inputs_of(*slides)
    assert [part.tolist() for part in inputs.divide(np.arange(5))] == [[0, 1, 2], [3, 4]]
    for slide, part in zip(slides, inputs.divide_cells(inputs.data.graphs.cells), strict=True):
        cells = slide.tables["table"]
        expected = np.where(cells.obs["tile"].isna().to_numpy()[:, None], np.nan, cells.obsm["X_pca"])
        np.testing.assert_array_equal(part, expected)


def test_the_he_alone() -> None:
    """As of a slide without cells: expression is not read, nor asked for."""
    slide = slide_of(3)
    del slide.tables["table"]
    inputs = inputs_of(slide, use_rep=None)
    assert inputs.cells == []
    assert inputs.with_he.all()
    assert not inputs.with_cells.any()
    assert inputs.data.graphs.n_cells.tolist() == [0, 0, 0]


def test_other_features_of_the_same_tiles() -> None:
    slide = slide_of(3)
    slide.tables["tiles"].obsm["X_uni"] = np.full((3, 2), np.nan, dtype=np.float16)
    slide.tables["tiles"].obsm["X_uni"][1] = 1
    inputs = inputs_of(slide)
    other = inputs.with_features({"macro": "X_uni"})
    assert list(other.data.images) == ["macro"]
    assert other.with_he.tolist() == [False, True, False]
    assert inputs.with_he.all()
    assert other.data.graphs is inputs.data.graphs


def test_tiles_of_the_split() -> None:
    slide = slide_of(3)
    slide.tables["tiles"].obs["split"] = pd.Categorical(["train", "test", None])
    assert inputs_of(slide).training.tolist() == [True, False, False]
    assert inputs_of(slide, split_key=None).training.all()


def test_what_is_missing_is_said() -> None:
    slide = slide_of(3)
    with pytest.raises(
        KeyError, match=r"he_rep='X_he_meso' is not features in \.obsm of the tiles.*sd\.pp\.embed_tiles"
    ):
        inputs_of(slide, he_keys={"meso": "X_he_meso"})
    with pytest.raises(KeyError, match=r"use_rep='X_scVI' is not features in \.obsm; .*sd\.pp\.embed_expression"):
        inputs_of(slide, use_rep="X_scVI")
    other = slide_of(2)
    for key in HE_KEYS.values():
        other.tables["tiles"].obsm[key] = other.tables["tiles"].obsm[key][:, :7]
    with pytest.raises(ValueError, match=r"has \[8, 7\] features in the tables; expected one dimension"):
        inputs_of(slide, other)
    write_record(slide.tables["tiles"], "tiles", tile_um=100.0, tile_px=200, mpp=0.5)
    assert find_cells(slide, slide.tables["tiles"]) is None
    with pytest.raises(ValueError, match=r"laid over tissue, without cells: expression is read of cells\. Run sd\.pp"):
        inputs_of(slide)


def test_slides(make_slide: Callable[..., Any]) -> None:
    slide = make_slide()
    assert get_slides(slide) == [slide]
    assert get_slides((slide, slide)) == [slide, slide]
    with pytest.raises(ValueError, match="The list of slides is empty"):
        get_slides([])
    with pytest.raises(TypeError, match="Expected a SpatialData with tables of tiles and of cells, found AnnData"):
        get_slides([slide, slide["table"]])
    with pytest.raises(TypeError, match="found str"):
        get_slides("slide.zarr")  # type: ignore[arg-type]


def test_what_is_written() -> None:
    """All scales together have unit length, where each has; tables of tiles know what was fitted."""
    slides = [slide_of(3), slide_of(2, seed=1)]
    inputs = inputs_of(*slides)
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        found = rng.normal(size=(2, 5, 4)).astype(np.float32)
        found /= np.linalg.norm(found, axis=2, keepdims=True)
        sides.append(dict(zip(HE_KEYS, found, strict=True)))
    of_cells = {"micro": inputs.data.graphs.cells[:, :2]}
    model: Any = SimpleNamespace(sha256="ab" * 32)
    fitted = [np.array([True, True, False]), None]
    write_alignment("align", inputs, model, *sides, of_cells, fitted, key_added="mine", he_rep="X_he", temperature=0.5)
    for slide, rows in zip(slides, (slice(0, 3), slice(3, 5)), strict=True):
        tiles, cells = slide.tables["tiles"], slide.tables["table"]
        for side, embedded in zip(("he", "expression"), sides, strict=True):
            for scale, vectors in embedded.items():
                np.testing.assert_array_equal(tiles.obsm[f"X_mine_{side}_{scale}"], vectors[rows])
            joined = tiles.obsm[f"X_mine_{side}"]
            np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, rtol=1e-6)
        products = tiles.obsm["X_mine_he"] @ tiles.obsm["X_mine_expression"].T
        expected = np.mean([sides[0][scale][rows] @ sides[1][scale][rows].T for scale in HE_KEYS], axis=0)
        np.testing.assert_allclose(products, expected, atol=1e-6)
        assert np.isnan(cells.obsm["X_sigmma_micro"]).any(axis=1).sum() == 2
        assert read_record(tiles, "align", "mine")["temperature"] == 0.5
        assert set(tiles.obs["mine_model"]) == {"ab" * 8}
    assert slides[0].tables["tiles"].obs["mine_fitted"].tolist() == [True, True, False]
    assert "mine_fitted" not in slides[1].tables["tiles"].obs  # nobody knows


def test_a_latent_that_saw_the_test_cells() -> None:
    """It is no test then, where tiles are held out; without a split there is none to spoil."""
    slide = slide_of(3)
    tiles, cells = slide.tables["tiles"], slide.tables["table"]
    write_record(tiles, "tiles", tile_um=100.0, tile_px=200, mpp=0.5, table_key="table", split_key="split")
    cells.obs["split"] = pd.Categorical(np.where(cells.obs["tile"].fillna(0).to_numpy() == 3, "test", "train"))
    cells.obs["X_pca_fitted"] = True
    check_unseen(inputs_of(slide), HE_KEYS["micro"], "X_pca", "split")
    tiles.obs["split"] = pd.Categorical(["train", "train", "test"])
    with pytest.raises(ValueError, match="X_pca"):
        check_unseen(inputs_of(slide), HE_KEYS["micro"], "X_pca", "split")
    cells.obs["X_pca_fitted"] = cells.obs["split"] == "train"
    check_unseen(inputs_of(slide), HE_KEYS["micro"], "X_pca", "split")
