from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd
from stdistill._table.records import write_record
from stdistill.tl import _evaluate

EPOCHS = {"teacher_epochs": 1, "student_epochs": 1}
METHODS = {
    "Histology-NOLAN": "he_nolan",
    "Histology-Leiden": "he_leiden",
    "Histology-k-means": "he_kmeans",
    "Logistic regression": "logistic",
    "Student without neighbours": "alone",
    "Student": "student",
}
FITS = ("nolan", "distill", "leiden", "kmeans_niches", "logistic_niches")


def make_table() -> ad.AnnData:
    """Three bands of tissue, which expression and H&E tell apart."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(0, 2400, (400, 2))
    band = (centers[:, 0] // 800).astype(int)
    cells = ad.AnnData(rng.poisson(3, (400, 5)).astype("float32"), obsm={"spatial": centers})
    cells.obsm["X_scVI"] = (np.eye(3)[band] + rng.normal(0, 0.3, (400, 3))).astype("float32")
    cells.obsm["X_he"] = (np.eye(3)[band] + rng.normal(0, 0.5, (400, 3))).astype("float16")
    cells.obs["cell_type"] = pd.Categorical(np.array(list("TBE"))[(band + rng.integers(0, 2, 400)) % 3])
    cells.obs["annotation"] = pd.Categorical(np.where(centers[:, 0] < 1200, "Tumor 1", "Tumor 2"))
    sd.pp.split_strips(cells, mpp=0.1)
    sd.pp.neighborhoods(cells, n_neighbors=8)
    return cells


@pytest.fixture
def cells() -> ad.AnnData:
    return make_table()


class Evaluated(NamedTuple):
    cells: ad.AnnData
    out: Path
    result: Any


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A whole run, shared by the tests that only look at it."""
    cells, out = make_table(), tmp_path_factory.mktemp("evaluated") / "out"
    result = sd.tl.evaluate(cells, ks=[2, 3], cell_type_key="cell_type", label_key="annotation", out=out, **EPOCHS)
    return Evaluated(cells, out, result)


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        pytest.fail("was computed again")

    for name in names:
        monkeypatch.setattr(_evaluate, name, fail)


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_evaluate, name, stop)


def test_tables_are_those_of_the_single_functions(evaluated: Evaluated) -> None:
    cells, _, result = evaluated
    methods = METHODS
    rows = [[name, k] for k in (2, 3) for name in methods]
    assert result.agreement[["method", "k"]].values.tolist() == rows
    assert result.composition_jsd[["method", "k"]].values.tolist() == rows
    for k in (2, 3):
        keys = [f"{prefix}_k{k}_niche" for prefix in methods.values()]
        reference = f"teacher_k{k}_niche"
        ours = {
            name: table[table["k"] == k].reset_index(drop=True).drop(columns=["method", "k"])
            for name, table in result.tables.items()
        }
        agreement = sd.tl.agreement(cells, reference_key=reference, keys=keys)
        agreement = agreement[agreement["split"] == "test"].reset_index(drop=True).drop(columns=["method", "split"])
        n_niches = ours["agreement"].pop("n_niches")
        gain = ours["agreement"].pop("gain")
        pd.testing.assert_frame_equal(ours["agreement"], agreement)
        assert n_niches.tolist() == [cells[cells.obs["split"] == "test"].obs[key].nunique() for key in keys]
        best = agreement["ari"][:3].max()  # of those without a teacher
        np.testing.assert_allclose(gain, (agreement["ari"] - best) / (1 - best))
        assert gain[:3].max() == 0
        assert n_niches[1] == cells.uns["stdistill"][f"leiden_he_leiden_k{k}"]["n_clusters_test"]
        jsd = sd.tl.composition_jsd(cells, cell_type_key="cell_type", reference_key=reference, keys=keys)
        pd.testing.assert_frame_equal(ours["composition_jsd"], jsd.summary.drop(columns="method"))
        probe = sd.tl.pathology_probe(cells, label_key="annotation", keys=[*keys, reference])
        pd.testing.assert_frame_equal(ours["pathology_probe"], probe.drop(columns="method"))
    assert result.pathology_probe["method"].tolist() == [*methods, "Teacher"] * 2


def test_the_models_are_those_of_the_single_functions(evaluated: Evaluated) -> None:
    by_hand = make_table()
    sd.tl.nolan(by_hand, k=3, max_epochs=1)
    sd.tl.distill(by_hand, k=3, max_epochs=1)
    sd.tl.distill(by_hand, k=3, key_added="alone", max_tokens=1, max_epochs=1)
    sd.tl.logistic_niches(by_hand)
    sd.tl.kmeans_niches(by_hand, k=3, use_rep="X_he", key_added="he_kmeans")
    for prefix in ("teacher", "student", "alone", "logistic", "he_kmeans"):
        assert sd.get.logits(by_hand, prefix).equals(sd.get.logits(evaluated.cells, f"{prefix}_k3"))


def test_the_gain_of_the_paper() -> None:
    """Hizmi et al. 2026, Table 1, K = 10 and K = 20: Histology-NOLAN, Histology-Leiden, student."""
    without_teacher = pd.Series([True, True, False])
    for ari, of_student in (([0.283, 0.191, 0.615], 0.46), ([0.234, 0.176, 0.5], 0.35)):
        gain = _evaluate._gain(pd.Series(ari), without_teacher)
        assert gain[2] == pytest.approx(of_student, abs=0.005)
        assert gain[0] == 0
        assert gain[1] < 0
    assert _evaluate._gain(pd.Series([1.0, 0.5, 1.0]), without_teacher).isna().all()


def test_the_same_tissue_has_the_same_color(evaluated: Evaluated) -> None:
    cells = evaluated.cells.copy()
    teacher = cells.uns["teacher_k3_niche_colors"].tolist()
    for taught in ("student", "alone", "logistic"):
        assert cells.uns[f"{taught}_k3_niche_colors"].tolist() == teacher
    for baseline in ("he_nolan_k3_niche", "he_leiden_k3_niche", "he_kmeans_k3_niche"):
        before = cells.uns[f"{baseline}_colors"].tolist()
        sd.tl.match_niches(cells, reference_key="teacher_k3_niche", key=baseline)
        assert cells.uns[f"{baseline}_colors"].tolist() == before


def test_folder(evaluated: Evaluated) -> None:
    cells, out, result = evaluated
    models = {f"{prefix}_k{k}" for prefix in ("teacher", "student", "alone", "he_nolan") for k in (2, 3)}
    tables = {"agreement.csv", "composition_jsd.csv", "pathology_probe.csv"}
    assert {path.name for path in out.iterdir()} == models | tables | {"manifest.json", "steps", ".lock"}
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(pd.read_csv(out / f"{name}.csv"), table)
    assert sd.models.NicheModel.load(out / "student_k3").card.k == 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["parameters"] == {"expression_epochs": None, **EPOCHS, "seed": 0}
    assert manifest["asked"]["ks"] == [2, 3]
    assert manifest["input"]["n_cells"] == 400
    assert [step["step"] for step in manifest["steps"]] == result.steps["step"].tolist()
    with pytest.raises(ValueError, match=r"other parameters \(seed: 0, now 1\)"):
        sd.tl.evaluate(cells, ks=[3], out=out, seed=1, **EPOCHS)
    other = cells.copy()
    other.obsm["X_he"][0, 0] += 1
    with pytest.raises(ValueError, match=r"another slide or with other features \(X_he: "):
        sd.tl.evaluate(other, ks=[3], out=out, **EPOCHS)


def test_as_text(evaluated: Evaluated) -> None:
    blocks = [block.splitlines() for block in str(evaluated.result).split("\n\n")]
    assert [block[0] for block in blocks] == [
        "Agreement with the teacher",
        "Cell types of the niches, divergence from the teacher",
        "Annotations predicted from niches",
    ]
    assert blocks[0][1].split() == ["K", "=", "2", "K", "=", "3"]
    assert blocks[0][2].split() == ["ARI", "gain", "NMI"] * 2
    for block in blocks:
        assert [line[:27].strip() for line in block[3:9]] == list(METHODS)
    agreement = evaluated.result.agreement
    student = agreement[agreement["method"] == "Student"][["ari", "gain", "nmi"]].to_numpy().ravel()
    assert blocks[0][8].split()[1:] == [f"{value:.3f}" for value in student]


def test_goes_on_after_a_kill(evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, "leiden")
        with pytest.raises(KeyboardInterrupt):
            sd.tl.evaluate(make_table(), ks=[3], out=out, **EPOCHS)
    cells = make_table()
    with monkeypatch.context() as patch:
        forbid(patch, "nolan", "distill")
        result = sd.tl.evaluate(cells, ks=[3], out=out, **EPOCHS)
    assert result.composition_jsd is None
    assert result.pathology_probe is None
    undisturbed = evaluated.result.agreement[evaluated.result.agreement["k"] == 3]
    pd.testing.assert_frame_equal(result.agreement, undisturbed.reset_index(drop=True))
    pd.testing.assert_frame_equal(cells.obs, evaluated.cells.obs[cells.obs.columns])
    assert "student_k3_ood" in cells.obs
    assert "alone_k3_ood" in cells.obs
    assert (len(cells.obs.columns), len(cells.uns)) == (len(make_table().obs.columns) + 6 * 8 + 2 + 4, 2 + 7)
    for key in ("teacher_k3", *(f"{prefix}_k3" for prefix in METHODS.values())):
        colors = evaluated.cells.uns[f"{key}_niche_colors"].tolist()
        assert cells.uns[f"{key}_niche_colors"].tolist() == colors
    with monkeypatch.context() as patch:  # all is there, and more may be asked of it: also with the table at hand
        forbid(patch, *FITS)
        again = sd.tl.evaluate(cells, ks=[3], cell_type_key="cell_type", out=out, **EPOCHS)
        assert again.composition_jsd is not None
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            sd.tl.evaluate(cells, ks=[3, 4], out=out, **EPOCHS)
    pd.testing.assert_frame_equal(again.agreement, result.agreement)


def test_what_is_missing_is_made(cells: ad.AnnData) -> None:
    del cells.obsm["X_scVI"], cells.uns["spatial_neighbors"]
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, "nolan")
        with pytest.raises(KeyboardInterrupt):
            sd.tl.evaluate(cells, ks=[3], expression_epochs=1)
    assert cells.obsm["X_scVI"].shape == (400, 10)
    assert cells.uns["stdistill"]["embed_expression"]["max_epochs"] == 1
    assert cells.uns["stdistill"]["neighborhoods"]["n_neighbors"] == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ks": []}, "ks is empty"),
        ({"ks": [1]}, "ks must be at least 2"),
        ({"ks": [2.5]}, "ks must be an integer"),
        ({"ks": 20}, r"ks must be several integers, found 20 \(int\)"),
        ({"ks": "20"}, r"ks must be several integers, found '20' \(str\)"),
        ({"teacher_epochs": 0}, "teacher_epochs must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"cell_type_key": "type"}, "cell_type_key='type' is not a column"),
        ({"label_key": "tumour"}, "label_key='tumour' is not a column"),
        ({"label_key": "annotation", "polygons": "a.geojson"}, "either as label_key="),
        ({"polygons": "a.geojson"}, r'where the cells lie there is not known.*polygons_unit="um"'),
        ({"polygons": "a.geojson", "polygons_unit": "um"}, "no file of polygons"),
        ({"polygons": "a.geojson", "polygons_unit": "mm"}, "polygons_unit must be one of"),
    ],
)
def test_bad_input(
    cells: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict, message: str
) -> None:
    """All of it is found before anything is fitted, and leaves nothing behind."""
    forbid(monkeypatch, *FITS)
    columns = cells.obs.columns.tolist()
    with pytest.raises((ValueError, TypeError, KeyError, FileNotFoundError), match=message):
        sd.tl.evaluate(cells, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    assert cells.obs.columns.tolist() == columns


def test_what_is_unknown_of_all_test_cells(cells: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of the training cells alone are no use for measures on the test cells, and that is known beforehand."""
    forbid(monkeypatch, "nolan")
    tested = cells.obs["split"] == "test"
    cells.obs["one_type"] = cells.obs["cell_type"].where(~tested, "T")
    cells.obs["cell_type"] = cells.obs["cell_type"].where(~tested)
    cells.obs["annotation"] = cells.obs["annotation"].where(~tested)
    with pytest.raises(ValueError, match=r"None of the \d+ cells \(test\) has a cell type in \.obs\['cell_type'\]"):
        sd.tl.evaluate(cells, ks=[3], cell_type_key="cell_type")
    with pytest.raises(ValueError, match=r"\.obs\['one_type'\] \(cell_type_key\) has the one label 'T'"):
        sd.tl.evaluate(cells, ks=[3], cell_type_key="one_type")
    with pytest.raises(ValueError, match="No cell that could be scored is annotated"):
        sd.tl.evaluate(cells, ks=[3], label_key="annotation")
    cells.obs["split"] = cells.obs["split"].where(~tested, "buffer")
    with pytest.raises(ValueError, match="No cell is 'test' in the split"):
        sd.tl.evaluate(cells, ks=[3])


def test_a_split_of_strings_and_polygons_in_pixels(
    evaluated: Evaluated, cells: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user may have them, they give what a categorical split and a column of annotations give."""
    features = []
    for name, left in (("Tumor 1", 0), ("Tumor 2", 2400)):  # on an H&E of 0.5 µm per pixel, turned by a quarter
        ring = [[0, left], [4800, left], [4800, left + 2400], [0, left + 2400], [0, left]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"name": name}})
    path = tmp_path / "qupath.geojson"
    path.write_text(json.dumps(features))
    um_to_he = np.array([[0, -2, 4800], [2, 0, 0], [0, 0, 1.0]])
    write_record(cells, "read_xenium", um_to_he=um_to_he, he_shape=np.array([4800, 4800]), image_key="he")
    cells.obs["split"] = cells.obs["split"].astype(object)

    def fitted_before(run: object, cells: ad.AnnData, k: int, *_: object) -> None:
        for method in ("teacher", *METHODS.values()):
            cells.obs[f"{method}_k{k}_niche"] = evaluated.cells.obs[f"{method}_k{k}_niche"]

    monkeypatch.setattr(_evaluate, "_fit_methods", fitted_before)
    found = sd.tl.evaluate(cells, ks=[3], cell_type_key="cell_type", polygons=path, **EPOCHS)
    for name, table in found.tables.items():
        of_3 = evaluated.result.tables[name].query("k == 3").reset_index(drop=True)
        pd.testing.assert_frame_equal(table, of_3)


def test_without_features_or_split(cells: ad.AnnData) -> None:
    without = cells.copy()
    del without.obs["split"]
    with pytest.raises(ValueError, match=r"none can be made.*Make one with sd\.pp\.split_strips"):
        sd.tl.evaluate(without)
    del cells.obsm["X_he"]
    with pytest.raises(KeyError, match=r"sd\.pp\.embed_he"):
        sd.tl.evaluate(cells)
