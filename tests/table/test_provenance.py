"""Whoever uses a result checks what it stands on: situations in which a step was run again since."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.fitting.origin import origin_of
from stdistill._table.niches import write_niches
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.results import fitted_cells, fitted_unrecorded, write_fitted
from stdistill._table.records import write_record

FAST = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 1, "progress_bar": False}
FAST |= {"batch_size": 64, "accelerator": "cpu", "learning_rate": 5e-3}
MEASURES = {
    "agreement": sd.tl.agreement,
    "composition_jsd": lambda cells: sd.tl.composition_jsd(cells, cell_type_key="cell_type", n_permutations=9),
    "pathology_probe": lambda cells: sd.tl.pathology_probe(cells, label_key="cell_type", block_um=60, gap_um=5),
    "confusion": lambda cells: sd.pl.confusion(cells, show=False),
}


def make(n: int = 600, seed: int = 0) -> ad.AnnData:
    """Two bands of tissue that expression and H&E tell apart."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 600, (n, 2))
    band = (centers[:, 0] > 300).astype(int)
    cells = ad.AnnData(rng.poisson(1 + 3 * np.eye(2)[band].repeat(5, axis=1)).astype("float32"))
    cells.obs_names = [f"cell-{number}" for number in range(n)]
    cells.obsm["spatial"] = centers
    cells.obsm["X_scVI"] = (np.eye(2)[band] + rng.normal(0, 0.3, (n, 2))).astype("float32")
    cells.obsm["X_he"] = (np.eye(2)[band] + rng.normal(0, 0.5, (n, 2))).astype("float16")
    cells.obs["cell_type"] = pd.Categorical(np.array(list("TB"))[(band + (rng.random(n) < 0.2)) % 2])
    return cells


def prepare(cells: ad.AnnData, **split: int) -> None:
    sd.pp.split_strips(cells, crop_px=40, mpp=0.5, **split)
    sd.pp.neighborhoods(cells, n_neighbors=15)


@pytest.fixture(scope="module")
def fitted_once() -> ad.AnnData:
    cells = make()
    prepare(cells)
    sd.tl.nolan(cells, k=2, **FAST)
    sd.tl.distill(cells, k=2, **FAST)
    sd.tl.leiden(cells, k=2, n_neighbors=8)
    return cells


@pytest.fixture
def fitted(fitted_once: ad.AnnData) -> ad.AnnData:
    return fitted_once.copy()


def test_the_training_cells_are_written(fitted: ad.AnnData) -> None:
    training = (fitted.obs["split"] == "train").to_numpy()
    for key in ("teacher", "student", "he_leiden"):
        assert fitted.obs[f"{key}_fitted"].dtype == bool
        np.testing.assert_array_equal(fitted.obs[f"{key}_fitted"], training)


def test_what_stands_on_what(fitted: ad.AnnData) -> None:
    """The record of each result names the fingerprints that the makers of its input wrote."""
    records = fitted.uns["stdistill"]
    assert records["nolan"]["graph"] == records["distill"]["graph"] == records["neighborhoods"]["fingerprint"]
    assert records["distill"]["teacher"] == records["nolan"]["fingerprint"]
    assert records["distill"]["fingerprint"] != records["nolan"]["fingerprint"]
    assert "features" not in records["nolan"]  # set by hand
    sd.pp.embed_expression(fitted, max_epochs=1)
    sd.tl.nolan(fitted, k=2, **FAST)
    assert fitted.uns["stdistill"]["nolan"]["features"] == fitted.uns["stdistill"]["embed_expression"]["fingerprint"]


def test_fingerprints_repeat_and_tell_apart(fitted: ad.AnnData) -> None:
    def graph() -> str:
        return fitted.uns["stdistill"]["neighborhoods"]["fingerprint"]

    first = graph()
    sd.pp.neighborhoods(fitted, n_neighbors=15)
    assert graph() == first
    sd.pp.neighborhoods(fitted, n_neighbors=16)
    other = graph()
    sd.pp.neighborhoods(fitted, n_neighbors=15, split_key=None)
    assert len({first, other, graph()}) == 3


@pytest.mark.parametrize("name", MEASURES)
def test_another_strip_is_no_test(fitted: ad.AnnData, name: str) -> None:
    MEASURES[name](fitted)
    sd.pp.split_strips(fitted, crop_px=40, mpp=0.5, test_strip=2)
    again = r"Run sd\.pp\.neighborhoods, .*again"
    with pytest.raises(
        ValueError, match=rf"cells that are held out in \.obs\['split'\] had a part in fitting.*{again}"
    ):
        MEASURES[name](fitted)


def test_the_message_counts_and_says_what_to_run(fitted: ad.AnnData) -> None:
    old_training = (fitted.obs["split"] == "train").to_numpy()
    sd.pp.split_strips(fitted, crop_px=40, mpp=0.5, test_strip=2)
    test = (fitted.obs["split"] == "test").to_numpy()
    count = f"{(test & old_training).sum()} of the {test.sum()} cells"
    steps = r"Run sd\.pp\.neighborhoods, sd\.tl\.nolan and sd\.tl\.distill again"
    with pytest.raises(ValueError, match=rf"{count}.*'teacher_niche', 'student_niche' or.*{steps}; split_key=None"):
        sd.tl.agreement(fitted, keys="student_niche")
    with pytest.raises(ValueError, match=r"Run sd\.tl\.leiden again"):
        sd.tl.pathology_probe(fitted, label_key="cell_type", keys="he_leiden_niche")
    assert sd.tl.agreement(fitted, keys="student_niche", split_key=None)["split"].tolist() == ["all"]
    for fit in (sd.pp.neighborhoods, lambda _: sd.tl.nolan(fitted, k=2, **FAST)):
        fit(fitted)
    with pytest.raises(ValueError, match="'student_niche' was taught by another 'teacher_niche'"):
        sd.tl.agreement(fitted, keys="student_niche")
    sd.tl.distill(fitted, k=2, **FAST)
    assert sd.tl.agreement(fitted, keys="student_niche")["split"].tolist() == ["train", "test"]


def test_labels_that_were_changed_since_they_taught(fitted: ad.AnnData, tmp_path: Path) -> None:
    fitted.obs["pathologist"] = fitted.obs["cell_type"].astype(str)
    sd.tl.distill(fitted, teacher_key="pathologist", **FAST)
    fitted.obs["pathologist"] = fitted.obs["pathologist"].astype("category")
    record = fitted.uns["stdistill"]["distill"]
    assert record["n_cells"] == fitted.n_obs

    def measure(cells: ad.AnnData) -> None:
        sd.tl.agreement(cells, reference_key="pathologist", keys="student_niche")

    shuffled = fitted[np.random.default_rng(0).permutation(fitted.n_obs)].copy()
    shuffled.obs_names = [f"slide-{name}" for name in shuffled.obs_names]
    shuffled.write_h5ad(tmp_path / "cells.h5ad")
    edited = fitted.copy()
    edited.obs["pathologist"] = edited.obs["pathologist"][::-1].array
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(fitted)
        measure(ad.read_h5ad(tmp_path / "cells.h5ad"))
        measure(edited[:-1].copy())  # of a part it cannot be told
    with pytest.warns(UserWarning, match=r"'student_niche' was taught by other labels than those in \.obs\['pathol"):
        measure(edited)


@pytest.mark.parametrize("form", ["subset", "shuffled", "h5ad", "zarr", "concatenated", "concatenated outer"])
def test_it_is_known_of_the_table_in_any_form(fitted: ad.AnnData, form: str, tmp_path: Path) -> None:
    sd.pp.split_strips(fitted, crop_px=40, mpp=0.5, test_strip=2)
    if form == "subset":
        fitted = fitted[fitted.obs["split"] == "test"].copy()
    elif form == "shuffled":
        fitted = fitted[np.random.default_rng(0).permutation(fitted.n_obs)].copy()
    elif form.startswith("concatenated"):
        other = make(seed=1)
        if form == "concatenated":
            other.obs = fitted.obs.set_index(other.obs_names)
        join = "inner" if form == "concatenated" else "outer"
        fitted = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", join=join)
        assert "stdistill" not in fitted.uns
        fitted.write_h5ad(tmp_path / "cells")
    else:
        getattr(fitted, f"write_{form}")(tmp_path / "cells")
        fitted = getattr(ad, f"read_{form}")(tmp_path / "cells")
    with pytest.raises(ValueError, match="had a part in fitting 'teacher_niche', 'student_niche'"):
        sd.tl.agreement(fitted, keys="student_niche")


def test_a_smaller_buffer_or_part_of_the_strip_is_still_a_test(fitted: ad.AnnData) -> None:
    """What was in the buffer was fitted by nobody."""
    before = sd.tl.agreement(fitted, keys="student_niche")
    sd.pp.split_strips(fitted, crop_px=20, mpp=0.5)
    fitted.obs["split"] = np.where(fitted.obs["teacher_fitted"], "test", "train")
    with pytest.raises(ValueError, match="had a part"):
        sd.tl.agreement(fitted, keys="student_niche")
    sd.pp.split_strips(fitted, crop_px=20, mpp=0.5)
    after = sd.tl.agreement(fitted, keys="student_niche")
    np.testing.assert_array_equal(after["ari"], before["ari"])
    sd.tl.agreement(fitted[fitted.obs["split"] == "test"].copy(), keys="student_niche")


def test_a_student_of_another_teacher(fitted: ad.AnnData) -> None:
    """The teacher was fitted again, with another number of niches or another seed, and the student was not."""
    for options in ({"k": 3}, {"k": 2, "seed": 5}):
        sd.tl.nolan(fitted, **{**FAST, **options})
        for measure in (MEASURES["composition_jsd"], MEASURES["confusion"], sd.tl.agreement):
            with pytest.raises(
                ValueError, match=r"sd\.tl\.nolan was run again since\. Run sd\.tl\.distill again, or sd\.tl\.nolan"
            ):
                measure(fitted)
    assert len(sd.tl.agreement(fitted, keys="he_leiden_niche")) == 2
    assert len(sd.tl.agreement(fitted, reference_key="cell_type", keys="student_niche")) == 2


def test_the_same_teacher_again_is_the_same_teacher(fitted: ad.AnnData) -> None:
    sd.tl.nolan(fitted, k=2, **FAST)
    sd.tl.match_niches(fitted, reference_key="he_leiden_niche", key="teacher_niche", rename=True)
    assert len(sd.tl.agreement(fitted)) == 4


def test_a_teacher_of_another_split(fitted: ad.AnnData) -> None:
    prepare(fitted, test_strip=2)
    with pytest.raises(
        ValueError, match=r"fitting the teacher 'teacher'.*Run sd\.pp\.neighborhoods and sd\.tl\.nolan again, or give"
    ):
        sd.tl.distill(fitted, k=2, **FAST)
    with pytest.raises(ValueError, match=r"fitting the teacher 'he_leiden_niche'.*Run sd\.tl\.leiden again"):
        sd.tl.distill(fitted, teacher_key="he_leiden_niche", **FAST)
    sd.tl.distill(fitted, teacher_key="cell_type", **FAST)


def test_a_teacher_of_another_radius(fitted: ad.AnnData) -> None:
    radius = fitted.uns["spatial_neighbors"]["params"]["radius"]
    sd.pp.neighborhoods(fitted, radius_um=radius * (1 + 1e-5))
    with pytest.raises(ValueError, match=rf"those in the table have.*neighborhoods\(radius_um={radius!r}\)") as caught:
        sd.tl.distill(fitted, k=2, **FAST)
    shown = [part for part in str(caught.value).replace(":", " ").split() if part.replace(".", "").isdigit()]
    assert len(shown) == len(set(shown)) == 2  # with as many decimals as tell them apart
    sd.pp.neighborhoods(fitted, radius_um=radius)
    sd.tl.distill(fitted, k=2, **FAST)


def test_a_graph_that_is_missing_gets_the_radius_of_the_teacher(fitted: ad.AnnData) -> None:
    radius = fitted.uns["spatial_neighbors"]["params"]["radius"]
    del fitted.uns["spatial_neighbors"], fitted.obsp["spatial_connectivities"]
    assert sd.tl.distill(fitted, k=2, **FAST).radius_um == radius


def test_tables_with_teachers_of_their_own(fitted: ad.AnnData) -> None:
    other = make(seed=3)
    sd.pp.split_strips(other, crop_px=40, mpp=0.5)
    radius = fitted.uns["spatial_neighbors"]["params"]["radius"]
    sd.pp.neighborhoods(other, radius_um=radius)
    teacher = sd.tl.nolan(other, k=2, **FAST)
    with pytest.raises(ValueError, match=r"'teacher' is another one in each.*sd\.tl\.predict\(key_added='teacher'\)"):
        sd.tl.distill([fitted, other], k=2, **FAST)
    sd.tl.predict(fitted, teacher, key_added="teacher")
    sd.tl.distill([fitted, other], k=2, **FAST)
    sd.tl.nolan([fitted, other], k=2, **FAST)
    sd.tl.distill([fitted, other], k=2, **FAST)
    sd.tl.leiden(other, k=2, n_neighbors=8)
    with pytest.raises(ValueError, match="'he_leiden_niche' is another one in each"):
        sd.tl.distill([fitted, other], teacher_key="he_leiden_niche", **FAST)


def test_a_latent_of_another_split() -> None:
    cells = make()
    prepare(cells)
    sd.pp.embed_expression(cells, max_epochs=1)
    np.testing.assert_array_equal(cells.obs["X_scVI_fitted"], cells.obs["split"] == "train")
    prepare(cells, test_strip=2)
    for fit in (sd.tl.nolan, lambda data, **_: sd.tl.leiden(data, k=2, use_rep="X_scVI", n_neighbors=8)):
        with pytest.raises(ValueError, match=r"fitting \.obsm\['X_scVI'\].*Run sd\.pp\.embed_expression again, or"):
            fit(cells, **FAST, k=2)
    assert "teacher_niche" not in cells.obs
    with pytest.raises(ValueError, match=r"fitting \.obsm\['X_scVI'\]"):
        sd.tl.choose_k(cells, ks=(2, 3), n_runs=2)
    with pytest.raises(ValueError, match=r"fitting \.obsm\['X_scVI'\]"):
        sd.tl.evaluate(cells, ks=[2])
    sd.pp.embed_expression(cells, max_epochs=1)
    sd.tl.nolan(cells, k=2, **FAST)


def test_a_result_remembers_a_latent_that_is_gone() -> None:
    """Cells that the latent was fitted on count as those of the teacher, also after the latent was made again."""
    cells = make()
    prepare(cells)
    sd.pp.embed_expression(cells, max_epochs=1)
    first = cells.obs["split"] == "train"
    write_fitted(cells, "X_scVI", (first & (np.arange(600) % 2 == 0)).to_numpy())
    cells.obs["split"] = np.where(np.arange(600) % 2 == 0, "train", "test")
    sd.pp.neighborhoods(cells, n_neighbors=15)
    sd.tl.nolan(cells, k=2, **FAST)
    np.testing.assert_array_equal(cells.obs["teacher_fitted"], np.arange(600) % 2 == 0)
    write_fitted(cells, "X_scVI", np.arange(600) % 4 == 1)
    cells.uns["stdistill"]["embed_expression"]["split_key"] = "split"
    assert fitted_cells(cells, "teacher").sum() == 300


def test_a_latent_of_all_cells_is_warned_of() -> None:
    """As when expression is embedded before there is a split: the map is as good, the test a little less strict."""
    cells = make()
    sd.pp.embed_expression(cells, max_epochs=1)
    assert cells.obs["X_scVI_fitted"].all()
    prepare(cells)
    with pytest.warns(UserWarning, match=r"\['X_scVI'\] was fitted on all cells before there was \.obs\['split'\]"):
        sd.tl.nolan(cells, k=2, **FAST)
    np.testing.assert_array_equal(cells.obs["teacher_fitted"], cells.obs["split"] == "train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.distill(cells, k=2, **FAST)
    with pytest.warns(UserWarning, match=r"run sd\.pp\.embed_expression again"):
        sd.tl.agreement(cells)


def test_an_applied_latent_was_fitted_on_none_of_the_cells(tmp_path: Path) -> None:
    cells, other = make(), make(seed=1)
    sd.pp.embed_expression(other, max_epochs=1, save=tmp_path / "scvi")
    sd.pp.embed_expression(cells, max_epochs=1)
    sd.pp.embed_expression(cells, model=tmp_path / "scvi")
    assert not cells.obs["X_scVI_fitted"].any()
    prepare(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.nolan(cells, k=2, **FAST)


@pytest.mark.parametrize("join", ["inner", "outer"])
def test_a_table_of_the_training_and_one_that_was_predicted(fitted: ad.AnnData, join: str) -> None:
    """anndata.concat drops records, and columns that one of them lacks."""
    student = sd.tl.distill(fitted, k=2, **FAST)
    other = make(seed=1)
    sd.pp.split_strips(other, crop_px=40, mpp=0.5)
    sd.tl.predict(other, student)
    both = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", join=join)
    training = (both.obs["slide"] == "a") & (both.obs["split"] == "train")
    np.testing.assert_array_equal(both.obs["student_fitted"], training)
    both.obs["split"] = np.where(both.obs["slide"] == "a", "test", "train")
    with pytest.raises(ValueError, match="had a part in fitting 'student_niche'"):
        sd.tl.agreement(both, reference_key="cell_type", keys="student_niche")
    if join == "outer":
        del other.obs["student_fitted"]  # as an earlier version wrote it
        both = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", join=join)
        with pytest.warns(UserWarning, match=r"\['student_fitted'\] is missing for 5\d\d cells"):
            sd.tl.agreement(both, reference_key="cell_type", keys="student_niche")


@pytest.mark.parametrize("uns_merge", [None, "first"])
def test_two_teachers_under_one_name(fitted: ad.AnnData, uns_merge: str | None) -> None:
    """Tables with a teacher each are concatenated: niche 0 of one is not that of the other."""
    other = make(seed=1)
    prepare(other)
    sd.tl.nolan(other, k=2, **FAST)
    other.obs["student_niche"] = other.obs["teacher_niche"]
    sd.tl.leiden(other, k=2, n_neighbors=8)
    both = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", uns_merge=uns_merge, join="outer")
    for measure in MEASURES.values():
        with pytest.raises(ValueError, match=r"'(teacher|he_leiden)' is of 2 models in this table"):
            measure(both)
    with pytest.raises(ValueError, match=r"'teacher' is of 2 models"):
        sd.tl.distill(both, k=2, library_key="slide", **FAST)
    with pytest.raises(ValueError, match=r"'he_leiden' is of 2 models"):
        sd.pl.niches(both, keys="he_leiden_niche", show=False)
    one = both[both.obs["slide"] == "a"].copy()
    assert len(sd.tl.agreement(one, keys="student_niche")) == 2


@pytest.mark.parametrize("uns_merge", [None, "first", "same", "unique"])
def test_two_students_under_one_name(fitted: ad.AnnData, tmp_path: Path, uns_merge: str | None) -> None:
    """Slides that were predicted each by another student: the column tells it, whatever becomes of the records."""
    other = make(seed=1)
    prepare(other)
    sd.tl.nolan(other, k=2, seed=1, **FAST)
    student = sd.tl.distill(other, k=2, seed=1, **FAST)
    student.save(tmp_path / "other")
    both = ad.concat({"b": other, "a": fitted}, label="slide", index_unique="-", uns_merge=uns_merge, pairwise=True)
    reads = {
        "logits": lambda: sd.get.logits(both, "student"),
        "confidence": lambda: sd.pl.confidence(both, keys="student_confidence", show=False),
        "verdict": lambda: sd.tl.verdict(both, tmp_path / "other"),
        "profile": lambda: sd.tl.niche_profile(both, niche_key="student_niche"),
        "composition": lambda: sd.tl.composition(both, niche_key="student_niche", cell_type_key="cell_type"),
    }
    for read in reads.values():
        with pytest.raises(ValueError, match=r"'student' is of 2 models in this table .* choose the cells of one"):
            read()
    one = both[both.obs["slide"] == "a"].copy()
    np.testing.assert_array_equal(sd.get.logits(one, "student"), sd.get.logits(fitted, "student"))


def test_two_latents_under_one_name() -> None:
    """Each slide has a latent of its own, and the slides are put into one table after that."""
    slides = {name: make(seed=seed) for seed, name in enumerate("ab")}
    for slide in slides.values():
        sd.pp.embed_expression(slide, max_epochs=1)
    both = ad.concat(slides, label="slide", index_unique="-")
    with pytest.raises(ValueError, match=r"'X_scVI' is of 2 models"):
        sd.tl.nolan(both, k=2, library_key="slide")
    with pytest.raises(ValueError, match=r"'X_scVI' is of 2 models"):
        sd.tl.leiden(both, k=2, use_rep="X_scVI")
    sd.pp.embed_expression(both, library_key="slide", max_epochs=1)
    sd.tl.leiden(both, k=2, use_rep="X_scVI", n_neighbors=8)


def test_records_of_the_first_of_several_tables(fitted: ad.AnnData) -> None:
    """They say nothing of the features of the others."""
    write_record(
        fitted, "embed_he", encoder="texture", mpp=0.5, crop_px=40, n_cells=600, fingerprint="a", key_added="X_he"
    )
    other = make(seed=1)
    write_record(
        other, "embed_he", encoder="texture", mpp=0.25, crop_px=40, n_cells=600, fingerprint="b", key_added="X_he"
    )
    both = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", uns_merge="first")
    with pytest.raises(ValueError, match=r"has 1200 cells, but its record of \.obsm\['X_he'\] is of 600"):
        sd.tl.distill(both, teacher_key="cell_type", library_key="slide", **FAST)
    same = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-", uns_merge="same")
    assert same.uns["stdistill"]["embed_he"].keys() >= {"encoder", "crop_px"}
    sd.tl.distill(same, teacher_key="cell_type", library_key="slide", **FAST)


def test_what_nobody_knows_any_more_is_warned_of(fitted: ad.AnnData) -> None:
    student = sd.tl.distill(fitted, k=2, **FAST)
    other = make(seed=1)
    sd.pp.split_strips(other, crop_px=40, mpp=0.5)
    sd.tl.predict(other, student)
    del other.obs["student_fitted"]
    both = ad.concat({"a": fitted, "b": other}, label="slide", index_unique="-")
    assert "student_fitted" not in both.obs
    with pytest.warns(UserWarning, match="Which cells 'student' was fitted on is not known.*sd.tl.predict again"):
        sd.tl.agreement(both, reference_key="cell_type", keys="student_niche")
    sd.pp.neighborhoods(both, radius_um=student.radius_um, library_key="slide")
    sd.tl.predict(both, student)
    assert both.obs["student_fitted"].sum() == fitted.obs["student_fitted"].sum()


def test_a_latent_that_is_applied_to_its_own_cells(tmp_path: Path) -> None:
    """A saved scVI model knows the cells that it was trained on."""
    cells = make()
    prepare(cells)
    again = cells[np.random.default_rng(0).permutation(600)].copy()
    sd.pp.embed_expression(cells, max_epochs=1, save=tmp_path / "scvi")
    sd.pp.embed_expression(again, model=tmp_path / "scvi")
    np.testing.assert_array_equal(again.obs["X_scVI_fitted"], again.obs["split"] == "train")
    prepare(again, test_strip=2)
    with pytest.raises(ValueError, match=r"fitting \.obsm\['X_scVI'\]"):
        sd.tl.nolan(again, k=2, **FAST)


def test_features_that_were_changed_by_hand() -> None:
    """The record is of those of before; cells that were left out or put in another order are no change."""
    cells = make()
    sd.pp.embed_expression(cells, max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for table in (cells, cells[::-1].copy(), cells[:100].copy()):
            origin_of(table, "X_scVI")
    cells.obsm["X_scVI"] = cells.obsm["X_scVI"] * 2
    with pytest.warns(UserWarning, match=r"\['X_scVI'\] was changed since it was computed.*use_rep="):
        sd.tl.nolan(cells, k=2, **FAST)


def test_a_model_that_is_applied(fitted: ad.AnnData, tmp_path: Path) -> None:
    """To its own cells it is what it was; to others it was fitted on none of them."""
    student = sd.tl.distill(fitted, k=2, **FAST)
    student.save(tmp_path / "student")
    student = sd.models.NicheModel.load(tmp_path / "student")
    sd.tl.predict(fitted, student, key_added="again")
    np.testing.assert_array_equal(fitted.obs["again_fitted"], fitted.obs["student_fitted"])
    other = make(seed=1)
    sd.pp.split_strips(other, crop_px=40, mpp=0.5)
    sd.tl.predict(other, student)
    assert not other.obs["student_fitted"].any()
    other.obs["teacher_niche"] = other.obs["cell_type"]
    assert len(sd.tl.agreement(other)) == 2
    sd.pp.split_strips(fitted, crop_px=40, mpp=0.5, test_strip=2)
    with pytest.raises(ValueError, match="had a part in fitting 'teacher_niche', 'again_niche'"):
        sd.tl.agreement(fitted, keys="again_niche")


def test_another_model_under_the_same_key_takes_the_place_of_the_first(fitted: ad.AnnData) -> None:
    other = make(seed=1)
    sd.pp.split_strips(other, crop_px=40, mpp=0.5)
    sd.pp.neighborhoods(other, radius_um=fitted.uns["spatial_neighbors"]["params"]["radius"])
    sd.tl.nolan(other, k=2, **FAST)
    sd.tl.predict(fitted, sd.tl.distill(other, k=2, **FAST))
    assert not fitted.obs["student_fitted"].any()
    assert "distill" not in fitted.uns["stdistill"]
    sd.tl.nolan(fitted, k=2, seed=9, **FAST)
    assert len(sd.tl.agreement(fitted, keys="student_niche")) == 2


def test_leiden_under_the_key_of_a_student(fitted: ad.AnnData) -> None:
    """Logits and confidence of the student are not those of the clusters."""
    sd.tl.leiden(fitted, k=2, n_neighbors=8, key_added="student")
    left = [name for name in fitted.obs.columns if name.startswith("student")]
    assert left == ["student_niche", "student_mark", "student_fitted", "student_model"]
    with pytest.raises(KeyError, match="key='student' is not a prefix of logits"):
        sd.get.logits(fitted, "student")
    assert len(sd.tl.agreement(fitted, keys="student_niche")) == 2


def test_labels_set_by_hand_pass(fitted: ad.AnnData) -> None:
    for key in ("teacher", "student", "he_leiden"):
        fitted.obs[f"my_{key}"] = fitted.obs[f"{key}_niche"]
    prepare(fitted, test_strip=2)
    table = sd.tl.agreement(fitted, reference_key="my_teacher", keys=["my_student", "my_he_leiden"])
    assert len(table) == 4
    sd.tl.distill(fitted, teacher_key="my_teacher", **FAST)


def test_tables_of_an_earlier_version_pass(fitted: ad.AnnData) -> None:
    """They have neither columns nor fingerprints."""
    for key in ("teacher", "student", "he_leiden"):
        write_fitted(fitted, key, None)
    new = {"fingerprint", "graph", "features", "teacher", "crop_um", "model_sha256"}
    for step, record in fitted.uns["stdistill"].items():
        fitted.uns["stdistill"][step] = {name: value for name, value in record.items() if name not in new}
    sd.tl.nolan(fitted, k=3, **FAST)
    prepare(fitted)
    assert len(sd.tl.agreement(fitted)) == 4
    sd.tl.distill(fitted, k=3, **FAST)


def test_crops_larger_than_those_that_the_split_keeps_apart(bundle: Path) -> None:
    """As in the split of the docs' first step, made for 0.1 µm per pixel, with features at 1 µm."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    sd.pp.embed_he(slide, encoder="texture", crop_px=32, mpp=1.0)
    sd.pp.split_strips(slide, crop_px=32, mpp=0.1)
    cells.obs["truth"] = pd.Categorical(
        np.where(cells.obsm["spatial"][:, 1] > np.median(cells.obsm["spatial"][:, 1]), "a", "b")
    )
    sides = r"crops of 3[12]\.\d µm, and \.obs\['split'\] was made for crops of 3\.\d µm"
    for fit in (
        lambda: sd.tl.distill(slide, teacher_key="truth", **FAST),
        lambda: sd.tl.leiden(slide, k=2),
        lambda: sd.tl.nolan(slide, k=2, use_rep="X_he", key_added="he_nolan", **FAST),
    ):
        with pytest.raises(ValueError, match=rf"{sides}.*share pixels\. Run sd\.pp\.split_strips again"):
            fit()
    sd.pp.split_strips(slide, crop_px=32, mpp=1.0)
    sd.tl.distill(slide, teacher_key="truth", **FAST)
    sd.tl.agreement(cells, reference_key="truth")
    sd.pp.split_strips(slide, crop_px=32, mpp=0.1)
    write_fitted(cells, "student", None)
    with pytest.raises(ValueError, match=rf"'student_niche' has {sides}"):
        sd.tl.agreement(cells, reference_key="truth")


def test_crops_of_the_same_parameters_are_kept_apart(bundle: Path) -> None:
    """Rounded to whole pixels of the image in the same way, or by the µm per pixel that everybody writes."""
    slide = sd.pp.read_xenium(bundle)
    slide["table"].obs["truth"] = pd.Categorical(np.arange(800) % 2)
    for crop in ({"crop_px": 40}, {"crop_px": 33, "mpp": 0.5}):
        sd.pp.embed_he(slide, encoder="texture", **crop)
        sd.pp.split_strips(slide, **crop)
        sd.pp.neighborhoods(slide)
        sd.tl.distill(slide, teacher_key="truth", **FAST)
    sd.pp.embed_he(slide, encoder="texture", crop_px=40)
    alone = slide["table"].copy()
    del alone.uns["stdistill"]["slide"], alone.uns["stdistill"]["read_xenium"]
    sd.pp.split_strips(alone, crop_px=40, mpp=0.274)
    sd.pp.neighborhoods(alone)
    sd.tl.distill(alone, teacher_key="truth", **FAST)


def test_columns_that_are_partly_unknown(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(3)
    cells.obs["a_fitted"] = [True, None, False]
    cells.obs["b_fitted"] = pd.array([True, None, False], dtype="boolean")
    for key in "ab":
        with pytest.warns(UserWarning, match=rf"\['{key}_fitted'\] is missing for 1 cells.*fillna\(True\)"):
            assert fitted_cells(cells, key).tolist() == [True, False, False]
    cells.obs["a_niche"] = pd.Categorical(["x", None, "x"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted_cells(cells, "a")  # the cell has no result
    assert not fitted_cells(cells, "c").any()
    write_fitted(cells, "a", None)
    assert "a_fitted" not in cells.obs


def test_writing_niches_takes_away_what_was_fitted(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(3)
    logits = np.eye(3)
    first = write_niches(cells, "a", logits, niches=list("xyz"), colors=["#000000"] * 3, fitted=np.array([1, 1, 0]) > 0)
    assert cells.obs["a_fitted"].tolist() == [True, True, False]
    assert write_niches(cells, "a", logits[::-1], niches=list("xyz"), colors=["#000000"] * 3) != first
    assert "a_fitted" not in cells.obs


def test_a_teacher_that_taught_itself_is_no_endless_chain(fitted: ad.AnnData) -> None:
    write_record(fitted, "distill", key_added="student", teacher_key="student", use_rep="X_he")
    sd.pp.split_strips(fitted, crop_px=40, mpp=0.5, test_strip=2)
    with pytest.raises(ValueError, match=r"Run sd\.pp\.neighborhoods and sd\.tl\.distill again"):
        sd.tl.pathology_probe(fitted, label_key="cell_type", keys="student_niche")


def test_fitted_cells_as_text() -> None:
    """As a CSV brings them back; what is neither is refused."""
    cells = make(6)
    cells.obs["student_fitted"] = ["True", "False"] * 3
    assert fitted_cells(cells, "student").tolist() == [True, False] * 3
    cells.obs["student_fitted"] = ["yes", "no"] * 3
    with pytest.raises(TypeError, match=r"\['no', 'yes'\]; expected True and False"):
        fitted_cells(cells, "student")


def test_fitted_cells_stay_where_records_were_lost() -> None:
    """Of tables that were concatenated nobody knows whether the student that predicts is the one that was fitted."""
    cells = make(200)
    assert fitted_unrecorded(cells, "student") is None
    write_fitted(cells, "student", np.arange(200) < 50)
    kept = fitted_unrecorded(cells, "student")
    assert kept is not None
    assert kept.sum() == 50
    write_record(cells, "distill", key_added="student", model_sha256="a")
    assert fitted_unrecorded(cells, "student") is None


def test_cells_that_were_dealt_out_at_random() -> None:
    """Of 600 cells in 600 µm all have a training cell within the 60 µm of their crops; a strip's cells have not."""
    cells = make()
    write_record(cells, "embed_he", crop_um=60.0, key_added="X_he", fingerprint="a")
    cells.obs["split"] = np.random.default_rng(0).choice(["train", "test"], 600, p=[0.8, 0.2])
    with pytest.warns(UserWarning, match=r"100% of the 'test' cells in \.obs\['split'\] lie within 60\.0 µm"):
        check_features_unseen(cells, "X_he", "split")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells.obs["split"] = np.where(cells.obsm["spatial"][:, 1] < 200, "test", "train")  # by hand, without a buffer
        check_features_unseen(cells, "X_he", "split")
        cells.obs["split"] = np.repeat(["train", "test"], 300)  # two slides in one frame
        cells.obs["slide"] = np.repeat(["a", "b"], 300)
        sd.pp.neighborhoods(cells, radius_um=60, library_key="slide")
        check_features_unseen(cells, "X_he", "split")


def test_pictures_of_a_student_beside_another_teacher(fitted: ad.AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pl.niches(fitted, show=False)
    sd.tl.nolan(fitted, k=2, **{**FAST, "seed": 5})
    with pytest.warns(
        UserWarning, match=r"'student_niche' was taught by another 'teacher_niche' than the one in \.obs"
    ):
        sd.pl.niches(fitted, show=False)


def test_a_verdict_by_other_neighbourhoods(fitted: ad.AnnData) -> None:
    student = sd.tl.distill(fitted, k=2, **FAST)
    radius = fitted.uns["spatial_neighbors"]["params"]["radius"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.verdict(fitted, student)
    sd.pp.neighborhoods(fitted, radius_um=radius, split_key=None)
    with pytest.warns(UserWarning, match="The neighbourhoods were made again since 'student'"):
        sd.tl.verdict(fitted, student)
    sd.pp.neighborhoods(fitted, radius_um=radius / 2)
    with (
        pytest.raises(ValueError, match="The neighbourhoods have a radius of"),
        pytest.warns(UserWarning, match="again"),
    ):
        sd.tl.verdict(fitted, student)


def test_validation_cells_are_held_out(fitted: ad.AnnData) -> None:
    """A split of the user's own, with which the student was not fitted."""
    there = fitted.obs["split"].isin(["train", "test"])
    split = np.where(np.arange(fitted.n_obs) < fitted.n_obs // 2, "train", "val")
    fitted.obs["own"] = pd.Categorical(np.where(there, split, None))
    with pytest.raises(ValueError, match=r"cells that are held out in \.obs\['own'\] had a part in fitting"):
        sd.tl.agreement(fitted, keys="student_niche", split_key="own")
    fitted.obs["own"] = fitted.obs["split"].cat.rename_categories({"test": "val"})
    assert sd.tl.agreement(fitted, keys="student_niche", split_key="own")["split"].tolist() == ["train", "val"]
