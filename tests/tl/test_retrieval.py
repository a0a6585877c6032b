from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._measures.alignment.baselines import expression_components, project_by_cca, project_by_ridge
from stdistill._measures.alignment.expression import log_expression
from stdistill._measures.alignment.recall import partner_ranks

Make = Callable[..., ad.AnnData]
pytestmark = pytest.mark.filterwarnings("ignore:Few tiles")
COLUMNS = ["method", "slide", "direction", "p", "recall", "low", "high", "n", "chance"]


def plain(angles_he: list[float], angles_expression: list[float], **obs: object) -> ad.AnnData:
    """Tiles whose embeddings are directions in a plane, in degrees."""
    n = len(angles_he)
    tiles = ad.AnnData(np.zeros((n, 1), dtype=np.float32), obs=pd.DataFrame(obs, index=[f"tile-{i}" for i in range(n)]))
    tiles.uns["stdistill"] = {"tiles": {"n_tiles": n}}
    for side, angles in (("he", angles_he), ("expression", angles_expression)):
        radians = np.deg2rad(angles)
        tiles.obsm[f"X_aligned_{side}"] = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    return tiles


def test_by_hand() -> None:
    tiles = plain([0, 40, 90], [30, 50, 85])
    found = sd.tl.retrieval(tiles, p=(5, 50), n_bootstrap=50)
    assert list(found.columns) == COLUMNS
    assert found["method"].unique().tolist() == ["aligned"]
    assert found["slide"].unique().tolist() == ["0"]
    recall = found.pivot(index="direction", columns="p", values="recall")
    np.testing.assert_allclose(recall.loc["he_to_expression"], [2 / 3, 1])  # ranks 1, 2, 1; 1 and 2 places
    np.testing.assert_allclose(recall.loc["expression_to_he"], [2 / 3, 1])  # ranks 2, 1, 1
    np.testing.assert_allclose(found["chance"], [1 / 3, 2 / 3] * 2)
    assert (found["n"] == 3).all()
    assert ((found["low"] <= found["recall"]) & (found["recall"] <= found["high"])).all()
    written = tiles.obs[["aligned_rank_he_to_expression", "aligned_rank_expression_to_he"]]
    assert (written.dtypes == np.float32).all()
    np.testing.assert_allclose(written, np.array([[1, 2], [2, 1], [1, 1]]) / 3, rtol=1e-6)
    record = tiles.uns["stdistill"]["retrieval"]
    assert (record["pool"], record["n_tiles"], record["key_added"]) == ("slide", 3, "aligned")


def test_the_pool_are_the_test_tiles(make_tiles: Make) -> None:
    tiles = make_tiles()
    found = sd.tl.retrieval(tiles, baselines=False)
    assert (found["n"] == 160).all()
    assert found["method"].unique().tolist() == ["aligned", "aligned micro", "aligned meso", "aligned macro"]
    ranks = partner_ranks(tiles.obsm["X_aligned_he"][160:], tiles.obsm["X_aligned_expression"][160:])
    np.testing.assert_allclose(tiles.obs["aligned_rank_he_to_expression"][160:], ranks[0] / 160, rtol=1e-6)
    np.testing.assert_allclose(tiles.obs["aligned_rank_expression_to_he"][160:], ranks[1] / 160, rtol=1e-6)
    assert tiles.obs["aligned_rank_he_to_expression"][:160].isna().all()
    at_5 = found[(found["p"] == 5) & (found["direction"] == "he_to_expression")].set_index("method")["recall"]
    assert at_5["aligned"] == (ranks[0] <= 8).mean()
    assert at_5["aligned"] > at_5[["aligned micro", "aligned meso", "aligned macro"]].max()  # causes without noise


def test_without_a_split_the_pool_is_what_was_not_fitted(make_tiles: Make) -> None:
    tiles = make_tiles(n_train=100, split=False)
    assert (sd.tl.retrieval(tiles, baselines=False)["n"] == 220).all()
    tiles.obs["aligned_fitted"] = True
    with pytest.raises(ValueError, match=r"All of the 320 tiles had a part in fitting 'aligned'.*split_strips"):
        sd.tl.retrieval(tiles)
    del tiles.obs["aligned_fitted"]
    assert (sd.tl.retrieval(tiles, baselines=False)["n"] == 320).all()  # of a model from elsewhere


def test_test_tiles_that_were_fitted_are_refused(make_tiles: Make) -> None:
    tiles = make_tiles()
    tiles.obs.loc[["tile-200", "tile-201"], "aligned_fitted"] = True
    with pytest.raises(ValueError, match=r"2 of the 160 tiles that are 'test'.*'aligned'.*Run sd\.tl\.align again"):
        sd.tl.retrieval(tiles)
    assert "aligned_rank_he_to_expression" not in tiles.obs


def test_baselines_are_fitted_to_what_the_alignment_was_fitted_to(make_tiles: Make) -> None:
    tiles = make_tiles()
    found = sd.tl.retrieval(tiles, p=(10,))
    methods = found["method"].unique().tolist()
    assert methods[-3:] == ["ridge", "CCA", "linear InfoNCE"]
    assert (found[found["method"].isin(methods[-3:])]["recall"] > 0.5).all()
    features = np.hstack([tiles.obsm[f"X_he_{scale}"] for scale in ("micro", "meso", "macro")])
    training = np.arange(160)
    cells = expression_components(log_expression(tiles.X, training), tiles.obs["n_cells"].to_numpy(), training)
    for name, project in (("ridge", project_by_ridge), ("CCA", project_by_cca)):
        views = project(features, cells, training)
        recalls = [(ranks <= 16).mean() for ranks in partner_ranks(views.he[160:], views.expression[160:])]
        np.testing.assert_allclose(found[found["method"] == name]["recall"], recalls, atol=1 / 160)


def test_baselines_do_not_see_the_tiles_that_are_tested(make_tiles: Make) -> None:
    one, other = make_tiles(), make_tiles()
    some = slice(170, 320)  # all but ten of the test tiles
    for scale in ("micro", "meso", "macro"):
        other.obsm[f"X_he_{scale}"][some] = np.nan
    small = [one[:170].copy(), other]
    first, second = (sd.tl.retrieval(tiles, p=(30,)) for tiles in small)
    pd.testing.assert_frame_equal(first, second)


def test_baselines_are_left_out_where_nothing_was_fitted(make_tiles: Make, caplog: pytest.LogCaptureFixture) -> None:
    tiles = make_tiles()
    with caplog.at_level(logging.INFO, logger="stdistill"):
        del tiles.obs["aligned_fitted"]
        assert "CCA" not in set(sd.tl.retrieval(tiles)["method"])
        assert "and 0 of those are here" in caplog.text
        tiles.obs["aligned_fitted"] = np.arange(320) < 160
        assert "CCA" not in set(sd.tl.retrieval(tiles[:, :0].copy())["method"])
        assert "tiles without genes" in caplog.text
        for scale in ("micro", "meso", "macro"):
            del tiles.obsm[f"X_he_{scale}"]
        assert "CCA" not in set(sd.tl.retrieval(tiles)["method"])
        assert "no features of the H&E" in caplog.text


def test_features_under_another_key(make_tiles: Make) -> None:
    tiles = make_tiles()
    expected = sd.tl.retrieval(tiles)
    for scale in ("micro", "meso", "macro"):
        tiles.obsm[f"X_uni_{scale}"] = tiles.obsm.pop(f"X_he_{scale}")
    tiles.uns["stdistill"]["embed_tiles_X_uni"] = {"key_added": "X_uni"}
    pd.testing.assert_frame_equal(sd.tl.retrieval(tiles), expected)


def test_tiles_with_nan_are_left_out(make_tiles: Make, caplog: pytest.LogCaptureFixture) -> None:
    tiles = make_tiles()
    tiles.obsm["X_aligned_he"][300:305] = np.nan
    tiles.obsm["X_aligned_expression"][304:307] = np.nan
    tiles.obsm["X_he_meso"][310] = np.nan
    with caplog.at_level(logging.INFO, logger="stdistill"):
        found = sd.tl.retrieval(tiles)
    assert (found["n"] == 152).all()  # one pool for all methods
    assert "8 of the 160 tiles to test on have a NaN" in caplog.text
    assert tiles.obs["aligned_rank_expression_to_he"].isna().sum() == 168
    tiles.obsm["X_aligned_he"][:] = np.nan
    with pytest.raises(ValueError, match="None of the 160 tiles to test on has both embeddings"):
        sd.tl.retrieval(tiles)


def test_several_slides_and_pools(make_tiles: Make) -> None:
    slides = [make_tiles(), make_tiles(200, 0, seed=1, split=False), make_tiles(100, 100, seed=2, split=False)]
    found = sd.tl.retrieval(slides, baselines=False)
    assert found.groupby("slide")["n"].unique().map(list).to_dict() == {"0": [160], "1": [200]}
    assert slides[2].obs["aligned_rank_he_to_expression"].isna().all()  # all of it was fitted
    alone = sd.tl.retrieval(slides[1], baselines=False)
    recall = found[found["slide"] == "1"]["recall"].to_numpy()
    np.testing.assert_array_equal(recall, alone["recall"])

    together = sd.tl.retrieval(slides, pool="all", baselines=False)
    assert together["slide"].unique().tolist() == ["all"]
    assert (together["n"] == 360).all()
    he, expression = (
        np.concatenate([slides[0].obsm[f"X_aligned_{side}"][160:], slides[1].obsm[f"X_aligned_{side}"]])
        for side in ("he", "expression")
    )
    ranks = partner_ranks(he, expression)[0] / 360
    np.testing.assert_allclose(slides[1].obs["aligned_rank_he_to_expression"], ranks[160:], rtol=1e-6)
    assert slides[0].uns["stdistill"]["retrieval"]["pool"] == "all"


def test_baselines_over_slides_with_other_genes(make_tiles: Make) -> None:
    slides = [make_tiles(160, 160, split=False), make_tiles(160, 0, seed=1, split=False)[:, ::-1].copy()]
    slides[1] = slides[1][:, 5:].copy()
    found = sd.tl.retrieval(slides, p=(10,))
    assert found["slide"].unique().tolist() == ["1"]
    assert (found[found["method"] == "CCA"]["recall"] > 0.5).all()


def test_an_alignment_of_another_name(make_tiles: Make) -> None:
    tiles = make_tiles()
    for side in ("he", "expression"):
        tiles.obsm[f"X_macro_only_{side}"] = tiles.obsm[f"X_aligned_{side}_macro"]
    found = sd.tl.retrieval(tiles, key="macro_only", baselines=False)
    assert found["method"].unique().tolist() == ["macro_only"]
    assert "macro_only_rank_he_to_expression" in tiles.obs
    assert "retrieval_macro_only" in tiles.uns["stdistill"]


def test_a_seed_gives_the_same_and_little_depends_on_it(make_tiles: Make) -> None:
    one, again, other = (sd.tl.retrieval(make_tiles(), baselines=False, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    pd.testing.assert_frame_equal(one.drop(columns=["low", "high"]), other.drop(columns=["low", "high"]))
    np.testing.assert_allclose(one["low"], other["low"], atol=0.02)


def test_one_tile() -> None:
    found = sd.tl.retrieval(plain([0], [180]))
    assert (found[["recall", "chance", "low", "high", "n"]] == 1).all(axis=None)


def test_few_tiles_are_warned_of(make_tiles: Make) -> None:
    with pytest.warns(UserWarning, match=r"Few tiles in the pool \(50 in '0'; at least 150"):
        sd.tl.retrieval(make_tiles(210, 160), baselines=False)


def test_results_survive_writing(make_tiles: Make, tmp_path) -> None:
    tiles = make_tiles()
    sd.tl.retrieval(tiles, baselines=False)
    tiles.write_h5ad(tmp_path / "tiles.h5ad")
    read = ad.read_h5ad(tmp_path / "tiles.h5ad")
    np.testing.assert_array_equal(read.obs["aligned_rank_he_to_expression"], tiles.obs["aligned_rank_he_to_expression"])
    assert read.uns["stdistill"]["retrieval"]["pool"] == "slide"


def test_what_is_missing(make_tiles: Make, make_cells: Callable[..., ad.AnnData]) -> None:
    tiles = make_tiles()
    with pytest.raises(KeyError, match=r"key='X_other_he' is not an embedding.*Run sd\.tl\.align, or sd\.tl\.predict"):
        sd.tl.retrieval(tiles, key="other")
    del tiles.obsm["X_aligned_expression"]
    with pytest.raises(KeyError, match=r"The expression side needs cells with the latent"):
        sd.tl.retrieval(tiles)
    with pytest.raises(ValueError, match=r"not one of tiles.*Lay them with sd\.pp\.tiles"):
        sd.tl.retrieval(make_cells())
    with pytest.raises(TypeError, match="Expected an AnnData or a SpatialData, found the path"):
        sd.tl.retrieval("slide")


def test_other_models_are_told_apart(make_tiles: Make) -> None:
    slides = [make_tiles(), make_tiles(seed=1)]
    for number, slide in enumerate(slides):
        slide.uns["stdistill"]["align"] = {"model_sha256": str(number)}
    with pytest.raises(ValueError, match=r"of the 2 tables are of 2 models.*sd\.tl\.predict"):
        sd.tl.retrieval(slides)
    for slide in slides:
        del slide.uns["stdistill"]["align"]
    slides[1].obsm["X_aligned_he"] = slides[1].obsm["X_aligned_he"][:, :4]
    with pytest.raises(ValueError, match=r"have \[24, 4, 24, 24\] columns"):
        sd.tl.retrieval(slides)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"p": ()}, ValueError, "p must be a list of percentages"),
        ({"p": 5}, ValueError, "p must be a list of percentages, found 5"),
        ({"p": (5, 101)}, ValueError, "p holds 101; expected percentages of at most 100"),
        ({"p": (0,)}, ValueError, "p must be positive"),
        ({"pool": "section"}, ValueError, r"pool must be one of \['slide', 'all'\], found 'section'"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap"),
        ({"seed": 0.5}, TypeError, "seed"),
    ],
)
def test_bad_arguments(make_tiles: Make, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sd.tl.retrieval(make_tiles(), **arguments)
    with pytest.raises(ValueError, match="The list of slides is empty"):
        sd.tl.retrieval([])


def test_embeddings_that_are_no_numbers(make_tiles: Make) -> None:
    tiles = make_tiles()
    tiles.obsm["X_aligned_he"] = pd.DataFrame(tiles.obsm["X_aligned_he"], index=tiles.obs_names).astype(str)
    with pytest.raises(TypeError, match="expected floating point numbers"):
        sd.tl.retrieval(tiles)


def test_after_align(bundle: Path) -> None:
    """What sd.tl.align writes is what is read, and the test tiles are left to test on."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    cells.obsm["X_pca"] = np.log1p(cells.X.toarray()[:, :20]).astype(np.float32)
    sd.pp.split_strips(slide, crop_px=128, mpp=0.2)
    sd.pp.tiles(slide, tile_px=128, mpp=0.2, min_cells=2)
    sd.pp.embed_tiles(slide, encoder="texture", key_added="X_texture")
    sd.tl.align(slide, use_rep="X_pca", he_rep="X_texture", max_epochs=1, progress_bar=False)
    tiles = slide["tiles"]
    found = sd.tl.retrieval(slide)
    assert (found["n"] == (tiles.obs["split"] == "test").sum()).all()
    expected = ["aligned", "aligned micro", "aligned meso", "aligned macro", "ridge", "CCA", "linear InfoNCE"]
    assert found["method"].unique().tolist() == expected
    probed = sd.tl.expression_probe(slide, genes=5)["key"].unique().tolist()
    assert probed == [
        *(f"X_texture_{s}" for s in ("micro", "meso", "macro")),
        "X_texture",
        "X_aligned_he",
        "training mean",
    ]
    assert len(sd.tl.find_tiles(slide, tiles.obs_names[0], n=3)) == 3
    sd.pl.retrieval(slide, n_queries=1, n_found=2, show=False)
