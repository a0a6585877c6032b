from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import stdistill as sd
from stdistill.tl import _nolan

FAST = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 2, "max_epochs": 2, "batch_size": 64}
FAST |= {"accelerator": "cpu", "learning_rate": 5e-3}


@pytest.fixture
def tissue(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    """Three niches in stripes, told by the mean of six features in noise."""
    cells = make_cells(400, extent=600.0)
    niche = (cells.obsm["spatial"][:, 0] / 200).astype(int)
    rng = np.random.default_rng(1)
    cells.obsm["X_scVI"] = (rng.normal(size=(3, 6))[niche] + 0.5 * rng.normal(size=(400, 6))).astype(np.float32)
    sd.pp.split_strips(cells, crop_px=50, mpp=0.2)
    sd.pp.neighborhoods(cells, n_neighbors=15)
    return cells


@pytest.fixture
def fake_teacher(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], list[dict[str, Any]]]:
    """Fit nothing: write the niches that a function of k and the seed says; keep what the teacher was called with."""

    def install(niches: Callable[[int, int], np.ndarray]) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def nolan(table: ad.AnnData, **options: Any) -> None:
            calls.append({"table": table, **options})
            labels = niches(options["k"], options["seed"])
            table.obs["teacher_niche"] = pd.Categorical(labels, categories=[str(n) for n in range(options["k"])])

        monkeypatch.setattr(_nolan, "nolan", nolan)
        return calls

    return install


def by_place(cells: ad.AnnData, k: int, shift: float = 0.0) -> np.ndarray:
    """Stripes of equal width, named in an order that the shift turns."""
    stripe = (cells.obsm["spatial"][:, 0] / 600 * k).astype(int).clip(0, k - 1)
    return ((stripe + int(shift)) % k).astype(str).astype(object)


def test_equals_teachers_fitted_by_hand(tissue: ad.AnnData) -> None:
    result = sd.tl.choose_k(tissue, ks=(4, 3), n_runs=2, seed=5, **FAST)
    training = (tissue.obs["split"] == "train").to_numpy()
    niches = {}
    for k in (3, 4):
        for seed in (5, 6):
            copied = tissue.copy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sd.tl.nolan(copied, k=k, seed=seed, progress_bar=False, **FAST)
            niches[k, seed] = copied.obs["teacher_niche"][training].astype(str).to_numpy()
    assert result["k"].tolist() == [3, 4]
    for row in result.itertuples():
        expected = adjusted_rand_score(niches[row.k, 5], niches[row.k, 6])
        assert row.ari_runs == row.ari_runs_min == row.ari_runs_max == pytest.approx(expected)
        assert row.occupied_niches == np.mean([len(set(niches[row.k, seed])) for seed in (5, 6)])
    pairs = [adjusted_rand_score(niches[3, a], niches[4, b]) for a in (5, 6) for b in (5, 6)]
    np.testing.assert_allclose(result["ari_neighbors"], np.mean(pairs))


def test_measures_by_hand(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    """At k = 4 the runs agree but for names; at 3 and 5 one of three runs is by chance."""
    rng = np.random.default_rng(0)
    chance = rng.integers(0, 3, 400).astype(str).astype(object)

    def niches(k: int, seed: int) -> np.ndarray:
        return chance if k != 4 and seed == 2 else by_place(tissue, k, shift=seed)

    fake_teacher(niches)
    result = sd.tl.choose_k(tissue, ks=[5, 3, 4, 4]).set_index("k")
    assert result.index.tolist() == [3, 4, 5]
    assert result.loc[4, ["ari_runs", "ari_runs_min", "ari_runs_max"]].tolist() == [1, 1, 1]
    assert result.loc[3, "ari_runs_max"] == 1
    assert result.loc[3, "ari_runs_min"] == pytest.approx(0, abs=0.03)
    assert result.loc[3, "ari_runs"] == pytest.approx(1 / 3, abs=0.02)
    assert result["occupied_niches"].tolist() == [3, 4, (5 + 5 + 3) / 3]
    # Niches of 4 against the runs of 3 and of 5, of each of which a third is by chance.
    training = (tissue.obs["split"] == "train").to_numpy()
    four = by_place(tissue, 4)[training]
    beside = [adjusted_rand_score(four, run[training]) for k in (3, 5) for run in (by_place(tissue, k), chance)]
    assert result.loc[4, "ari_neighbors"] == pytest.approx(np.average(beside, weights=[2, 1, 2, 1]))


def test_only_training_cells_with_features_count(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    training = (tissue.obs["split"] == "train").to_numpy()
    nowhere = np.zeros(400, dtype=bool)
    nowhere[np.flatnonzero(training)[:30]] = True

    def niches(k: int, seed: int) -> np.ndarray:
        labels = by_place(tissue, k)
        labels[~training] = np.random.default_rng(seed).integers(0, k, (~training).sum()).astype(str)
        labels[nowhere] = None
        return labels

    calls = fake_teacher(niches)
    assert sd.tl.choose_k(tissue, ks=(2, 3))["ari_runs"].tolist() == [1, 1]
    assert tissue.uns["stdistill"]["choose_k"]["cells"] == "train"
    assert sd.tl.choose_k(tissue, ks=(2, 3), split_key=None)["ari_runs"].max() < 0.9
    assert tissue.uns["stdistill"]["choose_k"]["cells"] == "all"
    assert [call["split_key"] for call in calls] == ["split"] * 6 + [None] * 6


def test_what_a_teacher_is_given(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    tissue.obs["slide"] = np.where(tissue.obsm["spatial"][:, 0] < 300, "a", "b")
    calls = fake_teacher(lambda k, seed: by_place(tissue, k))
    sd.tl.choose_k(tissue, ks=range(2, 4), n_runs=2, seed=7, library_key="slide", max_epochs=3, size="base")
    assert [(call["k"], call["seed"]) for call in calls] == [(2, 7), (2, 8), (3, 7), (3, 8)]
    given = calls[0]
    assert (given["max_epochs"], given["size"]) == (3, "base")
    assert not given["progress_bar"]
    table = given["table"]
    assert table.X is None
    assert table.obs["slide"].tolist() == tissue.obs["slide"].tolist()
    assert np.shares_memory(table.obsm["X_scVI"], tissue.obsm["X_scVI"])
    assert np.shares_memory(table.obsm["spatial"], tissue.obsm["spatial"])
    graph, shared = tissue.obsp["spatial_connectivities"], table.obsp["spatial_connectivities"]
    assert np.shares_memory(graph.indices, shared.indices)
    assert list(table.obsp) == ["spatial_connectivities"]


def test_a_split_of_another_name(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    del tissue.obs["split"]
    sd.pp.split_strips(tissue, crop_px=50, mpp=0.2, key_added="strips")
    calls = fake_teacher(lambda k, seed: by_place(tissue, k))
    sd.tl.choose_k(tissue, ks=[2])
    assert calls[0]["table"].obs[calls[0]["split_key"]].equals(tissue.obs["strips"].astype(object))


def test_writes_nothing_but_its_record(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    fake_teacher(lambda k, seed: by_place(tissue, k))
    before = tissue.copy()
    sd.tl.choose_k(tissue, ks=[2, 3])
    pd.testing.assert_frame_equal(tissue.obs, before.obs)
    assert list(tissue.obsm) == list(before.obsm)
    assert set(tissue.uns) == set(before.uns)
    assert set(tissue.uns["stdistill"]) - set(before.uns["stdistill"]) == {"choose_k"}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_the_record_survives_on_disk(tissue: ad.AnnData, fake_teacher: Callable, tmp_path: Path, suffix: str) -> None:
    fake_teacher(lambda k, seed: by_place(tissue, k))
    result = sd.tl.choose_k(tissue, ks=[3], max_epochs=4, devices=[0])
    assert np.isnan(result.loc[0, "ari_neighbors"])
    path = tmp_path / f"cells.{suffix}"
    getattr(tissue, "write_h5ad" if suffix == "h5ad" else "write_zarr")(path)
    record = getattr(ad, f"read_{suffix}")(path).uns["stdistill"]["choose_k"]
    assert record["teacher"] == {"max_epochs": 4}
    assert record["n_runs"] == 3
    pd.testing.assert_frame_equal(pd.DataFrame({column: record[column] for column in result}), result)


def test_spatialdata(make_slide: Callable, fake_teacher: Callable) -> None:
    slide = make_slide(80)
    cells = slide["table"]
    cells.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(80, 4))
    sd.pp.neighborhoods(cells, n_neighbors=5)
    fake_teacher(lambda k, seed: by_place(cells, k))
    assert sd.tl.choose_k(slide, ks=[2, 3]).shape == (2, 6)
    assert "choose_k" in cells.uns["stdistill"]


def test_says_how_far_it_is(
    tissue: ad.AnnData, fake_teacher: Callable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_teacher(lambda k, seed: by_place(tissue, k))
    quiet = _nolan.nolan

    def talking(table: ad.AnnData, **options: Any) -> None:
        quiet(table, **options)
        logging.getLogger("stdistill").info("wrote .obs")
        warnings.warn("1 of k=3 niches are empty: no training cell is in [2].", stacklevel=2)

    monkeypatch.setattr(_nolan, "nolan", talking)
    with caplog.at_level(logging.INFO, logger="stdistill"), warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.choose_k(tissue, ks=[2, 3])
    assert [record.getMessage() for record in caplog.records] == [
        "k=2 (1 of 2): mean ARI between runs 1.00.",
        "k=3 (2 of 2): mean ARI between runs 1.00.",
        'Wrote .uns["stdistill"]["choose_k"].',
    ]


def test_a_collapse_leaves_nothing_behind(tissue: ad.AnnData, fake_teacher: Callable) -> None:
    def niches(k: int, seed: int) -> np.ndarray:
        if k == 3:
            msg = "The niches collapsed in epoch 0."
            raise RuntimeError(msg)
        return by_place(tissue, k)

    fake_teacher(niches)
    level = logging.getLogger("stdistill").level
    with pytest.raises(RuntimeError, match="collapsed"):
        sd.tl.choose_k(tissue, ks=[2, 3])
    assert "choose_k" not in tissue.uns["stdistill"]
    assert logging.getLogger("stdistill").level == level


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ks": []}, ValueError, "ks is empty"),
        ({"ks": [1, 2]}, ValueError, "ks must be at least 2, found 1"),
        ({"ks": [2.5]}, TypeError, "ks must be an integer, found 2.5"),
        ({"ks": 10}, TypeError, r"ks must be several integers, found 10 \(int\)"),
        ({"ks": "10"}, TypeError, "ks must be several integers"),
        ({"ks": [5, 1000]}, ValueError, r"training cells are too few for k=1000 niches"),
        ({"n_runs": 1}, ValueError, "n_runs must be at least 2"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"k": 5}, TypeError, r"\['k'\] cannot be given"),
        ({"key_added": "a", "checkpoint_dir": "b"}, TypeError, r"\['checkpoint_dir', 'key_added'\] cannot be given"),
        ({"use_rep": "X_pca"}, KeyError, r"use_rep='X_pca' is not features in .obsm; there is: .*X_scVI"),
        ({"split_key": "strips"}, KeyError, "split_key='strips' is not a column of .obs"),
        ({"library_key": "slide"}, KeyError, "library_key='slide' is not a column of .obs"),
        ({"epochs": 3}, TypeError, "unexpected keyword argument 'epochs'"),
    ],
)
def test_bad_arguments(tissue: ad.AnnData, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sd.tl.choose_k(tissue, **arguments)
    assert "choose_k" not in tissue.uns["stdistill"]


def test_cells_that_are_not_connected(tissue: ad.AnnData) -> None:
    del tissue.obsp["spatial_connectivities"]
    with pytest.raises(KeyError, match=r"connectivities_key='spatial_connectivities'.*Run sd.pp.neighborhoods"):
        sd.tl.choose_k(tissue)
    del tissue.uns["spatial_neighbors"]
    with pytest.raises(KeyError, match=r"no .uns\[.spatial_neighbors.\], where .* are expected. Run sd.pp.neigh"):
        sd.tl.choose_k(tissue)
