from __future__ import annotations

import copy
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import stdistill as sd
from stdistill._table.provenance.results import kind_of_features, write_kind
from stdistill._table.records import write_record
from stdistill.models import NicheModel

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 6, "learning_rate": 5e-3}
FAST |= {"batch_size": 64, "progress_bar": False, "accelerator": "cpu"}


def make(seed: int, n: int = 600) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 500, (n, 2))
    left = centers[:, :1] < 250
    features = (np.where(left, 1.0, -1.0) * [1, 0.5, 0, 0] + rng.normal(size=(n, 4))).astype(np.float16)
    cells = ad.AnnData(np.zeros((n, 1)), obsm={"spatial": centers, "X_he": features})
    cells.obs["truth"] = np.where(left[:, 0], "left", "right")
    write_record(cells, "embed_he", encoder="texture", licence="BSD-3-Clause", mpp=0.274, crop_px=224, key_added="X_he")
    return cells


@pytest.fixture(scope="module")
def trained() -> tuple[ad.AnnData, NicheModel]:
    cells = make(0)
    sd.pp.split_strips(cells, crop_px=50, mpp=0.274)
    return cells, sd.tl.distill(cells, teacher_key="truth", **FAST)


@pytest.fixture
def student(trained: tuple[ad.AnnData, NicheModel]) -> NicheModel:
    return trained[1]


def test_another_slide(student: NicheModel) -> None:
    slide = make(1)
    sd.tl.predict(slide, student)
    assert (slide.obs["student_niche"] == slide.obs["truth"]).mean() > 0.9
    assert slide.uns["spatial_neighbors"]["params"]["radius"] == student.radius_um
    assert slide.uns["student_niche_colors"].tolist() == student.card.colors
    record = slide.uns["stdistill"]["predict"]
    assert record["radius_um"] == student.radius_um
    assert record["kind"] == "distillation"
    assert (record["teacher_key"], record["encoder"]) == ("truth", "texture")


def test_record_tells_which_model_it_was(student: NicheModel, tmp_path: Path) -> None:
    """Of two models with one card, the one whose saved card lists the hash."""
    network = copy.deepcopy(student.network)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    slide = make(1)
    for name, model in (("one", student), ("other", NicheModel(network, student.card, student.history))):
        model.save(tmp_path / name)
        sd.tl.predict(slide, model, key_added=name)
        saved = json.loads((tmp_path / name / "card.json").read_text())
        assert slide.uns["stdistill"][f"predict_{name}"]["model_sha256"] == saved["sha256"]["model.safetensors"]
    records = [slide.uns["stdistill"][f"predict_{name}"] for name in ("one", "other")]
    assert records[0]["model_sha256"] != records[1]["model_sha256"]


def test_same_as_distill_wrote(trained: tuple[ad.AnnData, NicheModel], tmp_path: Path) -> None:
    """Saved, loaded and applied to the slide it came from: the same bits, buffer cells missing."""
    cells, student = trained
    student.save(tmp_path / "student")
    sd.tl.predict(cells, NicheModel.load(tmp_path / "student"), key_added="again")
    first, second = (sd.get.logits(cells, key).to_numpy() for key in ("student", "again"))
    assert first.tobytes() == second.tobytes()
    assert (np.isnan(first).any(axis=1) == (cells.obs["split"] == "buffer")).all()


def test_card_knows_the_encoder(student: NicheModel) -> None:
    card = student.card
    assert (card.encoder, card.encoder_licence, card.mpp, card.crop_px) == ("texture", "BSD-3-Clause", 0.274, 224)


def test_copy(student: NicheModel) -> None:
    slide = make(1)
    copied = sd.tl.predict(slide, student, copy=True)
    assert "student_niche" in copied.obs
    assert "student_niche" not in slide.obs
    assert "spatial_neighbors" not in slide.uns


def test_other_key(student: NicheModel) -> None:
    slide = make(1)
    slide.obsm["X_texture"] = slide.obsm.pop("X_he")
    with pytest.raises(KeyError, match="X_he"):
        sd.tl.predict(slide, student)
    sd.tl.predict(slide, student, use_rep="X_texture")
    assert slide.obs["student_niche"].notna().all()


def test_table_of_several_slides(student: NicheModel) -> None:
    alone = [make(seed) for seed in (1, 2)]
    both = ad.concat(alone, label="slide", index_unique="-")
    sd.tl.predict(both, student, library_key="slide")
    for slide in alone:
        sd.tl.predict(slide, student)
    expected = np.concatenate([sd.get.logits(slide, "student") for slide in alone])
    np.testing.assert_allclose(sd.get.logits(both, "student"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("encoder", "uni2-h", r"encoder 'uni2-h', the model was trained on 'texture'.*embed_he\(encoder='texture'\)"),
        ("crop_px", 448, r"crop_px 448, the model was trained on 224.*embed_he\(crop_px=224\)"),
        ("context", 3.0, r"context 3, the model was trained on None.*embed_he\(context=None\)"),
        ("stain_normalization", "macenko", "stain_normalization 'macenko', the model was trained on None"),
        ("mpp", 0.5, r"mpp 0.5, the model was trained on 0.274.*embed_he\(mpp=0.274\)"),
    ],
)
def test_features_that_are_not_the_models(student: NicheModel, entry: str, value: object, message: str) -> None:
    slide = make(1)
    slide.uns["stdistill"]["embed_he"][entry] = value
    with pytest.raises(ValueError, match=message):
        sd.tl.predict(slide, student)
    assert "student_niche" not in slide.obs
    assert "spatial_neighbors" not in slide.uns


def test_revisions_differ_when_both_are_known(student: NicheModel) -> None:
    slide = make(1)
    slide.uns["stdistill"]["embed_he"]["revision"] = "abc"
    sd.tl.predict(slide, student)
    known = NicheModel(student.network, replace(student.card, encoder_revision="def"), student.history)
    with pytest.raises(
        ValueError, match=r"encoder_revision 'abc', the model was trained on 'def'.*weights= of sd\.encoders\.get reads"
    ):
        sd.tl.predict(slide, known)
    slide.uns["stdistill"]["embed_he"]["revision"] = "unknown"
    sd.tl.predict(slide, known)


def test_pixels_of_nearly_the_same_size(student: NicheModel) -> None:
    slide = make(1)
    slide.uns["stdistill"]["embed_he"]["mpp"] = 0.2771
    sd.tl.predict(slide, student)
    assert slide.obs["student_niche"].notna().all()


def test_latent_of_another_scvi_model(student: NicheModel) -> None:
    """A teacher reads latents of its own scVI model; one of unknown origin is taken as it is."""
    paired, slide, unknown = (make(seed) for seed in range(3))
    for table, sha256 in ((paired, "aa"), (slide, "bb"), (unknown, None)):
        table.obsm["X_scVI"] = table.obsm["X_he"].astype(np.float32)
        if sha256 is not None:
            write_record(table, "embed_expression", model_sha256=sha256, key_added="X_scVI")
    teacher = sd.tl.nolan(paired, k=2, **FAST)
    assert (teacher.card.expression_model_sha256, teacher.card.encoder) == ("aa", None)
    with pytest.raises(
        ValueError, match=r"expression_model_sha256 'bb', the model was trained on 'aa'.*\(model=\.\.\.\)"
    ):
        sd.tl.predict(slide, teacher, key_added="teacher")
    assert "teacher_niche" not in slide.obs
    assert "spatial_neighbors" not in slide.uns
    with pytest.warns(UserWarning, match=r"Nothing tells by what \.obsm\['X_scVI'\] was computed"):
        sd.tl.predict(unknown, teacher, key_added="teacher")
    assert unknown.obs["teacher_niche"].notna().all()


def test_components_of_the_slide_alone(tmp_path: Path) -> None:
    """Those of another PCA are refused, though subset and rounded ones of the training are known again."""
    paired, slide = make(0), make(1)
    rng = np.random.default_rng(0)
    loadings = np.linalg.qr(rng.normal(size=(30, 4)))[0]
    for table in (paired, slide):
        table.obsm["X_pca"] = table.obsm["X_he"].astype(np.float32)
    paired = with_loadings(paired, loadings)
    sd.tl.nolan(paired, k=2, use_rep="X_pca", **FAST).save(tmp_path / "teacher")
    teacher = NicheModel.load(tmp_path / "teacher")
    leads = np.abs(loadings).argmax(axis=0)
    assert [each["gene"] for each in teacher.card.loadings] == [f"gene-{row}" for row in leads]
    np.testing.assert_allclose([each["loading"] for each in teacher.card.loadings], loadings[leads, range(4)])

    some = [*leads[:2], *rng.permutation(30)[:8]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(paired, teacher, key_added="again")
        same = with_loadings(slide, loadings.astype(np.float32))
        sd.tl.predict(same[:, list(dict.fromkeys(some))].copy(), teacher)
    turned = loadings * [1, 1, 1, -1]
    for other in (turned, np.linalg.qr(rng.normal(size=(30, 4)))[0]):
        with pytest.raises(ValueError, match=r"other principal components than those of the training: .*varm\['PCs'\]"):
            sd.tl.predict(with_loadings(slide, other), teacher)
    for nobody_knows in (slide, same[:, [row for row in range(30) if row not in leads]].copy()):
        with pytest.warns(UserWarning, match=r"Nothing tells by what \.obsm\['X_pca'\] was computed"):
            sd.tl.predict(nobody_knows, teacher)


def with_loadings(table: ad.AnnData, loadings: np.ndarray) -> ad.AnnData:
    genes = pd.DataFrame(index=[f"gene-{row}" for row in range(len(loadings))])
    counts = np.zeros((table.n_obs, len(genes)), dtype=np.float32)
    return ad.AnnData(counts, table.obs, genes, uns=table.uns, obsm=dict(table.obsm), varm={"PCs": loadings})


def test_features_whose_record_was_dropped(student: NicheModel) -> None:
    """anndata.concat drops records; the columns of the features still tell the model's from those of others."""

    def joined(encoder: str, mpp: float) -> ad.AnnData:
        slides = [make(1), make(2)]
        for slide in slides:
            write_kind(slide, "X_he", kind_of_features(encoder, "unknown", 224, None, None), mpp)
        return ad.concat(slides, label="slide", index_unique="-")

    sd.tl.predict(joined("texture", 0.274), student, library_key="slide")
    for table, message in (
        (joined("uni2-h", 0.274), r"by another model.*than those of the training.*'texture' from crops of 224 px"),
        (joined("texture", 0.5), r"mpp 0.5, the model was trained on 0.274"),
    ):
        with pytest.raises(ValueError, match=message):
            sd.tl.predict(table, student, library_key="slide")
        assert "student_niche" not in table.obs


def test_latents_whose_record_was_dropped() -> None:
    slides = [make(seed) for seed in range(3)]
    for slide, sha256 in zip(slides, (16 * "a", 16 * "a", 16 * "b"), strict=True):
        slide.obsm["X_scVI"] = slide.obsm["X_he"].astype(np.float32)
        slide.obs["X_scVI_model"] = pd.Categorical([sha256]).repeat(slide.n_obs)
    write_record(slides[0], "embed_expression", model_sha256=64 * "a", key_added="X_scVI")
    teacher = sd.tl.nolan(slides[0], k=2, **FAST)
    sd.tl.predict(slides[1], teacher, key_added="teacher")
    with pytest.raises(ValueError, match=r"X_scVI_model'\] is 'bbbbbbbbbbbbbbbb', and theirs 'aaaaaaaaaaaaaaaa'"):
        sd.tl.predict(slides[2], teacher, key_added="teacher")
    with pytest.raises(ValueError, match=r"than those of another table: .* Use one for all"):
        sd.tl.nolan([slides[0], slides[2]], k=2, **FAST)


@pytest.mark.parametrize(
    ("entry", "value", "found"),
    [
        ("encoder", np.array(["texture", "uni2-h"]), "a ndarray"),
        ("mpp", "fine", "mpp='fine', a str"),
        ("n_cells", "many", "n_cells='many', a str"),
        (None, "texture", "is a str"),
    ],
)
def test_a_damaged_record(student: NicheModel, entry: str | None, value: object, found: str) -> None:
    """The message names the record, what is wrong with it, and what to do."""
    slide = make(1)
    records = slide.uns["stdistill"]
    if entry is None:
        records["embed_he"] = value
    else:
        records["embed_he"][entry] = value
    with pytest.raises(TypeError, match=rf'\.uns\["stdistill"\]\["embed_he"\].* {found}.*take the record away'):
        sd.tl.predict(slide, student)
    slide.uns["stdistill"] = "texture"
    with pytest.raises(TypeError, match=r'\.uns\["stdistill"\] is a str'):
        sd.tl.predict(slide, student)


def test_wrong_dimension(student: NicheModel) -> None:
    slide = make(1)
    slide.obsm["X_he"] = slide.obsm["X_he"][:, :3]
    with pytest.raises(ValueError, match="has 3 features per cell; the model was trained on 4"):
        sd.tl.predict(slide, student)


def test_wrong_radius(student: NicheModel) -> None:
    slide = make(1)
    sd.pp.neighborhoods(slide, radius_um=30.0)
    with pytest.raises(ValueError, match=r"radius of 30.00 µm.*neighborhoods\(radius_um=model.radius_um\)"):
        sd.tl.predict(slide, student)


@pytest.mark.parametrize(
    ("n", "spread", "times"),
    [(600, 1.0, None), (350, 1.0, None), (900, 1.0, None), (200, 1.0, 0.4), (1500, 1.0, 3.0), (600, 0.5, 4.0)],
)
def test_far_fewer_or_more_neighbours(student: NicheModel, n: int, spread: float, times: float | None) -> None:
    """Cells at random have as many neighbours as there are in so much tissue; half of a unit is a quarter of it.

    Those of the training have a fifth fewer, which lie across the border of a strip.
    """
    slide = make(1, n)
    slide.obsm["spatial"] *= spread
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sd.tl.predict(slide, student)
    said = [str(one.message) for one in warned if "neighbours within" in str(one.message)]
    if times is None:
        assert said == []
        return
    (message,) = said
    found = np.diff(slide.obsp["spatial_connectivities"].indptr).mean()
    assert f"have {found:.1f} neighbours within {student.radius_um:.1f} µm on average" in message
    assert f"{found / student.card.n_neighbors:.2g} times the {student.card.n_neighbors:.1f} of the train" in message
    assert found / student.card.n_neighbors == pytest.approx(times, rel=0.2)


def test_neighbours_that_were_lost_are_told_once(student: NicheModel) -> None:
    slide = make(1)
    sd.pp.neighborhoods(slide, radius_um=student.radius_um)
    some = slide[np.random.default_rng(0).random(600) < 0.3].copy()
    with pytest.warns(UserWarning, match="Cells were taken away since") as warned:
        sd.tl.predict(some, student)
    assert not [one for one in warned if "of the training" in str(one.message)]


def test_a_model_of_an_earlier_version_knows_no_neighbours(student: NicheModel) -> None:
    earlier = NicheModel(student.network, replace(student.card, n_neighbors=None), student.history)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(make(1, 200), earlier)


def test_radii_that_look_the_same(student: NicheModel) -> None:
    """With as many decimals as tell them apart."""
    slide = make(1)
    sd.pp.neighborhoods(slide, radius_um=student.radius_um * (1 + 1e-5))
    with pytest.raises(ValueError, match="those of the model") as caught:
        sd.tl.predict(slide, student)
    found, expected = re.findall(r"\d+\.\d+", str(caught.value))
    assert found != expected
    assert float(found) == pytest.approx(student.radius_um * (1 + 1e-5), abs=1e-3)
    assert float(expected) == pytest.approx(student.radius_um, abs=1e-3)
    sd.pp.neighborhoods(slide, radius_um=round(student.radius_um, 8))
    sd.tl.predict(slide, student)


def test_a_feature_that_hardly_varied_in_training() -> None:
    """On another slide it is 10,000 of its standard deviations away, and must not drown what tells the niches."""
    cells, slide = make(0), make(1)
    for table, level in ((cells, 0.0), (slide, 1.0)):
        noise = np.random.default_rng(5).normal(level, 1e-4, (table.n_obs, 3))
        table.obsm["X_he"] = np.column_stack([table.obsm["X_he"], noise]).astype(np.float32)
    sd.tl.predict(slide, sd.tl.distill(cells, teacher_key="truth", **FAST))
    assert (slide.obs["student_niche"] == slide.obs["truth"]).mean() > 0.9


def test_graph_without_a_radius(student: NicheModel) -> None:
    slide = make(1)
    slide.uns["spatial_neighbors"] = {"connectivities_key": "spatial_connectivities", "params": {"n_neighbors": 6}}
    with pytest.raises(ValueError, match=r"records the radius None.*sd\.pp\.neighborhoods"):
        sd.tl.predict(slide, student)


def test_the_encoder_of_each_key_is_known(student: NicheModel) -> None:
    slide = make(1)
    slide.obsm["X_uni"] = slide.obsm["X_he"]
    write_record(slide, "embed_he", encoder="uni2-h", mpp=0.274, key_added="X_uni")
    with pytest.raises(ValueError, match="encoder 'uni2-h', the model was trained on 'texture'"):
        sd.tl.predict(slide, student, use_rep="X_uni")
    sd.tl.predict(slide, student)
    assert slide.obs["student_niche"].notna().all()


# How sure, and how unusual


@pytest.fixture(scope="module")
def judged() -> tuple[ad.AnnData, NicheModel]:
    """Enough tissue to hold blocks of it out."""
    cells = make(3, n=3000)
    sd.pp.split_strips(cells, crop_px=50, mpp=0.274)
    sd.pp.neighborhoods(cells, radius_um=20)
    return cells, sd.tl.distill(cells, teacher_key="truth", patience=50, **FAST)


def test_confidence_is_calibrated_on_held_out_blocks(judged: tuple[ad.AnnData, NicheModel]) -> None:
    cells, student = judged
    calibration, record = student.card.calibration, cells.uns["stdistill"]["distill"]
    assert calibration is not None
    assert calibration["n_cells"] == record["n_validation_cells"]
    assert calibration["ece_after"] <= calibration["ece_before"] + 0.01
    assert {"ece_before", "ece_after"} <= set(record)
    test = (cells.obs["split"] == "test").to_numpy()
    right = (cells.obs["student_niche"] == cells.obs["truth"])[test].mean()
    assert cells.obs["student_confidence"][test].mean() == pytest.approx(right, abs=0.05)
    logits = sd.get.logits(cells, "student").to_numpy()
    shares = torch.softmax(torch.from_numpy(logits) / calibration["temperature"], dim=1).numpy()
    known = ~np.isnan(logits[:, 0])
    np.testing.assert_allclose(cells.obs["student_confidence"][known], shares.max(axis=1)[known], rtol=1e-5)


def test_a_saved_student_judges_as_before(judged: tuple[ad.AnnData, NicheModel], tmp_path: Path) -> None:
    judged[1].save(tmp_path / "student")
    loaded = NicheModel.load(tmp_path / "student")
    assert loaded.card.calibration == judged[1].card.calibration
    slides = make(4), make(4)
    for slide, model in zip(slides, (judged[1], loaded), strict=True):
        sd.tl.predict(slide, model)
    for column in ("student_ood", "student_confidence"):
        np.testing.assert_array_equal(slides[0].obs[column], slides[1].obs[column])


def test_how_unusual_a_slide_is(judged: tuple[ad.AnnData, NicheModel]) -> None:
    """Cells of the same tissue, as dense, are usual; those of another stain are not, however sure the student is."""
    student = judged[1]
    same, other = make(5, n=3000), make(5, n=3000)
    sd.tl.predict(same, student)
    assert same.uns["stdistill"]["predict"]["ood_median"] == pytest.approx(1, abs=0.1)
    assert same.uns["stdistill"]["predict"]["ood_share_rare"] < 0.03
    other.obsm["X_he"] += np.float16(8)
    other.obsm["X_he"][:10] = np.nan
    with pytest.warns(UserWarning, match="unlike any"):
        sd.tl.predict(other, student)
    assert other.obs["student_ood"].isna().sum() == 10
    assert other.uns["stdistill"]["predict"]["ood_share_rare"] == 1
    sd.tl.predict(other, replace_usual(student), key_added="student")
    assert "student_ood" not in other.obs


def replace_usual(model: NicheModel) -> NicheModel:
    """A student that does not know what is usual, as those saved by earlier versions."""
    return NicheModel(model.network, model.card, model.history)


def test_a_student_holds_nothing_out_by_default() -> None:
    """It learns from all its cells, has no calibration, and knows what is usual all the same."""
    cells = make(6, n=3000)
    student = sd.tl.distill(cells, teacher_key="truth", **FAST)
    record = cells.uns["stdistill"]["distill"]
    assert (record["n_training_cells"], record["n_validation_cells"]) == (3000, 0)
    assert student.card.calibration is None
    same, other = make(7, n=3000), make(7, n=3000)
    sd.tl.predict(same, student)
    assert same.uns["stdistill"]["predict"]["ood_median"] == pytest.approx(1, abs=0.1)
    other.obsm["X_he"] += np.float16(8)
    with pytest.warns(UserWarning, match="unlike any"):
        sd.tl.predict(other, student)


def test_too_little_tissue_does_not_tell_what_is_usual() -> None:
    cells = make(6)
    student = sd.tl.distill(cells, teacher_key="truth", **FAST)
    assert student.usual is None
    assert "student_ood" not in cells.obs


# What is missing is made


@pytest.fixture(scope="module")
def of_slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ad.AnnData]:
    """The H&E of a simulated slide, a student of its halves, and its cells."""
    folder = tmp_path_factory.mktemp("slide")
    slide = sd.pp.read_xenium(sd.datasets.simulate_xenium(folder / "outs", n_cells=300, seed=5))
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    cells = slide["table"]
    cells.obs["side"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "left", "right")
    sd.tl.distill(cells, teacher_key="side", **FAST).save(folder / "student")
    (image,) = (folder / "outs").glob("*he_image.ome.tif")
    return image, folder / "student", cells


def test_an_image_alone(of_slide: tuple[Path, Path, ad.AnnData]) -> None:
    """Nuclei, features, neighbourhoods and niches, from a file and a folder."""
    image, student, cells = of_slide
    slide = sd.pp.read_slide(image)
    done = sd.tl.predict(slide, student, copy=True)
    assert "table" not in slide.tables
    found = done["table"]
    assert abs(found.n_obs - cells.n_obs) < 0.2 * cells.n_obs
    assert found.obs["student_niche"].notna().all()
    assert found.uns["stdistill"]["embed_he"]["crop_px"] == 64
    places = [sd.get.he_pixels(table)[["x", "y"]].to_numpy() for table in (found, cells)]  # µm are of another frame
    nearest = np.linalg.norm(places[0][:, None] - places[1], axis=2).argmin(axis=1)
    margins = [table.obs["student_logit_0"] - table.obs["student_logit_1"] for table in (found, cells)]
    assert np.corrcoef(margins[0], margins[1].to_numpy()[nearest])[0, 1] > 0.8


def test_an_image_that_was_replaced(of_slide: tuple[Path, Path, ad.AnnData]) -> None:
    """What a model says of features is not true of another image, by `predict` and by the verdict."""
    image, student, _ = of_slide
    slide = sd.pp.read_xenium(image.parent)
    sd.tl.predict(slide, student)
    with xr.set_options(keep_attrs=True):
        slide.images["he"] = slide.images["he"].map_over_datasets(lambda level: level - level // 8 if level else level)
    for call in (sd.tl.predict, sd.tl.verdict):
        with pytest.warns(UserWarning, match=r"'he' is not the image that \.obsm\['X_he'\] was computed from"):
            call(slide, student)
    del slide.images["he"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.tl.predict(slide, student)


def test_cells_without_features(of_slide: tuple[Path, Path, ad.AnnData]) -> None:
    """Those of the table are taken: as many as there are, with the niches that they had."""
    image, student, cells = of_slide
    slide = sd.pp.read_xenium(image.parent)
    sd.tl.predict(slide, student)
    np.testing.assert_array_equal(sd.get.logits(slide, "student"), sd.get.logits(cells, "student"))


def test_context_is_computed_as_the_models_was(of_slide: tuple[Path, Path, ad.AnnData], tmp_path: Path) -> None:
    image, _, cells = of_slide
    slide = sd.pp.read_xenium(image.parent)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, context=2.5)
    slide["table"].obs["side"] = cells.obs["side"]
    sd.tl.distill(slide, teacher_key="side", **FAST).save(tmp_path / "student")
    assert sd.models.load(tmp_path / "student").card.context == 2.5
    bare = sd.pp.read_xenium(image.parent)
    sd.tl.predict(bare, tmp_path / "student")
    np.testing.assert_array_equal(bare["table"].obsm["X_he"], slide["table"].obsm["X_he"])
    np.testing.assert_array_equal(sd.get.logits(bare, "student"), sd.get.logits(slide, "student"))


def test_a_model_that_does_not_know_its_features_asks_for_them(
    of_slide: tuple[Path, Path, ad.AnnData], student: NicheModel
) -> None:
    image, _, _ = of_slide
    slide = sd.pp.read_slide(image)
    unknown = NicheModel(student.network, replace(student.card, encoder=None), student.history)
    with pytest.raises(ValueError, match="does not know how its features"):
        sd.tl.predict(slide, unknown)
    assert not slide.tables
    teacher = NicheModel(student.network, replace(student.card, kind="self-distillation"), student.history)
    with pytest.raises(KeyError, match="table"):
        sd.tl.predict(slide, teacher)
