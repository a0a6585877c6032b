from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

import stdistill as sd
from stdistill._table.abundances import write_abundances

TYPES = ["T", "B", "CAF/i"]


@pytest.fixture
def spots(make_cells: Callable) -> ad.AnnData:
    """Two sections of 20 spots; the guess has its types in another order, and one type more."""
    rng = np.random.default_rng(0)
    spots = make_cells(40, section=pd.Categorical(["a"] * 20 + ["b"] * 20))
    truth = rng.gamma(1, size=(40, 3)).astype(np.float32)
    guess = truth + rng.gamma(1, size=truth.shape).astype(np.float32)
    write_abundances(spots, "abundances", "abundance", truth, TYPES)
    write_abundances(
        spots,
        "decompose",
        "he_abundance",
        np.column_stack([guess[:, ::-1], np.ones(40)]),
        [*TYPES[::-1], "other"],
        training_mean=np.array([3.0, 2, 1, 9]),
    )
    return spots


def test_by_an_independent_way(spots: ad.AnnData) -> None:
    scores = sd.tl.abundance_scores(spots, keys="he_abundance", library_key="section")
    assert scores.columns.tolist() == ["key", "cells", "type", "cc", "l1", "skill", "n_rows", "n_undefined"]
    assert scores["type"].tolist() == [*TYPES, "all"]
    assert set(scores["cells"]) == {"all"}
    truth, guess = (sd.get.abundances(spots, key)[TYPES].astype(float) for key in ("abundance", "he_abundance"))
    each = pd.DataFrame(
        [
            [pearsonr(truth[name][rows], guess[name][rows])[0] for name in TYPES]
            for rows in (spots.obs["section"] == section for section in "ab")
        ],
        columns=TYPES,
    )
    by_type = scores.set_index("type")
    errors, mean_errors = (guess - truth).abs(), (truth - [1, 2, 3]).abs()
    np.testing.assert_allclose(by_type.loc[TYPES, "cc"], each.mean(), rtol=1e-6)
    np.testing.assert_allclose(by_type.loc[TYPES, "l1"], errors.mean(), rtol=1e-6)
    np.testing.assert_allclose(by_type.loc[TYPES, "skill"], 1 - errors.mean() / mean_errors.mean(), rtol=1e-6)
    assert by_type.loc["all", "cc"] == pytest.approx(each.mean(axis=1).mean())
    assert by_type.loc["all", "skill"] == pytest.approx(1 - errors.to_numpy().mean() / mean_errors.to_numpy().mean())
    assert (by_type["n_rows"] == 40).all()
    assert (by_type["n_undefined"] == 0).all()


def test_fitted_and_unseen_apart(spots: ad.AnnData) -> None:
    spots.obs["he_abundance_fitted"] = spots.obs["section"] == "a"
    spots.obsm["he_abundance"][:20] = np.column_stack([spots.obsm["abundance"][:20, ::-1], np.ones(20)])
    scores = sd.tl.abundance_scores(spots, keys=["he_abundance"], library_key="section")
    overall = scores[scores["type"] == "all"].set_index("cells")
    assert overall.index.tolist() == ["unseen", "fitted"]
    assert overall.loc["fitted", "cc"] == pytest.approx(1)
    assert overall.loc["fitted", "l1"] == 0
    assert overall.loc["unseen", "cc"] < 0.95
    assert overall["n_rows"].tolist() == [20, 20]


def test_all_unseen_is_one_group(spots: ad.AnnData) -> None:
    spots.obs["he_abundance_fitted"] = False
    assert set(sd.tl.abundance_scores(spots, keys="he_abundance")["cells"]) == {"unseen"}


@pytest.mark.filterwarnings("ignore:Cells have .* neighbours")
def test_sections_are_those_of_the_neighbourhoods(spots: ad.AnnData) -> None:
    named = sd.tl.abundance_scores(spots, keys="he_abundance", library_key="section")
    one = sd.tl.abundance_scores(spots, keys="he_abundance")
    assert not np.isclose(named["cc"].iloc[-1], one["cc"].iloc[-1])
    sd.pp.neighborhoods(spots, radius_um=200, library_key="section")
    pd.testing.assert_frame_equal(sd.tl.abundance_scores(spots, keys="he_abundance"), named)


def test_several_keys(spots: ad.AnnData) -> None:
    write_abundances(spots, "abundances", "flat", np.ones((40, 3)), TYPES)
    scores = sd.tl.abundance_scores(spots, keys=["flat", "he_abundance"], library_key="section")
    assert scores["key"].tolist() == ["flat"] * 4 + ["he_abundance"] * 4
    flat = scores[scores["key"] == "flat"]
    assert flat["cc"].isna().all()
    assert flat["n_undefined"].tolist() == [2, 2, 2, 6]
    assert flat["skill"].isna().all()  # nobody recorded a mean


def test_rows_that_are_not_known_are_left_out(spots: ad.AnnData) -> None:
    spots.obsm["abundance"][:5] = np.nan
    spots.obsm["he_abundance"][3:8, 0] = np.nan
    scores = sd.tl.abundance_scores(spots, keys="he_abundance")
    assert (scores["n_rows"] == 32).all()
    spots.obsm["abundance"][:] = np.nan
    with pytest.raises(ValueError, match=r"No row is known in both \.obsm\['he_abundance'\] and \.obsm\['abundance'\]"):
        sd.tl.abundance_scores(spots, keys="he_abundance")


def test_a_prediction_that_lacks_types(spots: ad.AnnData) -> None:
    write_abundances(spots, "decompose", "he_abundance", np.ones((40, 1)), ["B"])
    with pytest.raises(ValueError, match=r"lacks 2 of the 3 types of .obsm\['abundance'\]: \['T', 'CAF/i'\]; it has"):
        sd.tl.abundance_scores(spots, keys="he_abundance")


def test_what_cannot_be_scored(spots: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="keys is empty"):
        sd.tl.abundance_scores(spots, keys=[])
    with pytest.raises(KeyError, match=r"keys='he' is not abundances in \.obsm"):
        sd.tl.abundance_scores(spots, keys="he")
    with pytest.raises(KeyError, match=r"reference_key='truth' is not abundances in \.obsm"):
        sd.tl.abundance_scores(spots, keys="he_abundance", reference_key="truth")
    with pytest.raises(KeyError, match="library_key='patient' is not a column"):
        sd.tl.abundance_scores(spots, keys="he_abundance", library_key="patient")
    spots.obs["he_abundance_model"] = ["one"] * 20 + ["two"] * 20
    with pytest.raises(ValueError, match="is of 2 models in this table"):
        sd.tl.abundance_scores(spots, keys="he_abundance")
    with pytest.raises(ValueError, match="is of 2 models in this table"):
        sd.get.abundances(spots, "he_abundance")


def test_of_a_spatialdata(make_slide: Callable) -> None:
    slide = make_slide(12)
    values = np.random.default_rng(0).random((12, 2))
    write_abundances(slide["table"], "abundances", "abundance", values, ["a", "b"])
    scores = sd.tl.abundance_scores(slide, keys="abundance")
    assert scores["cc"].to_numpy() == pytest.approx(1)


def test_abundances_that_were_made_again_since(spots: ad.AnnData, tmp_path: Path) -> None:
    """A prediction of counts within one radius says nothing of counts within another."""
    rng = np.random.default_rng(0)
    spots.obs["cell_type"] = pd.Categorical(np.array(["B", "T"])[rng.integers(0, 2, 40)])
    spots.obsm["X_he"] = rng.normal(size=(40, 4)).astype(np.float32)
    sd.pp.abundances(spots, cell_type_key="cell_type", radius_um=200)
    sd.tl.decompose(spots, method="ridge", group_key="section", library_key="section")
    expected = sd.tl.abundance_scores(spots, keys="he_abundance", library_key="section")

    sd.pp.abundances(spots, cell_type_key="cell_type", radius_um=400)
    spots[::-1][:30].copy().write_h5ad(tmp_path / "part.h5ad")
    for table in (spots, ad.read_h5ad(tmp_path / "part.h5ad")):
        with pytest.raises(ValueError, match=r"'he_abundance'\] learned other abundances than .*'abundance'\].*again"):
            sd.tl.abundance_scores(table, keys="he_abundance", library_key="section")
    with pytest.raises(ValueError, match=r"'he_abundance'\] learned other abundances"):
        sd.pl.abundance(spots, show=False)  # one above the other, in the colours of one scale
    sd.pl.abundance(spots, keys="he_abundance", show=False)
    sd.pp.abundances(spots, cell_type_key="cell_type", radius_um=200)
    pd.testing.assert_frame_equal(sd.tl.abundance_scores(spots, keys="he_abundance", library_key="section"), expected)
    sd.pp.abundances(spots, cell_type_key="cell_type", radius_um=400, key_added="further")  # asked for, under its name
    assert len(sd.tl.abundance_scores(spots, keys="he_abundance", reference_key="further", library_key="section"))


def test_percent_beside_shares(spots: ad.AnnData) -> None:
    """Of one truth and itself in another unit; within the unit nothing is said."""
    shares = sd.get.abundances(spots)
    shares = shares.div(shares.sum(axis=1), axis=0)
    spots.obsm["shares"], spots.obsm["percent"] = shares, 100 * shares
    for key in ("shares", "percent"):
        sd.pp.abundances(spots, obsm_key=key, key_added=key)
    with pytest.warns(UserWarning, match=r"Places have 100 of all types in .obsm\['percent'\] and 1 in"):
        sd.tl.abundance_scores(spots, keys="percent", reference_key="shares", library_key="section")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.abundance_scores(spots, keys="percent", reference_key="percent", library_key="section")
