"""From a table to models, scores and figures: what is learned from, what is kept, and what a second run finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill import pl, tl
from stdistill._flows.decompose import RIDGE, Asked, _find_target, _unseen, decompose_slide, read_table
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine

TYPES = ["B", "NA", "T cell"]
ASKED = Asked("stereoscope", ["X_he"], "patient", "patient", "ridge", use_neighbors=False, max_epochs=None, seed=0)


@pytest.fixture
def spots() -> ad.AnnData:
    """Of three patients, whose names look like numbers; one of the types is called what pandas takes for missing."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([2, 1, 1], 150)
    names = [f"spot-{i}" for i in range(150)]
    spots = ad.AnnData(np.zeros((150, 1), dtype=np.float32), obs=pd.DataFrame(index=names))
    spots.obs["patient"] = np.repeat(["01", "02", "10"], 50)
    spots.obs["cell_type"] = pd.Categorical(np.array(TYPES)[truth.argmax(axis=1)])
    spots.obsm["spatial"] = rng.uniform(0, 2000, (150, 2)) + np.repeat([0, 3000, 6000], 50)[:, None] * [1, 0]
    spots.obsm["X_he"] = np.c_[truth, rng.normal(size=(150, 2))].astype("float32")
    spots.obsm["stereoscope"] = pd.DataFrame(truth, columns=TYPES, index=names)
    sd.pp.neighborhoods(spots, radius_um=400)
    return spots


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What each figure is drawn of; files without a picture."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("abundance", "abundance_scores", "colocalization"):

        def draw(data: Any, *, save: Path, name: str = name, **how: Any) -> None:
            found[name] = {"data": data, **how}
            save.touch()

        monkeypatch.setattr(pl, name, draw)
    return found


def decompose(folder: Path | None, spots: ad.AnnData, **changes: Any) -> pd.DataFrame:
    run = Run(folder, command="decompose", parameters={})
    return decompose_slide(run, spots, ASKED._replace(**changes), Machine("cpu"))


def test_what_is_there_is_learned_as_it_is(spots: ad.AnnData) -> None:
    """Abundances are taken, a frame and cell types are made some of, and stay."""
    frame = spots.obsm["stereoscope"].copy()
    assert _find_target(spots, "stereoscope") == "abundance"
    pd.testing.assert_frame_equal(spots.obsm["stereoscope"], frame)
    assert sd.get.abundances(spots).columns.tolist() == TYPES
    spots.obsm["mine"] = spots.obsm["abundance"].copy()
    assert _find_target(spots, "mine") == "mine"
    spots.obs["cell_type"] = spots.obs["cell_type"].cat.rename_categories({"NA": "N"})
    assert _find_target(spots, "cell_type") == "abundance"
    counts = sd.get.abundances(spots)
    np.testing.assert_allclose(counts.to_numpy(), np.round(counts.to_numpy()))
    assert counts.sum(axis=1).median() > 3
    with pytest.raises(
        KeyError, match=r"--target='celltype' is not cell types in \.obs or abundances in \.obsm; there"
    ):
        _find_target(spots, "celltype")


def test_in_memory(spots: ad.AnnData) -> None:
    """Without a folder nothing is written; scores are of patients that were left out."""
    scores = decompose(None, spots)
    assert scores["method"].unique().tolist() == ["ridge", "knn", "mean"]
    assert set(scores["group"]) == {"01", "02", "10", "all"}
    left_out = scores[(scores["group"] == "all") & (scores["type"] == "all")].set_index("method")
    assert left_out.loc["ridge", "cc"] > 0.9
    assert {RIDGE, "cv_ridge", "cv_knn", "cv_mean"} <= set(spots.obsm)
    assert "he_abundance" not in spots.obsm


def test_a_second_run_finds_what_the_first_one_kept(
    spots: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit, with groups and types as they are called; nothing is fitted again."""
    fresh = spots.copy()
    scores = decompose(tmp_path / "out", spots)
    written = (tmp_path / "out" / "scores.csv").read_bytes()

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("fitted again")

    monkeypatch.setattr(tl, "decompose", fail)
    monkeypatch.setattr(tl, "cross_validate", fail)
    again = decompose(tmp_path / "out", fresh)
    pd.testing.assert_frame_equal(again, scores, check_exact=True)
    assert again["type"].unique().tolist() == [*TYPES, "all"]
    assert (tmp_path / "out" / "scores.csv").read_bytes() == written
    for key in (RIDGE, "cv_ridge", "cv_mean"):
        np.testing.assert_array_equal(fresh.obsm[key], spots.obsm[key])


def test_what_was_removed_is_made_again(spots: ad.AnnData, tmp_path: Path) -> None:
    fresh, other = spots.copy(), spots.copy()
    scores = decompose(tmp_path / "out", spots)
    (tmp_path / "out" / "cross_validation.csv").unlink()
    pd.testing.assert_frame_equal(decompose(tmp_path / "out", fresh), scores)
    assert (tmp_path / "out" / "cross_validation.csv").is_file()
    other.obsm["X_he"] += 1
    with pytest.raises(ValueError, match=r"on another slide or with other features \(X_he: "):
        decompose(tmp_path / "out", other)


def test_without_groups_test_rows_are_scored(
    spots: ad.AnnData, tmp_path: Path, drawn: dict[str, dict[str, Any]]
) -> None:
    """Ridge regression alone, as was asked for; the figures show rows that were not fitted on."""
    spots.obs["split"] = pd.Categorical(np.where(spots.obs["patient"] == "10", "test", "train"))
    spots.obs["section"] = spots.obs["patient"]
    scores = decompose(tmp_path / "out", spots, group=None, library="section")
    assert set(scores["key"]) == {RIDGE}
    expected = tl.abundance_scores(spots, keys=[RIDGE], reference_key="abundance", library_key="section")
    pd.testing.assert_frame_equal(scores, expected)
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == set(drawn)
    assert drawn["abundance"]["data"].obs["patient"].unique().tolist() == ["10"]
    assert drawn["abundance"]["keys"] == ["abundance", RIDGE]
    assert len(drawn["colocalization"]["data"]) == 2
    again = sd.models.CompositionModel.load(tmp_path / "out" / RIDGE)
    assert again.card.types == TYPES


def test_rows_that_were_fitted_on_are_drawn_where_there_are_no_others(spots: ad.AnnData) -> None:
    spots.obs["mine_fitted"] = True
    assert _unseen(spots, "mine").n_obs == 150
    spots.obs["mine_fitted"] = np.arange(150) > 0
    assert _unseen(spots, "mine").obs_names.tolist() == ["spot-0"]


def test_tables_that_cannot_be_read(spots: ad.AnnData, tmp_path: Path) -> None:
    path = tmp_path / "spots.h5ad"
    path.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"spots\.h5ad is no h5ad of an AnnData"):
        read_table(path, ["X_he"])
    spots.write_h5ad(path)
    assert read_table(path, ["X_he"]).n_obs == 150
    with pytest.raises(KeyError, match=r"--features='X_uni' is not features in \.obsm; there is: 'X_he', 'spatial'"):
        read_table(path, ["X_he", "X_uni"])
