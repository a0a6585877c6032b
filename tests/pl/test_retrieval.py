from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt
from spatialdata import SpatialData

import stdistill as sd
from stdistill._measures.alignment.recall import unit_rows

pytestmark = pytest.mark.filterwarnings("ignore:Few tiles")


def align(tiles: ad.AnnData, seed: int = 0) -> None:
    """Write made-up embeddings, of which some partners are far from each other."""
    rng = np.random.default_rng(seed)
    he = unit_rows(rng.normal(size=(tiles.n_obs, 4)))
    tiles.obsm["X_aligned_he"] = he
    tiles.obsm["X_aligned_expression"] = unit_rows(he + 0.8 * rng.normal(size=he.shape))


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    slide = sd.pp.read_xenium(bundle)
    sd.pp.tiles(slide, tile_px=96, min_cells=3)
    align(slide["tiles"])
    sd.tl.retrieval(slide)
    return slide


def table(n: int = 40, seed: int = 0) -> ad.AnnData:
    tiles = ad.AnnData(np.zeros((n, 1)), uns={"stdistill": {"tiles": {"n_tiles": n}}})
    align(tiles, seed)
    return tiles


def test_curves_are_those_of_the_ranks() -> None:
    tiles = table(40)
    found = sd.tl.retrieval(tiles)
    ax = sd.pl.retrieval(tiles, n_queries=0, show=False)
    lines = {line.get_label(): line for line in ax.lines}
    for side, name in (("he_to_expression", "H&E → expression"), ("expression_to_he", "expression → H&E")):
        x, y = lines[name].get_data()
        ranks = tiles.obs[f"aligned_rank_{side}"].to_numpy(float) * 40
        for k in (1, 2, 4, 6, 20, 40):
            assert y[np.searchsorted(x, 100 * k / 40 + 1e-3) - 1] == pytest.approx((ranks <= k + 0.1).mean())
    dots = [line.get_ydata() for line in ax.lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(np.concatenate(dots), found["recall"])
    np.testing.assert_allclose(np.unique([line.get_xdata() for line in ax.lines[2::2]]), [5, 10, 15])
    np.testing.assert_array_equal(lines["chance"].get_xydata(), [[0, 0], [100, 1]])
    assert ax.get_ylabel() == "recall (40 tiles)"


def test_dots_are_what_the_table_says_where_places_are_rounded() -> None:
    tiles = table(37)
    found = sd.tl.retrieval(tiles)
    ax = sd.pl.retrieval(tiles, n_queries=0, show=False)
    dots = np.concatenate([line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"])
    np.testing.assert_allclose(dots, found[["chance", "recall"]] * [100, 1])
    for curve, some in ((ax.lines[1], dots[:3]), (ax.lines[3], dots[3:])):
        x, y = curve.get_data()
        np.testing.assert_allclose(y[np.searchsorted(x, some[:, 0] + 1e-9) - 1], some[:, 1])


def test_best_and_worst_queries(slide: SpatialData) -> None:
    tiles = slide["tiles"]
    axes = sd.pl.retrieval(slide, n_queries=2, n_found=3, show=False)
    assert [ax.get_title() for ax in axes] == ["", "Best: H&E → expression", "Worst: H&E → expression"]
    ranks = tiles.obs["aligned_rank_he_to_expression"] * tiles.n_obs
    for ax, extreme in ((axes[1], ranks.min()), (axes[2], ranks.max())):
        name, rank = ax.get_yticklabels()[0].get_text().split("\n")
        assert rank == f"rank {round(extreme)} of {tiles.n_obs}"
        assert round(ranks[name]) == round(extreme)
    assert len(axes[1].patches) == 2  # both found their partner among three
    assert not axes[2].patches
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["query", "1", "2", "3"]


def test_what_is_shown_is_what_find_tiles_finds(slide: SpatialData) -> None:
    axes = sd.pl.retrieval(slide, direction="expression_to_he", n_queries=1, n_found=2, show=False)
    name = axes[2].get_yticklabels()[0].get_text().split("\n")[0]
    found = sd.tl.find_tiles(slide, name, n=2)["tile"].tolist()
    pictures = sd.get.he_crops(slide, cells=[name, *found], crop_px=128, mpp=96 * 0.5 / 128, table_key="tiles")
    sheet = np.asarray(axes[2].images[0].get_array())
    for left, picture in zip((0, 160, 296), pictures, strict=True):
        np.testing.assert_array_equal(sheet[:, left : left + 128], picture)


def test_a_picture(slide: SpatialData, check_image: Callable[[str], None]) -> None:
    sd.pl.retrieval(slide, n_queries=2, n_found=4, show=False)
    check_image("retrieval")


def test_several_slides(slide: SpatialData, bundle: Path) -> None:
    """Partners are looked for on the slide of the query, or on all."""
    other = sd.pp.read_xenium(bundle)
    sd.pp.tiles(other, tile_px=96, min_cells=3)
    align(other["tiles"], seed=1)
    own = SpatialData.init_from_elements({name: element for _, name, element in slide.gen_elements()})
    own.tables["tiles"] = slide["tiles"].copy()
    n = slide["tiles"].n_obs
    for pool, size in (("slide", n), ("all", 2 * n)):
        sd.tl.retrieval([own, other], pool=pool)
        axes = sd.pl.retrieval([own, other], n_queries=4, n_found=3, show=False)
        labels = [label.get_text() for ax in axes[1:] for label in ax.get_yticklabels()]
        assert {label.split(" of ")[1] for label in labels} == {str(size)}
        assert {label.split("\n")[0].split(" ", 1)[1] for label in labels} == {"(slide 0)", "(slide 1)"}
        assert axes[0].get_ylabel() == f"recall ({2 * n} tiles)"


def test_own_axes_titles_and_file(slide: SpatialData, tmp_path: Path) -> None:
    _, grid = plt.subplots(1, 3)
    axes = sd.pl.retrieval(slide, n_queries=1, ax=grid, title=["a", "b", "c"], save=tmp_path / "found.png")
    assert list(axes) == list(grid)
    assert [ax.get_title() for ax in grid] == ["a", "b", "c"]
    assert (tmp_path / "found.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="ax holds 1 axes; there are 3 panels"):
        sd.pl.retrieval(slide, ax=grid[0])


def test_fewer_tiles_than_are_asked_for(slide: SpatialData) -> None:
    few = table(3)
    sd.tl.retrieval(few)
    sd.pl.retrieval(few, n_queries=0, show=False)
    n = slide["tiles"].n_obs
    axes = sd.pl.retrieval(slide, n_queries=n + 5, n_found=n + 5, show=False)
    assert len(axes[1].get_yticklabels()) == n


def test_ranks_of_other_embeddings_are_not_drawn() -> None:
    tiles = table()
    with pytest.raises(KeyError, match=r"aligned_rank_he_to_expression.*Run sd\.tl\.retrieval"):
        sd.pl.retrieval(tiles, n_queries=0)
    sd.tl.retrieval(tiles)
    with pytest.raises(ValueError, match="of other embeddings or other tiles"):
        sd.pl.retrieval(tiles[:20].copy(), n_queries=0)
    align(tiles, seed=3)
    with pytest.raises(ValueError, match="of other embeddings or other tiles"):
        sd.pl.retrieval(tiles, n_queries=0)


def test_bad_input() -> None:
    tiles = table()
    sd.tl.retrieval(tiles)
    with pytest.raises(TypeError, match="An AnnData holds no image"):
        sd.pl.retrieval(tiles)
    with pytest.raises(ValueError, match="direction must be"):
        sd.pl.retrieval(tiles, direction="he")
    with pytest.raises(ValueError, match="n_queries"):
        sd.pl.retrieval(tiles, n_queries=-1)
    with pytest.raises(ValueError, match="The list of slides is empty"):
        sd.pl.retrieval([])
    tiles.obs["aligned_rank_he_to_expression"] = np.nan
    with pytest.raises(ValueError, match="No tile has a rank 'aligned'"):
        sd.pl.retrieval(tiles, n_queries=0)
    assert not plt.get_fignums()
