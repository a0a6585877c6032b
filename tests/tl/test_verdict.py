from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import stdistill as sd
from stdistill.models import NicheModel

FAST: dict[str, Any] = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 2, "batch_size": 128}
FAST |= {"progress_bar": False, "accelerator": "cpu"}
CROP_PX = 64
Change = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


def table(shift: float = 0, *, seed: int = 1, extent: float = 500) -> ad.AnnData:
    """Cells with features, of which those of `shift` 0 are alike."""
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(np.zeros((900, 1)), obsm={"spatial": rng.uniform(0, extent, (900, 2))})
    adata.obsm["X_he"] = (rng.normal(size=(900, 6)) + shift).astype("float16")
    return adata


def train(adata: ad.AnnData) -> NicheModel:
    adata.obs["side"] = np.where(adata.obsm["X_he"][:, 0] < 0, "left", "right")
    return sd.tl.distill(adata, teacher_key="side", **FAST)


@pytest.fixture(scope="module")
def student() -> NicheModel:
    """A student of a table with test cells."""
    adata = table(seed=0)
    adata.obs["split"] = np.where(adata.obsm["spatial"][:, 1] < 350, "train", "test")
    return train(adata)


@pytest.mark.parametrize(("shift", "verdict"), [(0, "usable"), (0.3, "partly"), (5, "not")])
@pytest.mark.filterwarnings("ignore:The H&E features")
def test_features_unlike_those_of_the_training(student: NicheModel, shift: float, verdict: str) -> None:
    """The niches are made on the way."""
    cells = table(shift)
    found = sd.tl.verdict(cells, student)
    assert found.verdict == verdict
    assert found.measures.loc["ood_median", "found"] == pytest.approx(cells.obs["student_ood"].median())
    trusted = cells.obs["student_ood"] <= 8
    assert (cells.obs["student_trusted"] == trusted).all()
    assert found.measures.loc["trusted_share", "found"] == pytest.approx(trusted.mean())
    assert found.measures.loc["unlike_share", "found"] == pytest.approx(1 - trusted.mean())


@pytest.mark.filterwarnings("ignore:Of what neighbourhoods of this slide differ by")
def test_a_student_by_slide_is_asked_what_features_vary_by() -> None:
    """Three pairs of features that vary together: where others do, no mean and no spread tells."""

    def pairs(order: list[int], seed: int) -> ad.AnnData:
        cells = table(seed=seed)
        cells.obsm["X_he"] = np.hstack([cells.obsm["X_he"][:, :3]] * 2)[:, order].astype("float16")
        return cells

    training = pairs([0, 1, 2, 3, 4, 5], seed=0)
    training.obs["split"] = np.where(training.obsm["spatial"][:, 1] < 350, "train", "test")
    training.obs["side"] = np.where(training.obsm["X_he"][:, 0] < 0, "left", "right")
    student = sd.tl.distill(training, teacher_key="side", standardize="slide", **FAST)
    same, other = pairs([0, 1, 2, 3, 4, 5], seed=1), pairs([0, 1, 2, 4, 5, 3], seed=1)
    same.obsm["X_he"] = same.obsm["X_he"] * 2 + 5
    found = sd.tl.verdict(same, student)
    assert found.verdict == "usable"
    assert found.measures.loc["known_variation", "found"] == pytest.approx(1, abs=0.01)
    assert same.uns["stdistill"]["predict"]["known_variation"] == found.measures.loc["known_variation", "found"]
    found = sd.tl.verdict(other, student)
    assert found.verdict == "not"
    assert found.measures.loc["known_variation", "found"] < 0.5
    assert "is what those that the model learned from differ by" in str(found)


@pytest.mark.filterwarnings("ignore:The H&E features")
def test_some_cells_are_not_to_be_trusted(student: NicheModel, tmp_path: Path) -> None:
    """A third of the slide is another tissue, and what borders on it is so in part; h5ad and zarr hold it."""
    cells = table()
    strange = cells.obsm["spatial"][:, 0] < 170
    cells.obsm["X_he"][strange] += 6
    found = sd.tl.verdict(cells, student)
    assert found.verdict == "partly"
    trusted, radius = cells.obs["student_trusted"].to_numpy(), student.radius_um
    assert not trusted[strange].any()
    assert trusted[cells.obsm["spatial"][:, 0] >= 170 + radius].all()
    assert found.reasons[0] == f"{trusted.mean():.0%} of the cells can be trusted"
    assert any("cells are unlike those that the model learned from" in reason for reason in found.reasons)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.write_zarr(tmp_path / "cells.zarr")
    for back in (ad.read_h5ad(tmp_path / "cells.h5ad"), ad.read_zarr(tmp_path / "cells.zarr")):
        record = back.uns["stdistill"]["verdict"]
        assert record["verdict"] == "partly"
        assert list(record["reasons"]) == found.reasons
        assert record["trusted_share"] == pytest.approx(trusted.mean())
        assert (back.obs["student_trusted"].to_numpy() == trusted).all()


def test_niches_that_no_cell_got(student: NicheModel) -> None:
    cells = table()
    sd.tl.predict(cells, student)
    cells.obs["student_niche"] = cells.obs["student_niche"].where(cells.obs["student_niche"] == "left")
    sd.tl.verdict(cells, student)
    assert list(cells.uns["stdistill"]["verdict"]["niches_unseen"]) == ["right"]


def test_density(student: NicheModel) -> None:
    """Cells of the training had a neighbour in so many µm²; these have four times as many."""
    cells = table(extent=250)
    found = sd.tl.verdict(cells, student)
    assert found.verdict == "partly"
    expected = np.diff(cells.obsp["spatial_connectivities"].indptr).mean() / student.card.n_neighbors
    assert found.measures.loc["density_ratio", "found"] == pytest.approx(expected)
    assert "times as dense as in the training" in str(found)


def test_a_student_that_knows_nothing_of_its_features() -> None:
    """Silence is no praise: too little tissue was held out to learn what is usual."""
    student = train(table(seed=0)[:150].copy())
    found = sd.tl.verdict(table(), student)
    assert found.verdict == "partly"
    assert "cannot tell" in str(found)
    assert "ood_median" not in found.measures.index


def test_no_cell_with_a_niche(student: NicheModel) -> None:
    cells = table()
    cells.obsm["X_he"][:] = np.nan
    found = sd.tl.verdict(cells, student)
    assert found.verdict == "not"
    assert not cells.obs["student_trusted"].any()


def test_a_cell_without_features_is_not_trusted(student: NicheModel) -> None:
    """Its neighbours tell its niche, and nothing tells whether it is like the training."""
    cells = table()
    cells.obsm["X_he"][:5] = np.nan
    sd.tl.predict(cells, student)
    sd.tl.verdict(cells, student)
    assert not cells.obs["student_trusted"].to_numpy()[:5].any()
    assert cells.obs["student_trusted"].to_numpy()[5:].mean() > 0.9


def test_it_goes_with_its_niches(student: NicheModel) -> None:
    """Niches that replace those that were judged are not judged; those of another key have a record of their own."""
    cells = table()
    sd.tl.verdict(cells, student)
    sd.tl.verdict(cells, student, key_added="other")
    assert {"verdict", "verdict_other"} <= set(cells.uns["stdistill"])
    sd.tl.predict(cells, student)
    assert "student_trusted" not in cells.obs
    assert "verdict" not in cells.uns["stdistill"]
    assert "other_trusted" in cells.obs
    assert cells.uns["stdistill"]["verdict_other"]["key_added"] == "other"


def test_niches_of_another_model(student: NicheModel) -> None:
    cells = table()
    sd.tl.predict(cells, train(table(seed=3)))
    with pytest.raises(ValueError, match=r"another model \(sd\.tl\.predict\)\. Run sd\.tl\.predict\(data, model\)"):
        sd.tl.verdict(cells, student)
    del cells.uns["stdistill"]
    with pytest.raises(ValueError, match="they have no record"):
        sd.tl.verdict(cells, student)
    assert "student_trusted" not in cells.obs


# Pixels


@pytest.fixture(scope="module")
def slide(bundle: Path) -> SpatialData:
    """The slide of the bundle with features and its quality, on which a student was trained."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.quality(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=CROP_PX)
    sd.pp.split_strips(slide, n_strips=2, crop_px=CROP_PX)
    return slide


@pytest.fixture(scope="module")
def paired(slide: SpatialData) -> NicheModel:
    cells = slide["table"]
    cells.obs["side"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "left", "right")
    return sd.tl.distill(cells, teacher_key="side", **FAST)


def seen_as(slide: SpatialData, change: Change) -> SpatialData:
    """The slide with other pixels, and nothing that was computed of them."""
    pixels = np.moveaxis(slide["he"]["scale0"]["image"].to_numpy(), 0, -1)
    systems = get_transformation(slide["he"], get_all=True)
    image = Image2DModel.parse(change(pixels), dims=("y", "x", "c"), transformations=systems)
    cells = slide["table"].copy()
    cells.obs = cells.obs[[name for name in cells.obs if not name.startswith(("he_", "student", "split"))]]
    del cells.obsm["X_he"]
    steps = ("embed_he", "quality", "distill", "split_strips", "neighborhoods", "verdict")
    cells.uns["stdistill"] = {name: step for name, step in cells.uns["stdistill"].items() if name not in steps}
    for key in ("spatial_connectivities", "spatial_distances"):
        cells.obsp.pop(key, None)
    cells.uns.pop("spatial_neighbors", None)
    shapes = {name: slide[name] for name in slide.shapes}
    return SpatialData(images={"he": image}, shapes=shapes, labels=dict(slide.labels), tables={"table": cells})


def test_the_training_slide(slide: SpatialData, paired: NicheModel) -> None:
    quality = slide["table"].uns["stdistill"]["quality"]
    assert paired.card.quality[0]["focus_limit"] == quality["focus_limit"]
    np.testing.assert_allclose(paired.card.quality[0]["stain_vectors"], quality["stain_vectors"])
    found = sd.tl.verdict(slide, paired)
    assert found.verdict == "usable"
    assert found.measures.loc["stain_distance", "found"] == pytest.approx(0, abs=1e-3)
    assert found.measures.loc["mpp_is_estimated", "found"] == 0


@pytest.mark.filterwarnings("ignore:The H&E features")
def test_blurred(slide: SpatialData, paired: NicheModel) -> None:
    """As a whole: only beside the training slide is it out of focus."""
    other = seen_as(slide, lambda pixels: gaussian_filter(pixels, (3, 3, 0)))
    found = sd.tl.verdict(other, paired)
    assert found.verdict == "not"
    assert found.measures.loc["unfocused_share", "found"] > 0.95
    assert "out of focus" in str(found)
    assert not other["table"].obs["student_trusted"].any()


def test_a_student_does_not_learn_the_quality_of_another_image(slide: SpatialData) -> None:
    """Features were made anew of an image that replaced the one whose quality was measured."""
    cells = slide["table"].copy()
    cells.uns["stdistill"]["quality"] = {**cells.uns["stdistill"]["quality"], "images": "0" * 16}
    with pytest.warns(UserWarning, match=r"quality that is recorded is of another image .* Run sd\.pp\.quality again"):
        student = sd.tl.distill(cells, teacher_key="side", **FAST)
    assert student.card.quality is None


@pytest.mark.filterwarnings("ignore:Cells have", "ignore:The H&E features")
def test_cells_that_are_trusted_do_not_speak_for_the_slide(slide: SpatialData, paired: NicheModel) -> None:
    """A slide of which a part is odd is usable once that part was taken away."""
    cells = slide["table"].copy()
    odd = cells.obsm["spatial"][:, 1] > np.quantile(cells.obsm["spatial"][:, 1], 0.6)
    features = cells.obsm["X_he"].astype(np.float32)
    features[odd] += 20 * features.std(axis=0)
    cells.obsm["X_he"] = features.astype(np.float16)
    del cells.uns["stdistill"]["quality"], cells.obs["X_he_mark"]  # these are other features
    sd.tl.predict(cells, paired)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The table has")
        assert sd.tl.verdict(cells, paired).verdict == "partly"
    trusted = cells[cells.obs["student_trusted"]].copy()
    with pytest.warns(UserWarning, match=rf"has {trusted.n_obs} cells, .* computed of {cells.n_obs}: .* says"):
        sd.tl.verdict(trusted, paired)


@pytest.mark.filterwarnings("ignore:The H&E features", "ignore:'he' is not the image")
def test_quality_of_an_image_that_was_replaced(slide: SpatialData, paired: NicheModel) -> None:
    """It is measured again, and not taken for that of the image that is there."""
    other = seen_as(slide, lambda pixels: gaussian_filter(pixels, (3, 3, 0)))
    other["table"].uns["stdistill"]["quality"] = slide["table"].uns["stdistill"]["quality"]
    other["table"].obs["he_focus"] = slide["table"].obs["he_focus"]
    found = sd.tl.verdict(other, paired)
    assert found.measures.loc["unfocused_share", "found"] > 0.95
    record = other["table"].uns["stdistill"]["quality"]
    assert record["focus"] < slide["table"].uns["stdistill"]["quality"]["focus"]
    sharp = seen_as(slide, lambda pixels: pixels)
    sharp["table"].uns["stdistill"]["quality"] = slide["table"].uns["stdistill"]["quality"]
    measured = sharp["table"].obs["he_focus"] = slide["table"].obs["he_focus"] + np.float32(0.01)
    sd.tl.verdict(sharp, paired)
    np.testing.assert_array_equal(sharp["table"].obs["he_focus"], measured)  # of this image: it stays


@pytest.mark.filterwarnings("ignore:The H&E features")
def test_pen(slide: SpatialData, paired: NicheModel) -> None:
    def paint(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        pixels = pixels.copy()
        pixels[: len(pixels) // 2] = (20, 60, 200)
        return pixels

    other = seen_as(slide, paint)
    found = sd.tl.verdict(other, paired)
    share = found.measures.loc["pen_share", "found"]
    assert 0.3 < share < 0.7
    assert found.verdict != "usable"
    assert "under pen" in str(found)
    trusted = other["table"].obs["student_trusted"]
    assert not trusted[other["table"].obs["he_pen"] > 0.5].any()


def test_blank(paired: NicheModel) -> None:
    """No error: that nothing is there is the verdict."""
    image = Image2DModel.parse(np.full((3, 600, 600), 240, np.uint8), dims=("c", "y", "x"))
    from spatialdata.transformations import Scale, set_transformation

    set_transformation(image, Scale([0.274, 0.274], axes=("x", "y")), "um")
    blank = SpatialData(images={"he": image})
    found = sd.tl.verdict(blank, paired)
    assert found.verdict == "not"
    assert "No tissue is seen" in found.reasons[0]
    assert blank.attrs["stdistill"]["verdict"]["verdict"] == "not"
    assert not blank.tables


def test_a_saved_student_knows_its_slides(paired: NicheModel, tmp_path: Path) -> None:
    paired.save(tmp_path / "student")
    again = sd.models.load(tmp_path / "student")
    assert (again.card.quality, again.card.n_neighbors) == (paired.card.quality, paired.card.n_neighbors)


def test_a_student_of_before_knows_only_single_cells(student: NicheModel) -> None:
    """Its description is of cells and not of neighbourhoods: it loads, and nothing is compared with it."""
    weights = {name.replace("usual_means.", "usual."): weight for name, weight in student.weights.items()}
    former = NicheModel.restore(student.card, weights, student.history)
    cells = table()
    found = sd.tl.verdict(cells, former)
    assert found.verdict == "partly"
    assert any("cannot tell what H&E is unlike its training" in reason for reason in found.reasons)
    assert "student_ood" not in cells.obs
