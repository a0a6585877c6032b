from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import stdistill as sd
from stdistill._table.niches import write_niches
from stdistill._table.records import write_record
from stdistill.models.niche.distillation import Distillation
from stdistill.tl._distill import _default_epochs

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 4, "learning_rate": 5e-3}
FAST |= {"batch_size": 64, "progress_bar": False, "accelerator": "cpu"}
NAMES = ["tumour", "stroma", "follicle"]


@pytest.fixture
def make_tissue(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    """Three niches in stripes; features tell them in noise, a teacher knows them; split in strips."""

    def make(
        n: int = 900, *, teacher: bool = True, seed: int = 0, extent: float = 600.0, split: bool = True
    ) -> ad.AnnData:
        cells = make_cells(n, extent=extent, seed=seed)
        rng = np.random.default_rng(seed + 1)
        niche = (cells.obsm["spatial"][:, 0] * 3 / extent).astype(int)
        signal = np.random.default_rng(99).normal(size=(3, 6))
        cells.obsm["X_he"] = (signal[niche] + rng.normal(size=(n, 6))).astype(np.float16)
        cells.obs["truth"] = pd.Categorical.from_codes(niche, NAMES)
        if teacher:
            logits = 3 * np.eye(3)[niche] + 0.3 * rng.normal(size=(n, 3))
            write_niches(cells, "teacher", logits, niches=NAMES, colors=["#ff0000", "#00ff00", "#0000ff"])
        if split:
            sd.pp.split_strips(cells, crop_px=100, mpp=0.2)
        return cells

    return make


@pytest.fixture
def tissue(make_tissue: Callable[..., ad.AnnData]) -> ad.AnnData:
    cells = make_tissue()
    sd.pp.neighborhoods(cells, n_neighbors=15)
    return cells


def agreement(cells: ad.AnnData, where: Any = slice(None), key: str = "student") -> float:
    return float((cells.obs[f"{key}_niche"].astype(object) == cells.obs["truth"].astype(object))[where].mean())


def test_student_finds_the_niches_on_the_test_strip(tissue: ad.AnnData) -> None:
    student = sd.tl.distill(tissue, k=3, **FAST | {"max_epochs": 8})
    test = (tissue.obs["split"] == "test").to_numpy()
    assert agreement(tissue, test) > 0.85
    assert student.card.niches == NAMES
    assert student.card.colors == tissue.uns["student_niche_colors"].tolist() == ["#ff0000", "#00ff00", "#0000ff"]
    assert student.radius_um == tissue.uns["spatial_neighbors"]["params"]["radius"]
    assert repr(student).startswith("NicheModel: a student of 3 tissue niches from H&E\n")
    assert f"6 features of X_he; cells within {student.radius_um:.1f} µm" in repr(student)
    training = (tissue.obs["split"] == "train").to_numpy()
    in_niche = tissue.obs["student_niche"][training].value_counts()
    assert dict(zip(NAMES, student.card.sizes or [], strict=True)) == in_niche.to_dict()
    assert student.card.n_slides == 1
    found, expected = student.card.agreement, sd.tl.agreement(tissue).set_index("split").loc["test"]
    assert found is not None
    assert found == {"cells": "test", **expected[["n_cells", "ari", "nmi"]].to_dict()}


def test_learns_from_augmented_slides(make_tissue: Callable[..., ad.AnnData]) -> None:
    """A slide on which a feature says nothing is less strange to a student that has seen it so, and better read."""
    plain, other = make_tissue(), make_tissue(seed=5)
    shift = np.array([0, 0, 0, 6, 0, 0], dtype=np.float16)
    other.obsm["X_he"] += shift
    augmented = plain.copy()
    augmented.obsm["X_he_augmented_1"] = augmented.obsm["X_he"] + shift
    record = {"encoder": "mine", "key_added": "X_he", "n_augmented": 1}
    augmented.uns["stdistill"] = {**augmented.uns["stdistill"], "embed_he": record}
    found = {}
    for name, cells in (("plain", plain), ("augmented", augmented)):
        student = sd.tl.distill(cells, k=3, **FAST | {"max_epochs": 8})
        seen = other.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sd.tl.predict(seen, student)
        found[name] = (agreement(seen), seen.obs["student_ood"].median())
    assert found["augmented"][0] > max(0.8, found["plain"][0] - 0.02)
    assert found["augmented"][1] < 0.7 * found["plain"][1]


def test_what_is_written(tissue: ad.AnnData, tmp_path: Path) -> None:
    before = set(tissue.obs.columns)
    student = sd.tl.distill(tissue, k=3, key_added="seen", **FAST)
    logits = [f"seen_logit_{niche}" for niche in range(3)]
    assert set(tissue.obs.columns) - before == {
        *logits,
        "seen_niche",
        "seen_confidence",
        "seen_ood",
        "seen_fitted",
        "seen_model",
        "seen_mark",
    }
    none = (tissue.obs["split"] == "buffer").to_numpy()
    assert 0 < none.mean() < 0.3
    for name in (*logits, "seen_niche", "seen_confidence", "seen_ood"):
        assert (tissue.obs[name].isna() == none).all()
    record = tissue.uns["stdistill"]["distill_seen"]
    assert record["temperature"] == student.card.temperature
    n_training = (tissue.obs["split"] == "train").sum()
    assert 0 < record["n_training_cells"] + record["n_validation_cells"] <= n_training
    tissue.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad").uns["stdistill"]["distill_seen"]
    assert set(back) == set(record)


@pytest.mark.parametrize(
    ("n", "epochs"), [(100, 50), (7_500, 8), (20_000, 5), (60_000, 5), (75_000, 4), (299_000, 1), (1_010_961, 1)]
)
def test_default_epochs(n: int, epochs: int) -> None:
    """60,000 cells are seen, or five epochs of up to 60,000; of more cells 300,000, or one epoch."""
    assert _default_epochs(n) == epochs


def test_test_cells_have_no_say(tissue: ad.AnnData) -> None:
    """The student is the same whatever the features and the teacher of test and buffer cells are."""
    other = tissue.copy()
    outside = (other.obs["split"] != "train").to_numpy()
    other.obsm["X_he"][outside] = 0
    for niche in range(3):
        other.obs.loc[outside, f"teacher_logit_{niche}"] = np.float32(niche)
    other.obs.loc[outside, "teacher_niche"] = other.obs["teacher_niche"].cat.categories[2]
    first, second = (sd.tl.distill(cells, k=3, **FAST) for cells in (tissue, other))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_column_of_labels(tissue: ad.AnnData) -> None:
    tissue.obs["pathologist"] = tissue.obs["truth"].astype(object).where(np.arange(900) % 3 > 0, None)
    tissue.obs["pathologist"] = tissue.obs["pathologist"].astype("category")
    tissue.uns["pathologist_colors"] = ["#111111", "#222222", "#333333"]  # of follicle, stroma, tumour
    student = sd.tl.distill(tissue, k=17, teacher_key="pathologist", **FAST | {"max_epochs": 8})
    assert student.card.k == 3
    assert student.card.temperature is None
    assert student.card.niches == sorted(NAMES)
    assert tissue.uns["student_niche_colors"].tolist() == ["#111111", "#222222", "#333333"]
    unlabelled = tissue.obs["pathologist"].isna().to_numpy() & (tissue.obs["split"] == "test").to_numpy()
    assert agreement(tissue, unlabelled) > 0.8


@pytest.mark.parametrize("kind", [str, int])
def test_labels_of_any_kind(tissue: ad.AnnData, kind: type) -> None:
    tissue.obs["cluster"] = [kind(code) for code in tissue.obs["truth"].cat.codes]
    student = sd.tl.distill(tissue, teacher_key="cluster", **FAST | {"max_epochs": 1})
    assert student.card.niches == ["0", "1", "2"]


def test_makes_neighbourhoods_and_says_so(make_tissue: Callable, caplog: pytest.LogCaptureFixture) -> None:
    cells = make_tissue()
    with caplog.at_level(logging.INFO, logger="stdistill"):
        student = sd.tl.distill(cells, k=3, **FAST | {"max_epochs": 1})
    assert "making them with sd.pp.neighborhoods" in caplog.text
    assert cells.uns["spatial_neighbors"]["params"]["radius"] == student.radius_um


def test_fits_the_teacher_first_and_says_so(
    make_tissue: Callable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = make_tissue(teacher=False)
    cells.obsm["X_scVI"] = np.zeros((900, 2), dtype=np.float32)
    asked: dict[str, Any] = {}

    def nolan(data: ad.AnnData, **options: Any) -> None:
        asked.update(options)
        write_niches(data, "teacher", np.eye(3)[data.obs["truth"].cat.codes], niches=NAMES, colors=["#ffffff"] * 3)

    stand_in = ModuleType("stdistill.tl._nolan")
    stand_in.nolan = nolan
    monkeypatch.setitem(sys.modules, "stdistill.tl._nolan", stand_in)
    with caplog.at_level(logging.INFO, logger="stdistill"):
        sd.tl.distill(cells, k=3, **FAST | {"max_epochs": 1})
    assert asked["k"] == 3
    assert "fitting one with sd.tl.nolan(k=3)" in caplog.text
    assert "spatial_neighbors" in cells.uns


def no_step(*_: Any) -> None:
    pytest.fail("a complete run was trained further")


def test_killed_after_training(
    make_tissue: Callable, tissue: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is kept, and used."""
    run = partial(sd.tl.distill, k=3, checkpoint_dir=tmp_path, **FAST)
    with monkeypatch.context() as patch:
        patch.setattr(sd.models.NicheModel, "predict", None)
        with pytest.raises(TypeError):
            run(tissue)
    assert "student_niche" not in tissue.obs
    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "training_step", no_step)
        run(tissue)
    undisturbed = make_tissue()
    sd.pp.neighborhoods(undisturbed, n_neighbors=15)
    sd.tl.distill(undisturbed, k=3, **FAST)
    pd.testing.assert_frame_equal(tissue.obs, undisturbed.obs)


def test_several_slides(make_tissue: Callable) -> None:
    """A list and one table of all give the same student; niches and radius are shared."""
    slides = [make_tissue(seed=seed) for seed in (0, 5)]
    joint = ad.concat({"a": slides[0], "b": slides[1]}, label="slide", index_unique="-", merge="same")
    student = sd.tl.distill(slides, k=3, **FAST | {"max_epochs": 6})
    assert [slide.uns["spatial_neighbors"]["params"]["radius"] for slide in slides] == [student.radius_um] * 2
    for slide in slides:
        assert agreement(slide, (slide.obs["split"] == "test").to_numpy()) > 0.8
    sd.pp.neighborhoods(joint, library_key="slide", radius_um=student.radius_um)
    together = sd.tl.distill(joint, k=3, library_key="slide", **FAST | {"max_epochs": 6})
    np.testing.assert_array_equal(
        np.concatenate([sd.get.logits(slide, "student") for slide in slides]), sd.get.logits(joint, "student")
    )
    assert together.card.training == student.card.training


def restained(cells: ad.AnnData) -> ad.AnnData:
    """The same cells on a slide of another stain, which moves and stretches each feature for all cells alike."""
    cells = cells.copy()
    cells.obsm["X_he"] = (cells.obsm["X_he"] * [0.5, 1.5, 2, 1, 0.7, 1.2] + [3, -2, 4, 0, -5, 2]).astype(np.float32)
    for name in [name for name in cells.obs if name.startswith("student")]:
        del cells.obs[name]
    return cells


def test_by_slide_another_stain_is_not_seen(tissue: ad.AnnData, tmp_path: Path) -> None:
    by_slide = sd.tl.distill(tissue, k=3, standardize="slide", **FAST | {"max_epochs": 8})
    assert tissue.uns["stdistill"]["distill"]["standardize"] == by_slide.card.standardize == "slide"
    assert "by the mean and spread of the slide" in repr(by_slide)
    test = (tissue.obs["split"] == "test").to_numpy()
    assert agreement(tissue, test) > 0.85
    by_slide.save(tmp_path / "student")
    other = restained(tissue)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(other, tmp_path / "student")
    logits = [cells.obs.filter(like="student_logit_").to_numpy() for cells in (tissue, other)]
    np.testing.assert_allclose(logits[1], logits[0], atol=0.02)
    by_training = sd.tl.distill(tissue, k=3, **FAST | {"max_epochs": 8})
    other = restained(tissue)
    with pytest.warns(UserWarning, match="unlike"):
        sd.tl.predict(other, by_training)
    assert agreement(other, test) < agreement(tissue, test) - 0.2


def test_by_slide_features_that_go_together_otherwise_are_unusual(tissue: ad.AnnData) -> None:
    """Not those of another stain: a student by slide sees no difference. Turned about, a feature contradicts others."""
    student = sd.tl.distill(tissue, k=3, standardize="slide", **FAST)
    other, turned = restained(tissue), restained(tissue)
    sd.tl.predict(other, student)
    np.testing.assert_allclose(other.obs["student_ood"], tissue.obs["student_ood"], rtol=0.01)
    assert other.obs["student_ood"].median() == pytest.approx(1, abs=0.2)
    turned.obsm["X_he"] = turned.obsm["X_he"] * np.array([-1, 1, -1, 1, -1, 1], dtype=np.float32)
    with pytest.warns(UserWarning, match=r"differ by in the H&E, \d\d% is what those that the student learned from"):
        sd.tl.predict(turned, student)
    assert other.uns["stdistill"]["predict"]["known_variation"] > 0.95
    assert turned.uns["stdistill"]["predict"]["known_variation"] < 0.9
    assert turned.obs["student_ood"].median() > 2


def test_by_slide_predicts_what_it_wrote(tissue: ad.AnnData, make_tissue: Callable) -> None:
    """Of two slides that were trained on together: one by one, and in one table."""
    slides = [tissue, restained(make_tissue(seed=3))]
    sd.pp.neighborhoods(slides[1], radius_um=tissue.uns["spatial_neighbors"]["params"]["radius"])
    student = sd.tl.distill(slides, k=3, standardize="slide", **FAST)
    written = [slide.obs["student_logit_0"].copy() for slide in slides]
    for slide, expected in zip(slides, written, strict=True):
        again = slide.copy()
        sd.tl.predict(again, student)
        np.testing.assert_allclose(again.obs["student_logit_0"], expected, atol=1e-5)
    slides[1].obsm["spatial"] = slides[1].obsm["spatial"] + [5_000, 0]
    both = ad.concat(dict(zip("ab", slides, strict=True)), label="slide", index_unique="-", uns_merge="first")
    for name in [name for name in both.obs if name.startswith("student")]:
        del both.obs[name]
    sd.pp.neighborhoods(both, library_key="slide", radius_um=student.radius_um)
    sd.tl.predict(both, student)
    np.testing.assert_allclose(both.obs["student_logit_0"], np.concatenate(written), atol=1e-5)


def test_by_slide_a_part_is_no_slide(tissue: ad.AnnData) -> None:
    """Whatever sees the part says so: it has another mean."""
    write_record(tissue, "embed_he", key_added="X_he", n_cells=tissue.n_obs)
    student = sd.tl.distill(tissue, k=3, standardize="slide", **FAST)
    part = tissue[tissue.obsm["spatial"][:, 0] < 300].copy()
    for name in [name for name in part.obs if name.startswith("student")]:
        del part.obs[name]
    for ask in (
        lambda: sd.tl.predict(part, student),
        lambda: sd.tl.explain(part, student, cells=part.obs_names[part.obs["split"] == "train"][:2].tolist()),
        lambda: sd.tl.logistic_niches(part, standardize="slide"),
        lambda: sd.tl.distill(part, k=3, standardize="slide", **FAST),
    ):
        with pytest.warns(UserWarning, match="is a part of a slide"):
            ask()


def test_a_slide_and_a_copy_of_it(make_tissue: Callable) -> None:
    """What is held out in one of them is trained on in the other."""
    one, copy = make_tissue(), make_tissue()
    sd.pp.split_strips(copy, crop_px=100, mpp=0.2, test_strip=2)
    sd.pp.neighborhoods(one, radius_um=60)
    sd.pp.neighborhoods(copy, radius_um=60)
    with pytest.raises(ValueError, match=r"cells that are 'test' are 'train' as well: they are in the tables twice"):
        sd.tl.distill([one, copy], k=3, **FAST)


def test_spatialdata(make_slide: Callable) -> None:
    slide = make_slide(300, extent=200.0)
    table = slide["table"]
    table.obsm["X_he"] = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float16)
    write_niches(
        table, "teacher", np.random.default_rng(1).normal(size=(300, 2)), niches=["0", "1"], colors=["#000000"] * 2
    )
    sd.tl.distill(slide, k=2, **FAST | {"max_epochs": 1})
    assert slide["table"].obs["student_niche"].notna().all()


def test_cells_without_features(tissue: ad.AnnData) -> None:
    off = np.arange(900) % 7 == 0
    tissue.obsm["X_he"][off] = np.nan
    sd.tl.distill(tissue, k=3, **FAST)
    missing = tissue.obs["student_niche"].isna().to_numpy()
    assert (missing == off | (tissue.obs["split"] == "buffer").to_numpy()).all()


def test_constant_features(tissue: ad.AnnData) -> None:
    tissue.obsm["X_he"][:] = 1
    with pytest.raises(ValueError, match="have the same features"):
        sd.tl.distill(tissue, k=3, **FAST)
    assert "student_niche" not in tissue.obs


def test_one_niche(tissue: ad.AnnData) -> None:
    write_niches(tissue, "teacher", np.ones((900, 1)), niches=["all"], colors=["#000000"])
    sd.tl.distill(tissue, k=1, **FAST | {"max_epochs": 1})
    assert tissue.obs["student_niche"].dropna().unique().tolist() == ["all"]


def test_library_of_one_cell_and_cells_without_neighbours(make_tissue: Callable) -> None:
    cells = make_tissue(split=False)
    cells.obsm["spatial"][:5] += 1e5 * np.arange(1, 6)[:, None]
    cells.obs["slide"] = ["alone", *["slide"] * 899]
    sd.pp.neighborhoods(cells, radius_um=60.0, library_key="slide")
    sd.tl.distill(cells, k=3, library_key="slide", **FAST)
    assert cells.obs["student_niche"].notna().all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": "X_uni"}, KeyError, r"use_rep='X_uni' is not features in \.obsm; there is: 'X_he', 'spatial'"),
        ({"k": 4}, ValueError, r"k=4, but the teacher 'teacher' in \.obs has 3 niches. Give k=3"),
        ({"teacher_key": "teachr"}, KeyError, r"'teachr' is neither a prefix of logits.*Did you mean 'teacher'\? Fit"),
        ({"teacher_key": "nobody"}, KeyError, r"'nobody' is neither a prefix of logits.*\['teacher'\].*'truth'"),
        ({"teacher_key": "teacher_confidence"}, TypeError, "expected labels"),
        ({"split_key": "fold"}, KeyError, "split_key='fold'"),
        ({"library_key": "slide"}, KeyError, "library_key='slide'"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive"),
        ({"width": 10, "n_heads": 4}, ValueError, "width=10 is not a multiple of n_heads=4"),
        ({"size": "huge"}, ValueError, r"size must be one of \['small', 'base'\]"),
        ({"dropout": 1.0}, ValueError, "dropout must be"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be at least 1"),
        ({"max_steps": 0}, ValueError, "max_steps to be at least 1, or -1 for no limit, found 0"),
        ({"seed": 2**32}, ValueError, "seed must be"),
        ({"key_added": "a/b"}, ValueError, "key_added must be a name"),
        ({"split_key": None}, ValueError, r"cells have no neighbours in the graph.*neighborhoods\(split_key=None\)"),
    ],
)
def test_bad_input(tissue: ad.AnnData, change: dict, error: type[Exception], message: str) -> None:
    columns = set(tissue.obs.columns)
    with pytest.raises(error, match=message):
        sd.tl.distill(tissue, **{"k": 3, **FAST, **change})
    assert set(tissue.obs.columns) == columns
    assert "distill" not in tissue.uns["stdistill"]


def test_bad_features(tissue: ad.AnnData) -> None:
    features = tissue.obsm["X_he"]
    for bad, error, message in (
        (features[:, :0], ValueError, "expected one dimension"),
        (features.astype(int), TypeError, "expected floating point"),
        (pd.DataFrame(features, index=tissue.obs_names), TypeError, "expected a dense array"),
        (np.where(np.arange(6) == 2, np.float16(np.inf), features), ValueError, "infinite values"),
        (np.full_like(features, np.nan), ValueError, "0 cells can be trained on, for k=3 niches"),
    ):
        tissue.obsm["X_he"] = bad
        with pytest.raises(error, match=message):
            sd.tl.distill(tissue, k=3, **FAST)
    del tissue.obsm["X_he"]
    with pytest.raises(KeyError, match=r"sd\.pp\.embed_he"):
        sd.tl.distill(tissue, k=3, **FAST)


def test_fewer_training_cells_than_niches(tissue: ad.AnnData) -> None:
    for niche in range(3):
        tissue.obs.loc[tissue.obs_names[2:], f"teacher_logit_{niche}"] = np.float32(np.nan)
    with pytest.raises(ValueError, match=r"2 cells can be trained on, for k=3 niches|[01] cells can be trained on"):
        sd.tl.distill(tissue, k=3, **FAST)


def test_groups_of_other_names(tissue: ad.AnnData) -> None:
    tissue.obs["split"] = tissue.obs["split"].cat.rename_categories({"train": "fit"})
    tissue.obs.loc[tissue.obs_names[:2], "split"] = np.nan
    with pytest.raises(ValueError, match=r"No cell is 'train'.*holds \['buffer', 'fit', 'test'\]: .*split_key=None"):
        sd.tl.distill(tissue, k=3, **FAST)


def test_graph_that_leaks(make_tissue: Callable) -> None:
    cells = make_tissue()
    sd.pp.neighborhoods(cells, n_neighbors=15, split_key=None)
    with pytest.raises(ValueError, match="joins cells of different groups of the split"):
        sd.tl.distill(cells, k=3, **FAST)
    sd.pp.neighborhoods(cells, n_neighbors=15)
    cells.obs["slide"] = np.arange(900) % 2
    with pytest.raises(ValueError, match="joins cells of different slides"):
        sd.tl.distill(cells, k=3, library_key="slide", **FAST)


def test_slides_that_do_not_go_together(make_tissue: Callable) -> None:
    slides = [make_tissue(seed=seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match="list of slides is empty"):
        sd.tl.distill([], **FAST)
    for slide, encoder in zip(slides, ("uni2-h", "texture"), strict=True):
        write_record(slide, "embed_he", encoder=encoder, key_added="X_he")
    with pytest.raises(ValueError, match=r"different encoder in the tables: \['uni2-h', 'texture'\]"):
        sd.tl.distill(slides, k=3, **FAST)
    assert not any("spatial_neighbors" in slide.uns for slide in slides)
    for slide, radius_um in zip(slides, (40.0, 50.0), strict=True):
        write_record(slide, "embed_he", encoder="texture", key_added="X_he")
        sd.pp.neighborhoods(slide, radius_um=radius_um)
    with pytest.raises(ValueError, match=r"radii \[40.0, 50.0\] µm. One model needs one"):
        sd.tl.distill(slides, k=3, **FAST)
    del slides[1].obs["teacher_logit_0"], slides[1].obs["teacher_logit_1"], slides[1].obs["teacher_logit_2"]
    with pytest.raises(KeyError, match="in 1 of the 2 tables only"):
        sd.tl.distill(slides, k=3, **FAST)
    slides[1].obsm["X_he"] = slides[1].obsm["X_he"][:, :4]
    with pytest.raises(ValueError, match=r"has \[6, 4\] features in the tables"):
        sd.tl.distill(slides, k=3, **FAST)


def test_slides_of_one_scanner(make_tissue: Callable) -> None:
    """Their own pixels are as large but for the alignment's last digits; the weights must be the same."""
    slides = [make_tissue(seed=seed) for seed in (0, 1)]
    for slide, mpp in zip(slides, (0.27374, 0.27381), strict=True):
        write_record(slide, "embed_he", encoder="uni2-h", revision="sha256-aa", mpp=mpp, crop_px=224, key_added="X_he")
    card = sd.tl.distill(slides, k=3, **FAST | {"max_epochs": 1}).card
    assert (card.encoder, card.encoder_revision, card.mpp) == ("uni2-h", "sha256-aa", 0.27374)
    slides[1].uns["stdistill"]["embed_he"]["revision"] = "sha256-bb"
    with pytest.raises(ValueError, match=r"different encoder_revision in the tables: \['sha256-aa', 'sha256-bb'\]"):
        sd.tl.distill(slides, k=3, **FAST)
