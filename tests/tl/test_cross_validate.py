from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import stdistill as sd

QUICK = {"max_epochs": 2, "width": 16, "depth": 2, "n_members": 2, "progress_bar": False}


@pytest.fixture
def patients(make_cells: Callable[..., ad.AnnData]) -> ad.AnnData:
    rng = np.random.default_rng(0)
    cells = make_cells(240, patient=np.repeat(["a", "b", "c"], 80))
    truth = rng.gamma(2, 1, (240, 2))
    cells.obsm["X_he"] = np.c_[truth, rng.normal(size=(240, 3))].astype("float32")
    cells.obsm["given"] = pd.DataFrame(truth, columns=["T", "B"], index=cells.obs_names)
    sd.pp.abundances(cells, obsm_key="given")
    return cells


def test_each_group_is_told_by_the_others(patients: ad.AnnData) -> None:
    """What is predicted of a group does not depend on its truth."""
    own = {"group_key": "patient", "library_key": "patient", "method": "ridge"}
    sd.tl.cross_validate(patients, **own)
    before = {key: patients.obsm[key].copy() for key in ("cv_ridge", "cv_knn", "cv_mean")}
    left_out = (patients.obs["patient"] == "b").to_numpy()
    patients.obsm["abundance"][left_out] = patients.obsm["abundance"][left_out][::-1] * 3
    sd.tl.cross_validate(patients, **own)
    for key, values in before.items():
        assert_array_equal(patients.obsm[key][left_out], values[left_out])
        assert (patients.obsm[key][~left_out] != values[~left_out]).any()


def test_scores_are_those_of_the_maps(patients: ad.AnnData) -> None:
    scores = sd.tl.cross_validate(patients, group_key="patient", library_key="patient", **QUICK)
    assert scores["method"].unique().tolist() == ["mlp", "ridge", "knn", "mean"]
    rows = scores.set_index(["method", "group", "type"])
    part = patients[patients.obs["patient"] == "c"]
    truth, told = part.obsm["abundance"], part.obsm["cv_ridge"]
    assert rows.loc[("ridge", "c", "T"), "cc"] == pytest.approx(np.corrcoef(truth[:, 0], told[:, 0])[0, 1], rel=1e-5)
    assert rows.loc[("ridge", "c", "all"), "l1"] == pytest.approx(np.abs(truth - told).mean(), rel=1e-5)
    assert rows.loc[("mean", "c", "all"), "skill"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(rows.loc[("mean", "c", "all"), "cc"])
    each = rows.loc["ridge"].loc[["a", "b", "c"]].xs("all", level="type")["cc"]
    assert rows.loc[("ridge", "all", "all"), "cc"] == pytest.approx(each.mean())
    assert rows.loc[("ridge", "all", "all"), "n_rows"] == 240
    assert rows.loc[("ridge", "all", "all"), "cc"] > rows.loc[("knn", "all", "all"), "cc"] > 0.5


def test_the_training_mean(patients: ad.AnnData) -> None:
    sd.tl.cross_validate(patients, group_key="patient", library_key="patient", method="ridge")
    left_out = (patients.obs["patient"] == "a").to_numpy()
    expected = patients.obsm["abundance"][~left_out].mean(axis=0)
    assert_allclose(patients.obsm["cv_mean"][left_out], np.tile(expected, (80, 1)), rtol=1e-6)


def test_by_slide_no_method_sees_another_stain(patients: ad.AnnData) -> None:
    """Each of them says the same of slides of which one is moved and stretched in another stain."""
    slides = [patients[patients.obs["patient"] == name].copy() for name in "abc"]
    stained = [slide.copy() for slide in slides]
    stained[2].obsm["X_he"] = (stained[2].obsm["X_he"] * [0.5, 2, 1, 3, 1] + [4, -3, 0, 9, 1]).astype("float32")
    told: dict[str, list[pd.DataFrame]] = {"slide": [], "training": []}
    for how, tables in itertools.product(told, (slides, stained)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="3 of 3 slides have fewer than 100 rows")
            told[how].append(sd.tl.cross_validate(tables, group_key="patient", standardize=how, **QUICK))
        assert tables[0].uns["stdistill"]["cross_validate_cv_knn"]["standardize"] == how
    plain, other = told["slide"]
    assert plain["method"].unique().tolist() == ["mlp", "ridge", "knn", "mean"]
    assert_allclose(other[["cc", "l1"]], plain[["cc", "l1"]], atol=0.005)
    plain, other = (each.query("method != 'mean'") for each in told["training"])
    assert (
        other.query("group == 'c' and type == 'all'")["l1"] > 1.2 * plain.query("group == 'c' and type == 'all'")["l1"]
    ).all()


def test_maps_are_all_tests(patients: ad.AnnData) -> None:
    sd.tl.cross_validate(patients, group_key="patient", library_key="patient", method="ridge", key_added="loo")
    scores = sd.tl.abundance_scores(patients, keys=["loo_ridge", "loo_knn"])
    assert scores["cells"].unique().tolist() == ["unseen"]
    assert sd.get.abundances(patients, "loo_knn").columns.tolist() == ["T", "B"]


def test_groups_that_are_no_test(patients: ad.AnnData) -> None:
    with pytest.raises(KeyError, match="group_key='donor' is not a column"):
        sd.tl.cross_validate(patients, group_key="donor")
    patients.obs["study"] = "one"
    with pytest.raises(ValueError, match="expected at least two groups"):
        sd.tl.cross_validate(patients, group_key="study")
    with pytest.warns(UserWarning, match="divide a slide"):
        sd.tl.cross_validate(patients, group_key="patient", method="ridge")
    sd.pp.neighborhoods(patients, radius_um=100)
    with pytest.raises(ValueError, match="neighbourhoods join rows of different groups"):
        sd.tl.cross_validate(patients, group_key="patient", method="ridge", use_neighbors=True)
    patients.obsm["abundance"][:80] = np.nan
    with pytest.raises(ValueError, match="no row with both features and abundances: a"):
        sd.tl.cross_validate(patients, group_key="patient")


def test_slides_of_one_patient(patients: ad.AnnData) -> None:
    """Two slides of a patient are left out together."""
    slides = [patients[patients.obs["patient"] == name].copy() for name in "abc"]
    for slide, donor in zip(slides, ("p", "p", "q"), strict=True):
        slide.obs["donor"] = donor
    scores = sd.tl.cross_validate(slides, group_key="donor", method="ridge")
    assert scores["group"].unique().tolist() == ["p", "q", "all"]
    assert_allclose(slides[0].obsm["cv_mean"][0], slides[2].obsm["abundance"].mean(axis=0), rtol=1e-5)


def test_a_slide_that_is_there_twice(patients: ad.AnnData) -> None:
    one = patients[patients.obs["patient"] == "a"].copy()
    other = one.copy()
    other.obs["patient"] = "z"
    with pytest.raises(ValueError, match="80 rows are in several groups"):
        sd.tl.cross_validate([one, other], group_key="patient", method="ridge")
    patients.obs["patient"] = patients.obs["patient"].astype(str).replace("a", "all")
    with pytest.raises(ValueError, match="is called 'all'"):
        sd.tl.cross_validate(patients, group_key="patient", library_key="patient", method="ridge")


def test_patients_in_two_spellings(patients: ad.AnnData) -> None:
    """A patient of whom a part goes by another spelling is told by the rest of its own tissue."""
    patients.obs["patient"] = np.repeat(["a", "A", "b", "c"], 60)
    with pytest.warns(UserWarning, match=r"\.obs\['patient'\] has labels that differ in .* capitals .*'A', 'a'"):
        sd.tl.cross_validate(patients, group_key="patient", library_key="patient", method="ridge")


def test_slides_of_one_patient_are_no_new_patient(patients: ad.AnnData) -> None:
    patients.obs["slide"] = np.repeat(["a1", "a2", "b", "c1", "c2", "c3"], 40)
    patients.obs["patient"] = np.repeat(["a", "b", "c"], [80, 40, 120])
    how = {"library_key": "slide", "method": "ridge"}
    with pytest.warns(UserWarning, match=r"2 of 3 patients have several groups .*'slide'.* Give group_key='patient'"):
        sd.tl.cross_validate(patients, group_key="slide", **how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.cross_validate(patients, group_key="patient", **how)
