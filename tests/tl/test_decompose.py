from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

import stdistill as sd
from stdistill._table.records import write_record

QUICK = {"max_epochs": 3, "width": 16, "depth": 2, "n_members": 2, "progress_bar": False, "batch_size": 32}
TYPES = ["B cell", "CAFs MSC/iCAF-like", "T cell"]


@pytest.fixture
def make_places(make_cells: Callable[..., ad.AnnData]) -> Callable[..., ad.AnnData]:
    """Places of two sections, whose features tell abundances all but exactly."""

    def make(n: int = 200, *, seed: int = 0, noise: float = 0.05, **obs: Any) -> ad.AnnData:
        rng = np.random.default_rng(seed)
        cells = make_cells(n, seed=seed, section=np.repeat(["a", "b"], [n // 2, n - n // 2]), **obs)
        truth = rng.gamma(2, 1, (n, len(TYPES)))
        mixed = truth @ np.random.default_rng(9).normal(size=(len(TYPES), 6)) + noise * rng.normal(size=(n, 6))
        cells.obsm["X_he"] = mixed.astype("float32")
        cells.obsm["X_other"] = rng.normal(size=(n, 4)).astype("float16")
        cells.obsm["given"] = pd.DataFrame(truth, columns=TYPES, index=cells.obs_names)
        sd.pp.abundances(cells, obsm_key="given")
        return cells

    return make


def correlation(cells: ad.AnnData, key: str = "he_abundance") -> float:
    found, truth = cells.obsm[key], cells.obsm["abundance"]
    return float(np.mean([np.corrcoef(found[:, i], truth[:, i])[0, 1] for i in range(truth.shape[1])]))


def test_learns_abundances(make_places: Callable[..., ad.AnnData]) -> None:
    cells, other = make_places(), make_places(seed=1)
    how = {**QUICK, "max_epochs": 30, "learning_rate": 1e-2, "batch_size": 16, "n_members": 1}
    model = sd.tl.decompose(cells, group_key="section", **how)
    sd.tl.predict(other, model)
    assert correlation(cells) > 0.95
    assert correlation(other) > 0.95
    assert cells.obsm["he_abundance"].dtype == np.float32
    assert (cells.obsm["he_abundance"] >= 0).all()
    assert sd.get.abundances(cells, "he_abundance").columns.tolist() == TYPES
    assert cells.obs["he_abundance_fitted"].all()
    assert not other.obs["he_abundance_fitted"].any()


def test_ridge(make_places: Callable[..., ad.AnnData]) -> None:
    cells, other = make_places(), make_places(seed=1)
    model = sd.tl.decompose(cells, method="ridge", group_key="section")
    sd.tl.predict(other, model)
    assert correlation(other) > 0.99
    assert "he_abundance_std" not in cells.obsm
    record = cells.uns["stdistill"]["decompose"]
    assert record["penalty"] == model.card.training["penalty"]
    assert_allclose(record["training_mean"], cells.obsm["abundance"].mean(axis=0), rtol=1e-5)


def test_members_are_averaged(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    model = sd.tl.decompose(cells, group_key="section", **QUICK)
    from stdistill.models.composition.rows import FeatureRows

    rows = FeatureRows([cells.obsm["X_he"]])
    alone = replace(model.card, n_members=1)
    members = [sd.models.CompositionModel([one], alone, model.history) for one in model.members]  # type: ignore[list-item]
    each = np.stack([member.predict(rows)[0] for member in members])
    assert_allclose(cells.obsm["he_abundance"], each.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert_allclose(cells.obsm["he_abundance_std"], each.std(axis=0), rtol=1e-4, atol=1e-5)
    sd.tl.decompose(cells, group_key="section", **{**QUICK, "n_members": 1})
    assert "he_abundance_std" not in cells.obsm


def test_several_encoders_and_the_neighbourhood(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    sd.pp.neighborhoods(cells, radius_um=150, library_key="section")
    reps = ["X_he", "X_other"]
    model = sd.tl.decompose(cells, use_rep=reps, use_neighbors=True, library_key="section", **QUICK)
    assert model.card.n_features == 2 * (6 + 4)
    assert [one.feature_key for one in model.card.inputs] == reps
    assert model.card.radius_um == 150
    before = cells.obsm["he_abundance"].copy()
    sd.tl.predict(cells, model, library_key="section")
    assert_array_equal(cells.obsm["he_abundance"], before)
    sd.pp.neighborhoods(cells, radius_um=100, library_key="section")
    with pytest.raises(ValueError, match=r"radius of 100\.00 µm, those of the model 150\.00"):
        sd.tl.predict(cells, model)


def test_rows_without_features_of_one_encoder(
    make_places: Callable[..., ad.AnnData], caplog: pytest.LogCaptureFixture
) -> None:
    cells = make_places()
    cells.obsm["X_other"][:10] = np.nan
    with caplog.at_level(logging.INFO, logger="stdistill"):
        model = sd.tl.decompose(cells, use_rep=["X_he", "X_other"], group_key="section", **QUICK)
    assert "200 rows have features .obsm['X_he'], and only 190 those of all encoders" in caplog.text
    assert np.isnan(cells.obsm["he_abundance"]).all(axis=1).tolist() == [True] * 10 + [False] * 190
    assert model.card.training["n_training_cells"] == 190
    assert cells.obs["he_abundance_fitted"].sum() == 190


def test_rows_without_abundances_are_predicted_all_the_same(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    cells.obsm["abundance"][:10] = np.nan
    sd.tl.decompose(cells, method="ridge", group_key="section")
    assert np.isfinite(cells.obsm["he_abundance"]).all()
    assert cells.obs["he_abundance_fitted"].sum() == 190


def test_test_rows_are_not_learned_from(make_places: Callable[..., ad.AnnData]) -> None:
    split = pd.Categorical(["train"] * 80 + ["test"] * 20 + ["train"] * 80 + ["buffer"] * 20)
    cells = make_places(split=split)
    sd.tl.decompose(cells, method="ridge", group_key="section")
    first = cells.obsm["he_abundance"].copy()
    cells.obsm["abundance"][cells.obs["split"] != "train"] *= 100
    sd.tl.decompose(cells, method="ridge", group_key="section")
    assert_array_equal(cells.obsm["he_abundance"], first)
    assert np.isnan(first).any(axis=1).tolist() == (split == "buffer").tolist()
    assert cells.obs["he_abundance_fitted"].tolist() == (split == "train").tolist()
    scores = sd.tl.abundance_scores(cells, keys="he_abundance").query("type == 'all'").set_index("cells")
    assert scores["n_rows"].to_dict() == {"fitted": 160, "unseen": 20}


def test_same_bits_and_saved(make_places: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    cells, again, other = make_places(), make_places(), make_places(seed=1)
    model = sd.tl.decompose(cells, group_key="section", checkpoint_dir=tmp_path / "run", **QUICK)
    sd.tl.decompose(again, group_key="section", **QUICK)
    assert_array_equal(again.obsm["he_abundance"], cells.obsm["he_abundance"])
    model.save(tmp_path / "model")
    copy = other.copy()
    sd.tl.predict(other, model)
    sd.tl.predict(copy, tmp_path / "model")
    assert_array_equal(other.obsm["he_abundance"], copy.obsm["he_abundance"])
    assert_array_equal(other.obsm["he_abundance_std"], copy.obsm["he_abundance_std"])
    loaded = sd.models.load(tmp_path / "model")
    assert loaded.sha256 == model.sha256 == str(cells.uns["stdistill"]["decompose"]["model_sha256"])
    assert repr(loaded) == repr(model)
    assert repr(model).startswith("CompositionModel: a network that tells 3 cell types from H&E\n")


def restained(cells: ad.AnnData) -> ad.AnnData:
    """The same places on a slide of another stain, which moves and stretches each feature for all of them alike."""
    cells = cells.copy()
    stained = cells.obsm["X_he"] * [0.5, 1.5, 2, 1, 0.7, 1.2] + [3, -2, 4, 0, -5, 2]
    cells.obsm["X_he"] = stained.astype(np.float32)
    return cells


@pytest.mark.parametrize("method", ["mlp", "ridge"])
@pytest.mark.parametrize("use_neighbors", [False, True])
def test_by_slide_another_stain_is_not_seen(
    make_places: Callable[..., ad.AnnData], method: str, use_neighbors: bool, tmp_path: Path
) -> None:
    slides = [make_places(), restained(make_places(seed=1))]
    how = {**QUICK, "method": method, "use_neighbors": use_neighbors}
    model = sd.tl.decompose(slides, standardize="slide", **how)
    assert slides[0].uns["stdistill"]["decompose"]["standardize"] == model.card.standardize == "slide"
    model.save(tmp_path / "model")
    other = make_places(seed=2)
    stained = restained(other)
    sd.tl.predict(other, model)
    sd.tl.predict(stained, tmp_path / "model")
    assert_allclose(stained.obsm["he_abundance"], other.obsm["he_abundance"], rtol=1e-3, atol=1e-3)
    by_training = sd.tl.decompose(slides, **how)
    assert slides[0].uns["stdistill"]["decompose"]["standardize"] == by_training.card.standardize == "training"
    sd.tl.predict(stained, by_training)
    assert np.abs(stained.obsm["he_abundance"] - other.obsm["he_abundance"]).max() > 0.1


def test_by_slide_the_ridge_is_that_of_features_scaled_by_hand(make_places: Callable[..., ad.AnnData]) -> None:
    slides = [make_places(), restained(make_places(seed=1))]
    slides[0].obsm["X_he"][3, 2] = np.nan  # a row without features has no part in its slide's mean
    asked = restained(make_places(120, seed=2))
    model = sd.tl.decompose(slides, method="ridge", standardize="slide")
    sd.tl.predict(asked, model)

    def scaled(values: np.ndarray) -> np.ndarray:
        known = values[np.isfinite(values).all(axis=1)].astype(float)
        return (known - known.mean(axis=0)) / known.std(axis=0)

    features = np.vstack([scaled(slide.obsm["X_he"]) for slide in slides])
    targets = np.vstack([np.delete(slides[0].obsm["abundance"], 3, axis=0), slides[1].obsm["abundance"]])
    spread = targets.std(axis=0)
    ridge = Ridge(alpha=model.card.training["penalty"]).fit(features, targets / spread)
    expected = (ridge.predict(scaled(asked.obsm["X_he"])) * spread).clip(0)
    assert_allclose(asked.obsm["he_abundance"], expected, rtol=1e-3, atol=1e-3)


def test_by_slide_predicts_what_it_wrote(make_places: Callable[..., ad.AnnData]) -> None:
    """Of two slides that were trained on together: one by one, and in one table."""
    slides = [make_places(), restained(make_places(seed=1))]
    model = sd.tl.decompose(slides, standardize="slide", **QUICK)
    written = [slide.obsm["he_abundance"].copy() for slide in slides]
    for slide, expected in zip(slides, written, strict=True):
        again = slide.copy()
        sd.tl.predict(again, model)
        assert_array_equal(again.obsm["he_abundance"], expected)
    slides[1].obsm["spatial"] = slides[1].obsm["spatial"] + [5_000, 0]
    for slide in slides:
        del slide.obsm["he_abundance"]
    both = ad.concat(dict(zip("ab", slides, strict=True)), label="slide", index_unique="-")
    sd.tl.predict(both, model, library_key="slide")
    assert_allclose(both.obsm["he_abundance"], np.concatenate(written), rtol=1e-4, atol=1e-4)
    sd.tl.predict(both, model, key_added="as_one")
    assert np.abs(both.obsm["as_one"] - np.concatenate(written)).max() > 0.1


def test_by_slide_few_rows_are_warned_of(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    model = sd.tl.decompose(cells, method="ridge", group_key="section", standardize="slide")
    with pytest.warns(UserWarning, match="1 of 1 slides have fewer than 100 rows with features, the fewest 99"):
        sd.tl.predict(make_places(seed=1)[:99].copy(), model)


def test_by_slide_a_part_is_no_slide(make_places: Callable[..., ad.AnnData]) -> None:
    """Where it is known of how many rows the features were computed."""
    slide = make_places()
    write_record(slide, "embed_he", key_added="X_he", n_cells=slide.n_obs)
    how = {"method": "ridge", "group_key": "section", "standardize": "slide"}
    model = sd.tl.decompose(slide, **how)
    part = slide[: slide.n_obs // 2].copy()
    with pytest.warns(UserWarning, match="is a part of a slide"):
        sd.tl.predict(part, model, key_added="asked")
    with pytest.warns(UserWarning, match="is a part of a slide"):
        sd.tl.decompose(part, **how)


def test_goes_on_from_checkpoints(make_places: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    """What was trained is not trained again, and a member that is missing is."""
    cells, again = make_places(), make_places()
    sd.tl.decompose(cells, group_key="section", checkpoint_dir=tmp_path, **QUICK)
    kept = (tmp_path / "member_0" / "resume.ckpt").stat().st_mtime_ns
    (tmp_path / "member_1" / "resume.ckpt").unlink()
    sd.tl.decompose(again, group_key="section", checkpoint_dir=tmp_path, **QUICK)
    assert (tmp_path / "member_0" / "resume.ckpt").stat().st_mtime_ns == kept
    assert_array_equal(again.obsm["he_abundance"], cells.obsm["he_abundance"])
    with pytest.raises(ValueError, match="checkpoint is of another run"):
        sd.tl.decompose(again, group_key="section", checkpoint_dir=tmp_path, **{**QUICK, "mae_weight": 0.1})


def test_a_list_of_slides(make_places: Callable[..., ad.AnnData]) -> None:
    one, other = make_places(seed=0), make_places(seed=1)
    other.obsm["given"] = other.obsm["given"][TYPES[::-1]]
    sd.pp.abundances(other, obsm_key="given")
    model = sd.tl.decompose([one, other], method="ridge")
    assert model.card.types == TYPES
    assert sd.get.abundances(other, "he_abundance").columns.tolist() == TYPES
    assert np.corrcoef(other.obsm["he_abundance"][:, 0], other.obsm["abundance"][:, 2])[0, 1] > 0.99


def test_shares(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    with pytest.raises(ValueError, match=r"200 rows of \.obsm\['abundance'\] do not sum to 1"):
        sd.tl.decompose(cells, output="softmax", **QUICK)
    cells.obsm["abundance"] /= cells.obsm["abundance"].sum(axis=1, keepdims=True)
    sd.tl.decompose(cells, output="softmax", group_key="section", **QUICK)
    assert_allclose(cells.obsm["he_abundance"].sum(axis=1), 1, rtol=1e-5)


def test_a_type_that_is_nowhere(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    cells.obsm["abundance"][:, 1] = 0
    for method in ("mlp", "ridge"):
        sd.tl.decompose(cells, method=method, group_key="section", **QUICK)
        assert (cells.obsm["he_abundance"][:, 1] == 0).all()
    cells.obsm["abundance"][:] = 1
    with pytest.raises(ValueError, match="equally abundant in all of the 200 training rows"):
        sd.tl.decompose(cells, **QUICK)


@pytest.mark.parametrize(("value", "word"), [(-1, "negative"), (np.inf, "infinite")])
def test_wrong_targets(make_places: Callable[..., ad.AnnData], value: float, word: str) -> None:
    cells = make_places()
    cells.obsm["abundance"][3, 1] = value
    with pytest.raises(ValueError, match=f"1 {word} values, such as .* of 'CAFs MSC/iCAF-like' in row 3"):
        sd.tl.decompose(cells, **QUICK)
    assert "he_abundance" not in cells.obsm


def test_nothing_to_train_on(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    cells.obsm["abundance"][:] = np.nan
    with pytest.raises(ValueError, match="200 are training rows, of which 200 have features and 0 abundances"):
        sd.tl.decompose(cells, **QUICK)


def test_types_that_differ(make_places: Callable[..., ad.AnnData]) -> None:
    one, other = make_places(), make_places(seed=1)
    other.obsm["given"] = other.obsm["given"].rename(columns={"B cell": "plasma"})
    sd.pp.abundances(other, obsm_key="given")
    with pytest.raises(ValueError, match="other types in some tables than in others: B cell, plasma"):
        sd.tl.decompose([one, other], **QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "forest"}, r"method must be one of \['mlp', 'ridge'\]"),
        ({"output": "relu"}, "output must be one of"),
        ({"pearson_axis": "row"}, "pearson_axis must be one of"),
        ({"mae_weight": -1}, "mae_weight must be a finite number"),
        ({"dropout": 1.0}, "dropout must be less than 1"),
        ({"n_members": 0}, "n_members must be at least 1"),
        ({"method": "ridge", "output": "softmax"}, "goes with method='mlp'"),
    ],
)
def test_arguments_out_of_range(make_places: Callable[..., ad.AnnData], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sd.tl.decompose(make_places(), **wrong)


def test_groups_with_missing_names(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places(patient=[None] * 5 + ["p"] * 195)
    with pytest.raises(ValueError, match=r"\.obs\['patient'\] names no group for 5 rows"):
        sd.tl.decompose(cells, group_key="patient", **QUICK)
    with pytest.raises(KeyError, match="group_key='donor' is not a column"):
        sd.tl.decompose(cells, group_key="donor", **QUICK)


def test_a_model_of_other_features_is_refused(make_places: Callable[..., ad.AnnData]) -> None:
    from stdistill._table.records import write_record

    cells, other = make_places(), make_places(seed=1)
    facts = {"encoder": "uni2-h", "mpp": 0.5, "crop_px": 224, "key_added": "X_he"}
    write_record(cells, "embed_he", **facts)
    model = sd.tl.decompose(cells, method="ridge", group_key="section")
    for entry, value in (("encoder", "virchow"), ("mpp", 0.25), ("crop_px", 112), ("stain_normalization", "macenko")):
        write_record(other, "embed_he", **{**facts, entry: value})
        with pytest.raises(ValueError, match=f"was computed with {entry}"):
            sd.tl.predict(other, model)
    with pytest.raises(ValueError, match="reads 1 kinds of features"):
        sd.tl.predict(other, model, use_rep=["X_he", "X_other"])
    with pytest.raises(ValueError, match="has 4 features per cell; the model was trained on 6"):
        sd.tl.predict(other, model, use_rep="X_other")
    assert "he_abundance" not in other.obsm


def test_a_model_knows_its_rows(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    model = sd.tl.decompose(cells, method="ridge", group_key="section")
    part = make_places()[::-1][:50].copy()
    sd.tl.predict(part, model)
    assert part.obs["he_abundance_fitted"].all()


def test_results_survive_disk(make_places: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    cells = make_places()
    sd.tl.decompose(cells, group_key="section", **QUICK)
    del cells.obsm["given"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.write_zarr(tmp_path / "cells.zarr")
    for read in (ad.read_h5ad(tmp_path / "cells.h5ad"), ad.read_zarr(tmp_path / "cells.zarr")):
        pd.testing.assert_frame_equal(
            sd.get.abundances(read, "he_abundance"), sd.get.abundances(cells, "he_abundance"), check_index_type=False
        )


def test_from_an_h_and_e_alone(bundle: Path, tmp_path: Path) -> None:
    """Nuclei, features and neighbourhoods of a slide without transcripts are made as the model's were."""
    paired = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(paired, encoder="texture", crop_px=64, key_added="X_texture")
    sd.pp.neighborhoods(paired, radius_um=60)
    sd.pp.abundances(paired, cell_type_key="cell_type")
    model = sd.tl.decompose(paired, use_rep="X_texture", method="ridge", use_neighbors=True, n_members=2)
    model.save(tmp_path / "model")
    alone = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
    sd.tl.predict(alone, tmp_path / "model")
    told = sd.get.abundances(alone, "he_abundance")
    assert told.columns.tolist() == sd.get.abundances(paired).columns.tolist()
    assert told.notna().to_numpy().mean() > 0.95
    record = alone["table"].uns["stdistill"]
    assert record["embed_he_X_texture"]["crop_px"] == 64
    assert alone["table"].uns["spatial_neighbors"]["params"]["radius"] == 60
    # As many cells are told around the nuclei as there are around cells.
    assert told.sum(axis=1).median() == pytest.approx(sd.get.abundances(paired).sum(axis=1).median(), rel=0.3)


def test_one_type(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    cells.obsm["one"] = cells.obsm["given"][["T cell"]]
    sd.pp.abundances(cells, obsm_key="one")
    for method in ("mlp", "ridge"):
        sd.tl.decompose(cells, method=method, group_key="section", **QUICK)
        assert cells.obsm["he_abundance"].shape == (200, 1)


def test_a_group_of_one_row(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places(patient=["lonely"] + ["p"] * 100 + ["q"] * 99)
    sd.tl.decompose(cells, group_key="patient", **{**QUICK, "n_members": 3})
    assert np.isfinite(cells.obsm["he_abundance"]).all()


def test_a_checkpoint_of_other_features_is_refused(make_places: Callable[..., ad.AnnData], tmp_path: Path) -> None:
    """Mean and spread are the same where rows change places."""
    cells = make_places()
    sd.tl.decompose(cells, group_key="section", checkpoint_dir=tmp_path, **QUICK)
    cells.obsm["X_he"] = cells.obsm["X_he"][::-1].copy()
    with pytest.raises(ValueError, match=r"checkpoint is of another run \(features"):
        sd.tl.decompose(cells, group_key="section", checkpoint_dir=tmp_path, **QUICK)


def test_nothing_else_is_overwritten(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places(student_niche=pd.Categorical(["a"] * 200))
    for key, message in (
        ("abundance", "is what the model is fitted to"),
        ("X_he", "is what the model is fitted to"),
        ("student", "the table has niches of that name"),
    ):
        with pytest.raises(ValueError, match=message):
            sd.tl.decompose(cells, key_added=key, method="ridge", group_key="section")
    model = sd.tl.decompose(cells, method="ridge", group_key="section")
    with pytest.raises(ValueError, match="the table has niches of that name"):
        sd.tl.predict(cells, model, key_added="student")


def test_what_stood_there_goes(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    sd.tl.decompose(cells, group_key="section", **QUICK)
    sd.pp.abundances(cells, obsm_key="given", key_added="he_abundance")
    assert "he_abundance_std" not in cells.obsm
    assert not {"he_abundance_fitted", "he_abundance_model"} & set(cells.obs)


def test_features_are_named_once_and_in_order(make_places: Callable[..., ad.AnnData]) -> None:
    cells = make_places()
    for use_rep in ([], ["X_he", "X_he"]):
        with pytest.raises(ValueError, match="of one encoder, or of several, each once"):
            sd.tl.decompose(cells, use_rep=use_rep, **QUICK)
    cells.obsm["X_third"] = cells.obsm["X_other"].copy()
    model = sd.tl.decompose(cells, use_rep=["X_other", "X_third"], method="ridge", group_key="section")
    with pytest.raises(ValueError, match="in the order in which the model reads them: X_other, X_third"):
        sd.tl.predict(cells, model, use_rep=["X_third", "X_other"])


def test_numbers_of_patients_are_names(make_places: Callable[..., ad.AnnData]) -> None:
    from stdistill._table.fitting.composition import number_groups

    tables = [make_places(patient=np.repeat([1, 2], 100)), make_places(patient=np.repeat([1.0, 2.0], 100))]
    codes, names = number_groups(tables, "patient")
    assert names == ["1", "2"]
    assert codes.tolist() == np.tile(np.repeat([0, 1], 100), 2).tolist()


def test_slides_in_one_frame_are_warned_of(make_places: Callable[..., ad.AnnData]) -> None:
    with pytest.warns(UserWarning, match=r"They are taken for one: name the slides with library_key="):
        sd.tl.decompose(make_places(), method="ridge", group_key="section")


def test_counts_across_the_split_are_refused(make_cells: Callable[..., ad.AnnData]) -> None:
    cells = make_cells(400, cell_type=pd.Categorical(np.tile(["T", "B"], 200)))
    cells.obsm["X_he"] = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
    sd.pp.neighborhoods(cells, radius_um=100)
    sd.pp.abundances(cells, cell_type_key="cell_type")
    cells.obs["split"] = pd.Categorical(np.where(cells.obsm["spatial"][:, 0] < 700, "train", "test"))
    with pytest.raises(ValueError, match="counts cells without regard to the split"):
        sd.tl.decompose(cells, method="ridge")
    sd.pp.neighborhoods(cells, radius_um=100)
    sd.pp.abundances(cells, cell_type_key="cell_type")
    sd.tl.decompose(cells, method="ridge")


def test_abundances_that_are_not_one_measure(make_places: Callable[..., ad.AnnData]) -> None:
    cells, other = make_places(), make_places(seed=1)
    truth = other.obsm["given"]
    other.obsm["given"] = truth.div(truth.sum(axis=1), axis=0)
    sd.pp.abundances(other, obsm_key="given")
    shares = "holds shares, of which a place has 1 at most, in one table, and other numbers"
    with pytest.raises(ValueError, match=shares):
        sd.tl.decompose([cells, other], method="ridge")
    # Percent, and places where nothing was found, beside shares of which a rare type was left out.
    percent = truth.div(truth.sum(axis=1), axis=0) * 100
    percent.iloc[:5] = 0
    cells.obsm["given"] = percent.set_axis(cells.obs_names)
    other.obsm["given"] = other.obsm["given"].assign(**{TYPES[2]: 0.0})
    for table in (cells, other):
        sd.pp.abundances(table, obsm_key="given")
    with pytest.raises(ValueError, match=shares):
        sd.tl.decompose([cells, other], method="ridge")
    for table, radius_um in ((cells, 150), (other, 300)):
        table.obs["cell_type"] = pd.Categorical(np.arange(table.n_obs) % 3).rename_categories(TYPES)
        sd.pp.abundances(table, cell_type_key="cell_type", radius_um=radius_um)
    with pytest.raises(ValueError, match=r"counts cells within 150\.00 µm in one table, and 300\.00 in another"):
        sd.tl.decompose([cells, other], method="ridge")


def test_abundances_of_other_sources(make_places: Callable[..., ad.AnnData]) -> None:
    """Two summaries of one posterior, or counts beside either, have names in common and nothing else."""
    cells, other = make_places(), make_places(seed=1)
    for table, summaries in ((cells, ("q05",)), (other, ("q05", "q95"))):
        table.obs["cell_type"] = pd.Categorical(np.arange(table.n_obs) % 3).rename_categories(TYPES)
        for summary in summaries:
            frame = table.obsm["given"].add_prefix(f"{summary}cell_abundance_w_sf_")
            table.obsm[f"{summary}_cell_abundance_w_sf"] = frame
    sd.pp.abundances(cells, cell2location_key="q05")
    sd.pp.abundances(other, cell2location_key="q95")
    found = r"holds cell2location's q05_cell\S+ in one table, and cell2location's q95_cell\S+ in another"
    with pytest.raises(ValueError, match=f"{found}.* Run sd.pp.abundances on all tables alike"):
        sd.tl.decompose([cells, other], method="ridge")
    sd.pp.abundances(other, cell_type_key="cell_type", radius_um=150)
    with pytest.raises(ValueError, match=r"cell2location's q05_cell\S+ in one table, and counts of cells in another"):
        sd.tl.cross_validate([cells, other], group_key="section", method="ridge")
    # A summary is the same by either argument; frames of the user's own may have any name.
    sd.pp.abundances(other, obsm_key="q05_cell_abundance_w_sf")
    sd.tl.decompose([cells, other], method="ridge", split_key=None, library_key="section")
    other.obsm["mine"] = other.obsm["given"]
    for table, key in ((cells, "given"), (other, "mine")):
        sd.pp.abundances(table, obsm_key=key)
    sd.tl.decompose([cells, other], method="ridge", split_key=None, library_key="section")
    # What a model said of one slide is no measurement of it.
    sd.pp.abundances(other, obsm_key="mine", key_added="truth")
    sd.tl.decompose(
        other, target_key="truth", key_added="abundance", method="ridge", split_key=None, library_key="section"
    )
    with pytest.raises(ValueError, match=r"values of a frame \S+ in one table, and predictions of sd\.tl\.decompose"):
        sd.tl.decompose([cells, other], method="ridge")
