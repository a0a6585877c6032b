from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest

import stdistill as sd

Make = Callable[..., ad.AnnData]


def test_by_hand(make_tiles: Make) -> None:
    tiles = make_tiles(4)
    tiles.obsm["X_aligned_he"] = np.array([[1, 0], [0, 1], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    tiles.obsm["X_aligned_expression"] = np.array([[0.6, 0.8], [0, -1], [0, 1], [1, 0]], dtype=np.float32)
    found = sd.tl.find_tiles(tiles, "tile-1", n=3)
    assert list(found.columns) == ["tile", "similarity", "rank", "x_um", "y_um"]
    assert found["tile"].tolist() == ["tile-3", "tile-2", "tile-1"]
    np.testing.assert_allclose(found["similarity"], [0.96, 0.8, 0.6], rtol=1e-6)
    assert found["rank"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found[["x_um", "y_um"]], tiles.obsm["spatial"][[2, 1, 0]])

    back = sd.tl.find_tiles(tiles, "tile-1", side="he", among="expression")
    assert back["tile"].tolist()[:2] == ["tile-4", "tile-1"]
    np.testing.assert_allclose(back["similarity"], [1, 0.6, 0, 0], atol=1e-6)


def test_several_ask_together(make_tiles: Make) -> None:
    tiles = make_tiles(4)
    tiles.obsm["X_aligned_he"] = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], dtype=np.float32)
    tiles.obsm["X_aligned_expression"] = np.array([[1, 0], [0, 1], [0, 1], [0, -1]], dtype=np.float32)
    found = sd.tl.find_tiles(tiles, ["tile-1", "tile-2"], n=1)
    assert found["tile"].tolist() == ["tile-3"]  # between both
    np.testing.assert_allclose(found["similarity"], [1.4 / 2**0.5], rtol=1e-6)


def test_a_tile_does_not_find_itself_on_its_own_side(make_tiles: Make) -> None:
    tiles = make_tiles()
    found = sd.tl.find_tiles(tiles, ["tile-5", "tile-9"], side="he", among="he", n=1000)
    assert len(found) == 318
    assert not set(found["tile"]) & {"tile-5", "tile-9"}
    assert (np.diff(found["similarity"]) <= 0).all()


def test_true_partners_are_near(make_tiles: Make) -> None:
    tiles = make_tiles()
    ranks = [
        sd.tl.find_tiles(tiles, name, n=320).set_index("tile").loc[name, "rank"] for name in tiles.obs_names[160:180]
    ]
    assert np.mean(np.array(ranks) <= 32) > 0.8


def test_on_another_slide_of_h_and_e_alone(make_tiles: Make) -> None:
    known, slide = make_tiles(), make_tiles(50, 0, seed=1)
    slide = slide[:, :0].copy()
    del slide.obsm["X_aligned_expression"]
    found = sd.tl.find_tiles(slide, "tile-7", query_data=known, n=5)
    expected = slide.obsm["X_aligned_he"] @ known.obsm["X_aligned_expression"][6]
    assert found["tile"].tolist() == slide.obs_names[np.argsort(-expected)[:5]].tolist()
    with pytest.raises(KeyError, match="The expression side needs cells with the latent"):
        sd.tl.find_tiles(slide, "tile-7", query_data=known, among="expression")
    same = sd.tl.find_tiles(slide, "tile-7", side="he", query_data=slide, n=60)
    assert len(same) == 49


def test_tiles_without_an_embedding(make_tiles: Make) -> None:
    tiles = make_tiles(30)
    tiles.obsm["X_aligned_he"][:20] = np.nan
    tiles.obsm["X_aligned_expression"][3] = np.nan
    assert len(sd.tl.find_tiles(tiles, "tile-1", n=30)) == 10
    with pytest.raises(ValueError, match=r"1 of the 2 tiles of the query have no embedding.*such as 'tile-4'"):
        sd.tl.find_tiles(tiles, ["tile-1", "tile-4"])
    tiles.obsm["X_aligned_he"][:] = np.nan
    with pytest.raises(ValueError, match="No tile to look at has an embedding of its he"):
        sd.tl.find_tiles(tiles, "tile-1")


def test_bad_input(make_tiles: Make) -> None:
    tiles = make_tiles(30)
    with pytest.raises(KeyError, match="1 of the tiles are not in the table, such as 'tile-31'"):
        sd.tl.find_tiles(tiles, "tile-31")
    with pytest.raises(ValueError, match="query is empty"):
        sd.tl.find_tiles(tiles, [])
    with pytest.raises(ValueError, match=r"side must be one of \['he', 'expression'\], found 'HE'"):
        sd.tl.find_tiles(tiles, "tile-1", side="HE")
    with pytest.raises(ValueError, match="among must be"):
        sd.tl.find_tiles(tiles, "tile-1", among="genes")
    with pytest.raises(ValueError, match="n must be at least 1"):
        sd.tl.find_tiles(tiles, "tile-1", n=0)
    other = make_tiles(30)
    for number, each in enumerate((tiles, other)):
        each.uns["stdistill"]["align"] = {"model_sha256": str(number)}
    with pytest.raises(ValueError, match="of 2 models"):
        sd.tl.find_tiles(tiles, "tile-1", query_data=other)
