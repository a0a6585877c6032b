from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

import stdistill as sd
from stdistill._support.threads import kept_threads
from stdistill.models import NicheModel
from stdistill.models.explanation.result import Explanation

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 12, "learning_rate": 5e-3}
FAST |= {"batch_size": 64, "progress_bar": False, "accelerator": "cpu"}
METHODS = ("leave_one_out", "shapley", "integrated_gradients")


def make(seed: int, n: int = 600) -> ad.AnnData:
    """Two types of cells everywhere, a third in the left half alone, by which the niches differ."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 400, (n, 2))
    left = centers[:, 0] < 200
    types = np.where(left & (rng.random(n) < 0.25), 2, rng.integers(0, 2, n))
    features = 2 * np.eye(3, 6, dtype=np.float32)[types]
    features += rng.normal(0, 0.3, features.shape).astype(np.float32)
    cells = ad.AnnData(np.zeros((n, 1)), obsm={"spatial": centers, "X_he": features})
    cells.obs["truth"] = pd.Categorical(np.where(left, "left", "right"))
    cells.obs["cell_type"] = pd.Categorical.from_codes(types, ["a", "b", "only left"])
    sd.pp.neighborhoods(cells, n_neighbors=20)
    return cells


@pytest.fixture(scope="module")
def trained() -> tuple[ad.AnnData, NicheModel]:
    cells = make(0)
    return cells, sd.tl.distill(cells, teacher_key="truth", **FAST)


@pytest.fixture(scope="module")
def inside(trained: tuple[ad.AnnData, NicheModel]) -> list[str]:
    """Cells within the left half."""
    x = trained[0].obsm["spatial"][:, 0]
    return trained[0].obs_names[(x > 60) & (x < 140)][:20].tolist()


def check_sooner_than_random(found: Explanation) -> None:
    """The niche goes sooner where cells are left out in the order that was found."""
    assert (found.cells["niche"] == "left").all()
    curves = found.deletion.groupby("removed")[["probability", "random"]].mean().iloc[1:-1]
    assert (curves["probability"] < curves["random"]).all()
    assert found.cells["beaten"].mean() > 0.9


@pytest.mark.parametrize("method", ["shapley", "integrated_gradients"])
def test_the_type_that_decides(trained: tuple[ad.AnnData, NicheModel], inside: list[str], method: str) -> None:
    cells, student = trained
    n_samples = 6 if method == "shapley" else None  # orders; it is slow
    found = sd.tl.explain(cells, student, cells=inside, method=method, n_samples=n_samples, label_key="cell_type")
    assert found.method == method
    first = found.neighbors.groupby("cell").head(3)
    assert (first["label"] == "only left").mean() > 0.7  # of a network that learned for seconds
    assert (found.neighbors["label"] == "only left").mean() < 0.4
    check_sooner_than_random(found)


def test_a_cell_that_decides_alone(trained: tuple[ad.AnnData, NicheModel]) -> None:
    """Leaving one out tells of it; where many cells say the same, the niche does not need any one of them."""
    cells, student = trained
    tells = (cells.obs["cell_type"] == "only left").to_numpy()
    n_telling = tells + cells.obsp["spatial_connectivities"] @ tells
    few = (n_telling >= 1) & (n_telling <= 2) & (cells.obs["student_niche"] == "left").to_numpy()
    asked = cells.obs_names[few].tolist()
    assert len(asked) >= 10
    found = sd.tl.explain(cells, student, cells=asked, method="leave_one_out", label_key="cell_type")
    assert found.method == "leave_one_out"
    assert (found.neighbors.groupby("cell").head(1)["label"] == "only left").mean() > 0.7
    assert (found.neighbors["label"] == "only left").mean() < 0.2
    check_sooner_than_random(found)


def test_frames(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained
    names = ["17", "3", "300"]
    found = sd.tl.explain(cells, student, cells=names, method="leave_one_out")
    assert found.cells.index.tolist() == found.neighbors["cell"].unique().tolist() == names
    distances = cells.obsp["spatial_distances"]
    for name in names:
        own = found.neighbors[found.neighbors["cell"] == name]
        row = int(name)
        near = distances[[row]].indices
        assert set(own["neighbor"]) == {name, *cells.obs_names[near]}
        assert found.cells.loc[name, "n_neighbors"] == len(near)
        offsets = cells.obsm["spatial"][own["neighbor"].astype(int)] - cells.obsm["spatial"][row]
        np.testing.assert_allclose(own["distance_um"], np.linalg.norm(offsets, axis=1))
        assert own["attribution"].is_monotonic_decreasing
        assert (own["niche"] == found.cells.loc[name, "niche"]).all()
        curve = found.deletion[found.deletion["cell"] == name]
        assert curve["removed"].tolist() == np.linspace(0, 1, 11).tolist()
        ends = expit(found.cells.loc[name, ["log_odds", "baseline"]].astype(float))
        for column in ("probability", "random"):
            np.testing.assert_allclose(curve[column].iloc[[0, -1]], ends, atol=1e-6)
            area = np.trapezoid(curve[column], curve["removed"])
            which = {"probability": "deletion_area", "random": "random_area"}[column]
            assert found.cells.loc[name, which] == pytest.approx(area)
    assert found.neighbors.columns.tolist() == ["cell", "neighbor", "niche", "attribution", "distance_um"]


def test_what_is_explained_is_what_is_predicted(trained: tuple[ad.AnnData, NicheModel]) -> None:
    """The niche, and the logit of its calibrated confidence."""
    cells, student = trained[0].copy(), trained[1]
    card = replace(student.card, calibration={"temperature": 1.7})
    student = NicheModel(student.network, card, student.history)
    sd.tl.predict(cells, student)
    explanation = sd.tl.explain(cells, student, cells=cells.obs_names[::60])
    assert explanation.model == cells.obs["student_model"].iloc[0]
    found = explanation.cells
    written = cells.obs.loc[found.index]
    assert (found["niche"].astype(str) == written["student_niche"].astype(str)).all()
    confidence = written["student_confidence"].astype(float)
    np.testing.assert_allclose(found["log_odds"], logit(confidence), rtol=1e-3, atol=1e-3)


def test_a_student_by_slide() -> None:
    """Its features are those of the whole slide, brought to one mean and spread; another stain changes nothing."""
    cells = make(3, n=300)
    student = sd.tl.distill(cells, teacher_key="truth", standardize="slide", **FAST | {"max_epochs": 3})
    confidence = cells.obs["student_confidence"].iloc[:3].to_numpy()
    found = sd.tl.explain(cells, student, cells=cells.obs_names[:3])
    np.testing.assert_allclose(found.cells["log_odds"], logit(confidence.astype(float)), rtol=1e-3, atol=1e-3)
    cells.obsm["X_he"] = cells.obsm["X_he"] * np.float32(3) + np.float32(1)
    again = sd.tl.explain(cells, student, cells=cells.obs_names[:3])
    np.testing.assert_allclose(again.neighbors["attribution"], found.neighbors["attribution"], atol=1e-4)


def test_completeness(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained
    found = {method: sd.tl.explain(cells, student, cells=["17", "3"], method=method) for method in METHODS}
    for each in found.values():
        sums = each.neighbors.groupby("cell", sort=False)["attribution"].sum()
        np.testing.assert_allclose(
            sums, each.cells["log_odds"] - each.cells["baseline"] + each.cells["completeness_error"]
        )
    assert found["shapley"].cells["completeness_error"].abs().max() < 1e-4
    assert found["integrated_gradients"].cells["completeness_error"].abs().max() < 0.05
    assert found["leave_one_out"].cells["completeness_error"].abs().max() > 0.05
    coarse = sd.tl.explain(cells, student, cells=["17", "3"], method="integrated_gradients", n_samples=2)
    fine = found["integrated_gradients"].cells["completeness_error"].abs().sum()
    assert coarse.cells["completeness_error"].abs().sum() > fine


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_does_not_depend_on_others(trained: tuple[ad.AnnData, NicheModel], method: str) -> None:
    """Nor on their order: the same bits."""
    cells, student = trained
    alone = sd.tl.explain(cells, student, cells=["17"], method=method, n_samples=3)
    among = sd.tl.explain(cells, student, cells=["5", "300", "17", "41"], method=method, n_samples=3)
    assert among.cells.loc[["17"]].equals(alone.cells)
    for one, several in ((alone.neighbors, among.neighbors), (alone.deletion, among.deletion)):
        pd.testing.assert_frame_equal(several[several["cell"] == "17"].reset_index(drop=True), one, check_exact=True)


def test_nothing_is_written(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained
    before = {name: set(getattr(cells, name).keys()) for name in ("obs", "obsm", "obsp", "uns")}
    device = student.network.mean.device
    sd.tl.explain(cells, student, cells=["17"])
    assert before == {name: set(getattr(cells, name).keys()) for name in before}
    assert student.network.mean.device == device


def test_saved_and_teachers(trained: tuple[ad.AnnData, NicheModel], tmp_path: Path) -> None:
    cells, student = trained
    student.save(tmp_path / "student")
    found = [sd.tl.explain(cells, model, cells=["17"]).cells for model in (student, tmp_path / "student")]
    assert found[0].equals(found[1])
    with kept_threads():
        cells = cells.copy()
        teacher = sd.tl.nolan(cells, k=3, use_rep="X_he", **{**FAST, "max_epochs": 1})
    found = sd.tl.explain(cells, teacher, cells=["17"])
    assert str(found.cells["niche"].iloc[0]) == cells.obs.loc["17", "teacher_niche"]


def test_cells_without_features_are_not_there(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained[0].copy(), trained[1]
    gone = cells.obs_names[cells.obsp["spatial_distances"][[17]].indices[:2]]
    cells.obsm["X_he"][gone.astype(int)] = np.nan
    found = sd.tl.explain(cells, student, cells=["17"])
    assert not set(gone) & set(found.neighbors["neighbor"])
    with pytest.raises(ValueError, match=f"1 of the cells have no niche to explain, such as '{gone[0]}'"):
        sd.tl.explain(cells, student, cells=["17", gone[0]])


def test_only_the_nearest_are_read(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained
    capped = NicheModel(student.network, replace(student.card, max_tokens=5), student.history)
    found = sd.tl.explain(cells, capped, cells=["17"])
    everyone = sd.tl.explain(cells, student, cells=["17"])
    nearest = everyone.neighbors.nsmallest(5, "distance_um")["neighbor"]
    assert set(found.neighbors["neighbor"]) == set(nearest)


def test_the_buffer_has_no_niche(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained[0].copy(), trained[1]
    cells.obs["split"] = pd.Categorical(np.where(np.arange(cells.n_obs) < 5, "buffer", "test"))
    cells.obs["one"] = "slide"
    sd.pp.neighborhoods(cells, radius_um=student.radius_um, library_key="one")
    with pytest.raises(ValueError, match="2 of the cells have no niche to explain, such as '1'"):
        sd.tl.explain(cells, student, cells=["17", "1", "3"], split_key="split")


def test_bad_input(trained: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = trained
    with pytest.raises(TypeError, match=r"cells must be a list of names, found '17'. Give \['17'\]"):
        sd.tl.explain(cells, student, cells="17")
    with pytest.raises(ValueError, match="cells is empty"):
        sd.tl.explain(cells, student, cells=[])
    with pytest.raises(KeyError, match="1 of the cells are not in the table, such as 'x'"):
        sd.tl.explain(cells, student, cells=["17", "x"])
    with pytest.raises(KeyError, match="'attention' is not a method"):
        sd.tl.explain(cells, student, cells=["17"], method="attention")
    with pytest.raises(KeyError, match=r"'kind' is not a column of .obs"):
        sd.tl.explain(cells, student, cells=["17"], label_key="kind")
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        sd.tl.explain(cells, student, cells=["17"], n_samples=0)
    other = cells.copy()
    sd.pp.neighborhoods(other, radius_um=30)
    with pytest.raises(ValueError, match=r"radius of 30.00 µm, those of the model .*radius_um=model.radius_um"):
        sd.tl.explain(other, student, cells=["17"])
    del other.uns["spatial_neighbors"]
    with pytest.raises(KeyError, match=r"Run sd.pp.neighborhoods"):
        sd.tl.explain(other, student, cells=["17"])
