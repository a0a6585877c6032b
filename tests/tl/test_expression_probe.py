from __future__ import annotations

import logging
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import stdistill as sd

Make = Callable[..., ad.AnnData]
SCALES = ("micro", "meso", "macro")


def of_all(found: pd.DataFrame) -> pd.DataFrame:
    return found[found["gene"] == "all"].set_index("key")


def test_rows(make_tiles: Make) -> None:
    found = sd.tl.expression_probe(make_tiles(), genes=12)
    assert list(found.columns) == ["key", "gene", "pcc", "mse", "n_tiles", "n_undefined"]
    keys = ["X_he_micro", "X_he_meso", "X_he_macro", "X_he", "X_aligned_he", "training mean"]
    assert found["key"].unique().tolist() == keys
    assert found.groupby("key").size().unique().tolist() == [13]
    assert (found["n_tiles"] == 160).all()
    for _, rows in found[found["key"] != "training mean"].groupby("key"):
        np.testing.assert_allclose(rows["pcc"].iloc[:-1].mean(), rows["pcc"].iloc[-1])
        np.testing.assert_allclose(rows["mse"].iloc[:-1].mean(), rows["mse"].iloc[-1])
    totals = of_all(found)
    assert totals.loc["X_he", "pcc"] > totals.loc[["X_he_micro", "X_he_meso", "X_he_macro"], "pcc"].max()
    assert totals.loc["X_he", "mse"] < 0.7 * totals.loc["training mean", "mse"]
    assert np.isnan(totals.loc["training mean", "pcc"])
    assert totals.loc["training mean", "n_undefined"] == 12
    assert (totals.drop("training mean")["n_undefined"] == 0).all()


def test_genes_are_those_that_vary_most_in_the_training(make_tiles: Make) -> None:
    tiles = make_tiles()
    counts = tiles.X.toarray()
    counts[160:, 3] *= np.random.default_rng(0).integers(0, 50, 160)  # varies in the test alone
    tiles.X = csr_matrix(counts)
    found = sd.tl.expression_probe(tiles, genes=5, keys="X_he_macro")
    scaled = counts / counts.sum(axis=1, keepdims=True) * np.median(counts[:160].sum(axis=1))
    variable = np.argsort(-np.log1p(scaled[:160]).var(axis=0))[:5]
    assert found["gene"].unique().tolist() == [*tiles.var_names[np.sort(variable)], "all"]


def test_cv_written_out(make_tiles: Make) -> None:
    """Against the median total of the training tiles, and a ridge with the best of some penalties."""
    tiles = make_tiles()
    genes = ["gene-7", "gene-2"]
    found = sd.tl.expression_probe(tiles, genes=genes, keys="X_he_meso").iloc[:2].set_index("gene")
    counts = tiles.X.toarray().astype(float)
    totals = counts.sum(axis=1, keepdims=True)
    truth = np.log1p(counts / totals * np.median(totals[:160]))[:, [7, 2]]
    features = tiles.obsm["X_he_meso"].astype(float)
    x = StandardScaler().fit(features[:160]).transform(features)
    errors = {}
    for alpha in np.logspace(0, 6, 13):
        left = [np.delete(np.arange(160), i) for i in range(160)]
        predicted = [Ridge(alpha).fit(x[r], truth[r]).predict(x[[i]])[0] for i, r in enumerate(left)]
        errors[alpha] = ((np.array(predicted) - truth[:160]) ** 2).mean()
    predicted = Ridge(min(errors, key=errors.get)).fit(x[:160], truth[:160]).predict(x[160:])
    for number, gene in enumerate(genes):
        pcc = np.corrcoef(predicted[:, number], truth[160:, number])[0, 1]
        np.testing.assert_allclose(found.loc[gene, "pcc"], pcc, rtol=1e-5)
        mse = ((predicted[:, number] - truth[160:, number]) ** 2).mean()
        np.testing.assert_allclose(found.loc[gene, "mse"], mse, rtol=1e-4)


def test_hest_written_out(make_tiles: Make) -> None:
    tiles = make_tiles()
    genes = ["gene-7", "gene-2", "gene-30"]
    found = sd.tl.expression_probe(tiles, genes=genes, keys="X_he", protocol="hest").iloc[:3].set_index("gene")
    truth = np.log1p(tiles.X.toarray().astype(float))[:, [7, 2, 30]]  # whatever the depth is
    x = np.hstack([tiles.obsm[f"X_he_{scale}"] for scale in SCALES]).astype(float)
    scaler = StandardScaler().fit(x[:160])
    pca = PCA(75).fit(scaler.transform(x[:160]))
    x = pca.transform(scaler.transform(x))
    regression = Ridge(alpha=100 / (75 * 3), solver="lsqr", fit_intercept=False).fit(x[:160], truth[:160])
    predicted = regression.predict(x[160:])
    for number, gene in enumerate(genes):
        pcc = np.corrcoef(predicted[:, number], truth[160:, number])[0, 1]
        np.testing.assert_allclose(found.loc[gene, "pcc"], pcc, atol=1e-3)


def test_mse_of_hest_means_nothing(make_tiles: Make) -> None:
    """It is the square of the level, worse than that of the training mean, though order is told."""
    tiles = make_tiles()
    hest, ours = (of_all(sd.tl.expression_probe(tiles, genes=20, protocol=each)) for each in ("hest", "cv"))
    assert hest.loc["X_he", "pcc"] > 0.5
    assert hest.loc["X_he", "mse"] > 2 * hest.loc["training mean", "mse"]
    assert ours.loc["X_he", "mse"] < ours.loc["training mean", "mse"]
    assert ours.loc["X_he", "pcc"] > hest.loc["X_he", "pcc"]


def test_constant_genes_have_no_correlation(make_tiles: Make) -> None:
    tiles = make_tiles()
    counts = tiles.X.toarray()
    counts[160:, 4] = 0  # in the test
    counts[:160, 5] = 0  # in the training: what is said of it is the same everywhere
    tiles.X = csr_matrix(counts)
    genes = ["gene-3", "gene-4", "gene-5"]
    found = sd.tl.expression_probe(tiles, genes=genes, keys="X_he_macro").set_index(["key", "gene"])
    rows = found.loc["X_he_macro"]
    assert rows["pcc"].isna().tolist() == [False, True, True, False]
    assert rows["n_undefined"].tolist() == [0, 0, 1, 1]  # gene 4 does not vary in truth, and can tell nothing
    assert rows.loc["all", "pcc"] == rows.loc["gene-3", "pcc"]
    assert sd.tl.expression_probe(tiles, genes=40, keys="X_he_macro")["gene"].nunique() == 40  # 39 vary, and "all"


def test_any_representation(make_tiles: Make) -> None:
    """Such as the true composition, which is a ceiling."""
    tiles = make_tiles()
    counts = tiles.X.toarray()
    tiles.obsm["truth"] = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 200)
    totals = of_all(sd.tl.expression_probe(tiles, keys=["truth", "X_he", "X_aligned_he_macro"]))
    assert totals.index.tolist() == ["truth", "X_he", "X_aligned_he_macro", "training mean"]
    assert totals.loc["truth", "pcc"] > 0.97 > totals.loc["X_he", "pcc"]


def test_slides_are_correlated_one_by_one(make_tiles: Make) -> None:
    """Another level of a slide is no correlation: it is fitted to one slide, and two others are tested."""
    slides = [make_tiles(160, 160, split=False), *(make_tiles(100, 0, seed=seed, split=False) for seed in (1, 2))]
    found = sd.tl.expression_probe(slides, genes=6, keys="X_he")
    assert (found["n_tiles"] == 200).all()
    alone = [sd.tl.expression_probe([slides[0], slide], genes=6, keys="X_he") for slide in slides[1:]]
    np.testing.assert_allclose(found["pcc"], np.mean([each["pcc"] for each in alone], axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["mse"], np.mean([each["mse"] for each in alone], axis=0), rtol=1e-6)


def test_slides_with_splits_of_whole_slides(make_tiles: Make) -> None:
    slides = [make_tiles(160, 160), make_tiles(100, 0, seed=1)]
    for slide in slides:
        del slide.obs["aligned_fitted"]
    found = sd.tl.expression_probe(slides, genes=6)
    assert (found["n_tiles"] == 100).all()  # the training slide is no test, though it has no test tile


def test_tiles_with_nan_are_left_out(make_tiles: Make, caplog: pytest.LogCaptureFixture) -> None:
    tiles = make_tiles()
    tiles.obsm["X_he_meso"][[3, 200]] = np.nan
    tiles.obsm["X_aligned_he"][201] = np.nan
    with caplog.at_level(logging.INFO, logger="stdistill"):
        assert (sd.tl.expression_probe(tiles, genes=3)["n_tiles"] == 158).all()
    assert "3 tiles have a NaN" in caplog.text
    assert (sd.tl.expression_probe(tiles, genes=3, keys="X_he_macro")["n_tiles"] == 160).all()


def test_fitted_tiles_are_no_test(make_tiles: Make) -> None:
    tiles = make_tiles()
    tiles.obs.loc["tile-300", "aligned_fitted"] = True
    with pytest.raises(ValueError, match=r"1 of the 160 tiles that are 'test'.*'aligned'"):
        sd.tl.expression_probe(tiles)
    assert len(sd.tl.expression_probe(tiles, keys="X_he", genes=2)) == 6  # the alignment has no part in it


def test_without_training_or_test(make_tiles: Make) -> None:
    tiles = make_tiles(40, 20, split=False)
    del tiles.obs["aligned_fitted"]
    with pytest.raises(ValueError, match=r"There are 0 training tiles.*split_strips"):
        sd.tl.expression_probe(tiles)
    with pytest.raises(ValueError, match=r"There are 0 tiles to test on"):
        sd.tl.expression_probe(make_tiles(40, 40))


def test_what_is_missing(make_tiles: Make) -> None:
    tiles = make_tiles()
    with pytest.raises(KeyError, match=r"keys='X_uni' is not features of tiles.*sd\.pp\.embed_tiles"):
        sd.tl.expression_probe(tiles, keys="X_uni")
    with pytest.raises(KeyError, match=r"2 of the 3 genes are not in the tables: \['EPCAM', 'KRT8'\]"):
        sd.tl.expression_probe(tiles, genes=["EPCAM", "KRT8", "gene-1"])
    with pytest.raises(ValueError, match=r"no genes in common \(their numbers: \[0\]\).*sd\.pp\.tiles"):
        sd.tl.expression_probe(tiles[:, :0].copy())
    bare = ad.AnnData(tiles.X, obs=tiles.obs, var=tiles.var, uns=tiles.uns)
    with pytest.raises(KeyError, match=r"nothing to predict expression from.*sd\.pp\.embed_tiles"):
        sd.tl.expression_probe(bare)
    negative = tiles.copy()
    negative.X = negative.X - csr_matrix(np.ones(tiles.shape))
    with pytest.raises(ValueError, match="negative values or NaN; expected counts"):
        sd.tl.expression_probe(negative)
    constant = tiles.copy()
    constant.X = csr_matrix(np.ones(tiles.shape))
    with pytest.raises(ValueError, match="No gene varies over the training tiles"):
        sd.tl.expression_probe(constant)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"protocol": "HEST"}, ValueError, r"protocol must be one of \['cv', 'hest'\], found 'HEST'"),
        ({"genes": 0}, ValueError, "genes must be at least 1"),
        ({"genes": 2.5}, TypeError, "genes must be an integer"),
        ({"genes": "gene-1"}, TypeError, "genes must be a number or a list of names, found 'gene-1'"),
        ({"keys": []}, ValueError, "keys is empty"),
    ],
)
def test_bad_arguments(make_tiles: Make, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sd.tl.expression_probe(make_tiles(), **arguments)


def test_expression_that_was_log_transformed(make_tiles: Make) -> None:
    tiles = make_tiles()
    tiles.X = tiles.X.log1p()
    with pytest.warns(UserWarning, match=r"\.X of the tiles holds fractions.* run sd\.pp\.tiles again"):
        sd.tl.expression_probe(tiles, genes=5, keys="X_he_macro")
