from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC
from spatialdata import SpatialData

import stdistill as sd

LABELS = np.array(["Tumor 1", "Tumor 2", "Tumor 3"], dtype=object)


def tissue(make_cells: Callable, n: int = 3000, seed: int = 0) -> ad.AnnData:
    """Patches of three annotations, and niches that follow them more or less; a tenth is not annotated."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 3000, (n, 2))
    truth = (np.floor(centers[:, 0] / 300) + np.floor(centers[:, 1] / 300)).astype(int) % 3
    annotation = LABELS[truth]
    annotation[rng.random(n) < 0.1] = None
    noisy = np.where(rng.random(n) < 0.3, rng.integers(0, 6, n), truth + 3 * rng.integers(0, 2, n))
    split = np.where(centers[:, 1] < 1000, "test", "train")
    return make_cells(
        centers,
        annotation=pd.Categorical(annotation),
        student_niche=pd.Categorical(noisy.astype(str)),
        teacher_niche=pd.Categorical(truth.astype(str)),
        random_niche=pd.Categorical(rng.integers(0, 6, n).astype(str)),
        split=pd.Categorical(split),
    )


def test_better_niches_score_higher(make_cells: Callable) -> None:
    table = sd.tl.pathology_probe(tissue(make_cells), label_key="annotation", split_key=None).set_index("method")
    assert table.index.tolist() == ["student_niche", "teacher_niche", "random_niche"]
    assert table.loc["teacher_niche", "macro_f1"] == 1
    assert 0.7 < table.loc["student_niche", "macro_f1"] < 0.9
    assert table.loc["random_niche", "macro_f1"] < 0.4
    assert (table["n_left_out"] == 0).all()


def test_the_split_is_as_scikit_learn_fits_all_cells(make_cells: Callable) -> None:
    """Weights of distinct pairs give the same machine as one row for every cell."""
    cells = tissue(make_cells)
    cells.obs.loc[cells.obs_names[:50], "student_niche"] = None
    table = sd.tl.pathology_probe(cells, label_key="annotation", keys="student_niche", protocol="split")
    obs = cells.obs.dropna()
    one_hot = pd.get_dummies(obs["student_niche"]).to_numpy(dtype=float)
    train, test = (obs["split"] == "train").to_numpy(), (obs["split"] == "test").to_numpy()
    machine = LinearSVC(dual=False).fit(one_hot[train], obs["annotation"][train])
    expected = f1_score(obs["annotation"][test], machine.predict(one_hot[test]), average="macro")
    assert table["macro_f1"].item() == pytest.approx(expected)
    assert table["n_cells"].item() == test.sum()
    annotated_test = cells.obs["annotation"].notna() & (cells.obs["split"] == "test")
    assert table["n_left_out"].item() == annotated_test.sum() - test.sum()


def test_blocks_take_the_test_cells(make_cells: Callable) -> None:
    cells = tissue(make_cells)
    table = sd.tl.pathology_probe(cells, label_key="annotation", keys=["student_niche"])
    assert table["n_cells"].item() == (cells.obs["annotation"].notna() & (cells.obs["split"] == "test")).sum()
    alone = cells[cells.obs["split"] == "test"].copy()
    again = sd.tl.pathology_probe(alone, label_key="annotation", keys=["student_niche"], split_key=None)
    pd.testing.assert_frame_equal(again, table)


def test_some_annotations(make_cells: Callable) -> None:
    cells = tissue(make_cells)
    table = sd.tl.pathology_probe(
        cells, label_key="annotation", keys="teacher_niche", labels=["Tumor 1", "Tumor 3"], split_key=None
    )
    assert table["n_cells"].item() == cells.obs["annotation"].isin(["Tumor 1", "Tumor 3"]).sum()


def test_one_annotation_where_several_are_due(make_cells: Callable) -> None:
    with pytest.raises(TypeError, match=r"labels must be a list of names, found 'Tumor 1'\. Give \['Tumor 1'\]"):
        sd.tl.pathology_probe(tissue(make_cells), label_key="annotation", labels="Tumor 1", split_key=None)


def test_logits(make_cells: Callable) -> None:
    """Logits that tell what the niche does not."""
    cells = tissue(make_cells)
    truth = cells.obs["teacher_niche"].cat.codes.to_numpy()
    for niche in range(3):
        cells.obs[f"student_logit_{niche}"] = (truth == niche) * 0.5 + np.where(niche == 0, 5, 0)
    cells.obs["student_niche"] = pd.Categorical(["0"] * cells.n_obs)
    cells.obs.loc[cells.obs_names[:7], "student_logit_1"] = np.nan

    def probe(use_logits: bool) -> pd.DataFrame:
        return sd.tl.pathology_probe(
            cells, label_key="annotation", keys="student_niche", use_logits=use_logits, split_key=None
        )

    assert probe(True)["macro_f1"].item() == 1
    assert probe(True)["n_left_out"].item() == cells.obs["annotation"][:7].notna().sum()
    assert probe(False)["macro_f1"].item() < 0.3
    with pytest.raises(KeyError, match=r"keys='random' is not a prefix of logits in .obs; there is: 'student'"):
        sd.tl.pathology_probe(cells, label_key="annotation", keys="random_niche", use_logits=True)


def test_polygons(make_cells: Callable, tmp_path: Path) -> None:
    cells = tissue(make_cells)
    features = []
    for i in range(10):
        for j in range(10):
            x, y = 300 * i, 300 * j
            ring = [[x, y], [x + 300, y], [x + 300, y + 300], [x, y + 300], [x, y]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            name = {"classification": {"name": LABELS[(i + j) % 3]}}
            features.append({"type": "Feature", "geometry": geometry, "properties": name})
    path = tmp_path / "pathologist.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    table = sd.tl.pathology_probe(cells, polygons=path, polygons_unit="um", keys="teacher_niche", split_key=None)
    assert table["macro_f1"].item() == 1
    assert table["n_cells"].item() == cells.n_obs
    with pytest.raises(ValueError, match=r'is not known.*are read with polygons_unit="um"'):
        sd.tl.pathology_probe(cells, polygons=path)
    with pytest.raises(ValueError, match=r"polygons_unit must be one of \['px', 'um'\], found 'mm'"):
        sd.tl.pathology_probe(cells, polygons=path, polygons_unit="mm")
    cells.obsm["spatial"] = cells.obsm["spatial"] + 1e6
    with pytest.raises(ValueError, match=r"100 polygons of .* cover no cell"):
        sd.tl.pathology_probe(cells, polygons=path, polygons_unit="um")


def test_polygons_as_they_come(bundle: Path, tmp_path: Path) -> None:
    """A pathologist's file in H&E pixels, and the same polygons moved to µm by another package, say the same."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    east = cells.obsm["spatial"][:, 0] // 100
    cells.obs["student_niche"] = pd.Categorical(east.astype(int).astype(str))
    file = bundle / "simulated_pathology.geojson"
    regions = gpd.GeoDataFrame.from_features(json.loads(file.read_text()))
    to_um = np.linalg.inv(cells.uns["stdistill"]["read_xenium"]["um_to_he"])
    moved = regions.set_geometry(regions.affine_transform([*to_um[:2, :2].ravel(), *to_um[:2, 2]]))
    moved["name"] = [classification["name"] for classification in regions["classification"]]
    (tmp_path / "um.geojson").write_text(moved[["name", "geometry"]].to_json())

    def probe(data: ad.AnnData | SpatialData, **polygons: object) -> pd.DataFrame:
        return sd.tl.pathology_probe(data, **polygons, block_um=100, gap_um=10, labels=["Tumor", "Stroma"])

    expected = probe(cells, polygons=tmp_path / "um.geojson", polygons_unit="um")
    assert expected["n_cells"].item() > 50
    pd.testing.assert_frame_equal(probe(slide, polygons=file), expected)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(probe(ad.read_h5ad(tmp_path / "cells.h5ad"), polygons=file), expected)


def test_names_do_not_matter(make_cells: Callable) -> None:
    cells = tissue(make_cells)
    cells.obs["b_niche"] = cells.obs["student_niche"].cat.rename_categories(lambda name: f"niche {9 - int(name)}")
    cells.obs["b_niche"] = cells.obs["b_niche"].cat.reorder_categories(sorted(cells.obs["b_niche"].cat.categories))
    scores = sd.tl.pathology_probe(cells, label_key="annotation", keys=["student_niche", "b_niche"], split_key=None)
    assert scores["macro_f1"].nunique() == 1


def test_many_cells_are_fast(make_cells: Callable) -> None:
    cells = tissue(make_cells, n=230_000)
    start = time.process_time()  # of computing: what else runs on the machine does not count
    sd.tl.pathology_probe(cells, label_key="annotation", split_key=None)
    assert time.process_time() - start < 15


def test_bad_input(make_cells: Callable) -> None:
    cells = tissue(make_cells)

    def probe(**changed: object) -> None:
        sd.tl.pathology_probe(cells, **{"label_key": "annotation", "keys": "student_niche", **changed})

    with pytest.raises(ValueError, match=r"either as label_key=, a column of .obs, or as polygons="):
        probe(label_key=None)
    with pytest.raises(ValueError, match=r"either as label_key="):
        probe(polygons="x.geojson")
    with pytest.raises(KeyError, match=r"label_key='pathology' is not a column of .obs; there is: 'annotation'"):
        probe(label_key="pathology")
    with pytest.raises(KeyError, match="labels='Stroma' is not an annotation; there is: 'Tumor 1', 'Tumor 2'"):
        probe(labels=["Tumor 1", "Stroma"])
    with pytest.raises(ValueError, match="The annotation has the one label 'Tumor 1'"):
        probe(labels=["Tumor 1"])
    with pytest.raises(ValueError, match=r"protocol must be one of \['blocks', 'split'\], found 'random'"):
        probe(protocol="random")
    with pytest.raises(ValueError, match="gap_um must be at most block_um, 100, found 200"):
        probe(block_um=100, gap_um=200)
    with pytest.raises(ValueError, match="n_folds must be at least 2, found 1"):
        probe(n_folds=1)
    with pytest.raises(ValueError, match=r"The annotated cells \(test\) lie in 1 blocks, fewer than 5 folds"):
        probe(block_um=5000)
    with pytest.raises(ValueError, match='protocol="split" needs a split'):
        probe(protocol="split", split_key=None)
    cells.obs["text"] = "a"
    with pytest.raises(TypeError, match=r"'text'.*expected a categorical column"):
        probe(label_key="text")


def test_annotations_that_cannot_be_fitted_and_scored(make_cells: Callable) -> None:
    cells = tissue(make_cells)
    annotation = cells.obs["annotation"].astype(object)
    annotation[(cells.obsm["spatial"] < 200).all(axis=1)] = "Necrosis"
    cells.obs["annotation"] = pd.Categorical(annotation)
    with pytest.raises(ValueError, match="annotated 'Necrosis' lie in one block of 500 µm"):
        sd.tl.pathology_probe(cells, label_key="annotation", keys="student_niche")
    with pytest.raises(ValueError, match="No train cell is annotated 'Necrosis'"):
        sd.tl.pathology_probe(cells, label_key="annotation", keys="student_niche", protocol="split")
    cells.obs.loc[cells.obs["split"] == "test", "annotation"] = None
    with pytest.raises(ValueError, match="No cell that could be scored is annotated"):
        sd.tl.pathology_probe(cells, label_key="annotation", keys="student_niche")
    cells.obs["lost_niche"] = cells.obs["student_niche"].where(cells.obs["annotation"].isna())
    with pytest.raises(ValueError, match=r"has only cells annotated \[\] and with a niche in .obs\['lost_niche'\]"):
        sd.tl.pathology_probe(cells, label_key="annotation", keys="lost_niche", split_key=None)
