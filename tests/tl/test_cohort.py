from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

NICHES = ["tumour", "stroma", "fat"]
COLORS = ["#3f90da", "#ffa90e", "#bd1f01"]
RADIUS_UM = 40.0
Cells = Callable[..., ad.AnnData]


def make_cells(codes: np.ndarray, centers: np.ndarray, *, model: str = "0" * 64, verdict: str = "usable") -> ad.AnnData:
    """A table of niches as the command writes it: without counts, features and graph."""
    n = len(codes)
    cells = ad.AnnData(obs=pd.DataFrame(index=[f"cell {number}" for number in range(n)]), obsm={"spatial": centers})
    for number in range(3):
        cells.obs[f"student_logit_{number}"] = np.float32(0)
    cells.obs["student_niche"] = pd.Categorical.from_codes(codes, NICHES)
    cells.obs["student_confidence"] = np.where(codes < 0, np.nan, np.linspace(0.4, 0.9, n)).astype(np.float32)
    cells.obs["student_trusted"] = codes >= 0
    cells.uns["student_niche_colors"] = np.array(COLORS, dtype=object)
    cells.uns["stdistill"] = {
        "predict": {"model_sha256": model, "radius_um": RADIUS_UM, "key_added": "student"},
        "verdict": {"verdict": verdict, "unlike_share": 0.125, "trusted_share": 0.75, "reasons": ["few"]},
    }
    return cells


def drawn(n: int, seed: int, **changed: str) -> ad.AnnData:
    """Cells at random, some without a niche."""
    rng = np.random.default_rng(seed)
    return make_cells(rng.integers(-1, 3, n), rng.uniform(0, 400, (n, 2)), **changed)


def write_cohort(folder: Path, slides: pd.DataFrame, cells: dict[str, ad.AnnData], failed: dict[str, str]) -> Path:
    """A folder as the command writes it."""
    (folder / "status").mkdir(parents=True)
    (folder / "cohort.json").write_text("{}")
    slides.to_csv(folder / "slides.csv", index=False)
    for slide_id, table in cells.items():
        (folder / "slides" / slide_id).mkdir(parents=True)
        table.write_h5ad(folder / "slides" / slide_id / "niches.h5ad")
        status = {"status": "done", "n_cells": table.n_obs, "verdict": "usable", "seconds": {"nuclei": 1.5}}
        (folder / "status" / f"{slide_id}.json").write_text(json.dumps(status))
    for slide_id, reason in failed.items():
        status = {"status": "failed", "reason": reason, "error": "ValueError"}
        (folder / "status" / f"{slide_id}.json").write_text(json.dumps(status))
    return folder


SLIDES = pd.DataFrame(
    {
        "slide_id": ["a", "b", "c", "d"],
        "slide": ["/slides/a.svs", "/slides/b.svs", "/slides/c.svs", "/slides/d.svs"],
        "group": ["1", "2", "2", "1"],
        "months": [12.5, 30.0, 4.0, 9.0],
        "died": [True, False, True, True],
        "verdict": ["mine", "mine", "mine", "mine"],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = {"a": drawn(300, 0), "b": drawn(500, 1, verdict="partly")}
    return write_cohort(tmp_path / "cohort", SLIDES, cells, {"c": "c.svs is truncated"})


def test_a_row_for_each_slide_that_is_done(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"Of 4 slides 1 failed \(c\) and 1 are not done yet \(d\)"):
        found = sd.tl.cohort(folder)
    assert found.obs_names.tolist() == ["a", "b"]
    assert found.var_names.tolist() == NICHES
    cells = {name: drawn(n, seed) for seed, (name, n) in enumerate({"a": 300, "b": 500}.items())}
    counts = np.array([each.obs["student_niche"].value_counts(sort=False) for each in cells.values()])
    np.testing.assert_array_equal(found.layers["counts"], counts)
    assert found.X.dtype == found.layers["area"].dtype == np.float32
    np.testing.assert_allclose(found.X, counts / counts.sum(axis=1, keepdims=True), rtol=1e-6)
    assert found.obs["n_cells"].tolist() == [300, 500]
    assert found.obs["n_niches"].tolist() == counts.sum(axis=1).tolist()
    confidences = [each.obs["student_confidence"].mean() for each in cells.values()]
    np.testing.assert_allclose(found.obs["mean_confidence"], confidences, rtol=1e-6)
    assert found.obs["unlike_share"].tolist() == [0.125, 0.125]
    assert found.obs["trusted_share"].tolist() == [0.75, 0.75]
    assert found.obs["verdict"].tolist() == ["usable", "partly"]


def test_columns_of_the_csv_are_kept(folder: Path) -> None:
    with pytest.warns(UserWarning, match="no rows"):
        obs = sd.tl.cohort(folder).obs
    assert obs["group"].tolist() == ["1", "2"]
    assert obs["months"].tolist() == [12.5, 30.0]
    assert obs["died"].tolist() == [True, False]
    assert obs["verdict_given"].tolist() == ["mine", "mine"]
    assert obs["slide"].tolist() == ["/slides/a.svs", "/slides/b.svs"]


def test_record_and_colors(folder: Path) -> None:
    with pytest.warns(UserWarning, match="no rows"):
        found = sd.tl.cohort(folder)
    record = found.uns["stdistill"]["cohort"]
    assert (record["failed"], record["reasons"], record["waiting"]) == (["c"], ["c.svs is truncated"], ["d"])
    assert record["radius_um"] == RADIUS_UM
    assert found.uns["niche_colors"].tolist() == COLORS
    assert found.var["niche"].cat.categories.tolist() == NICHES


def test_written_and_read(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no rows"):
        found = sd.tl.cohort(folder)
    found.write_h5ad(tmp_path / "table.h5ad")
    read = ad.read_h5ad(tmp_path / "table.h5ad")
    np.testing.assert_array_equal(read.layers["area"], found.layers["area"])
    np.testing.assert_array_equal(read.obsm["adjacency"], found.obsm["adjacency"])
    assert list(read.uns["stdistill"]["cohort"]["failed"]) == ["c"]


def test_neighbours_by_hand(tmp_path: Path) -> None:
    """Three cells in a row, 30 µm apart, and a pair far away; one of the row has no niche on the second slide."""
    centers = np.array([[0.0, 0.0], [30.0, 0.0], [60.0, 0.0], [1000.0, 0.0], [1010.0, 0.0]])
    cells = {
        "a": make_cells(np.array([0, 1, 1, 2, 2]), centers),
        "b": make_cells(np.array([0, -1, 1, 2, 0]), centers),
    }
    found = sd.tl.cohort(write_cohort(tmp_path / "cohort", SLIDES[:2], cells, {}))
    first, second = found.obsm["adjacency"].reshape(-1, 3, 3)
    np.testing.assert_array_equal(first, [[0, 1, 0], [1, 2, 0], [0, 0, 2]])
    np.testing.assert_array_equal(second, [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


def test_loose_cells_have_more_of_the_area(tmp_path: Path) -> None:
    """Tumour 8 µm apart on the left half, fat 40 µm apart on the right: halves of the area, not of the cells."""
    dense = np.stack(np.meshgrid(np.arange(0, 800, 8.0), np.arange(0, 1600, 8.0)), axis=-1).reshape(-1, 2)
    loose = np.stack(np.meshgrid(np.arange(820, 1620, 40.0), np.arange(0, 1600, 40.0)), axis=-1).reshape(-1, 2)
    codes = np.repeat([0, 2], [len(dense), len(loose)])
    cells = {"a": make_cells(codes, np.concatenate([dense, loose]))}
    found = sd.tl.cohort(write_cohort(tmp_path / "cohort", SLIDES[:1], cells, {}))
    assert found.X[0, 0] > 0.95
    np.testing.assert_allclose(found.layers["area"][0], [0.5, 0, 0.5], atol=0.02)
    assert found.obs["area_mm2"].iloc[0] == pytest.approx(1.6**2, rel=0.05)


def test_a_slide_without_any_niche(tmp_path: Path) -> None:
    nothing = drawn(50, 2, verdict="not")
    nothing.obs["student_niche"] = nothing.obs["student_niche"].mask(nothing.obs["student_niche"].notna())
    cells = {"a": drawn(50, 1), "b": nothing}
    found = sd.tl.cohort(write_cohort(tmp_path / "cohort", SLIDES[:2], cells, {}))
    assert np.isnan(found.X[1]).all()
    assert found.layers["counts"][1].sum() == found.obsm["adjacency"][1].sum() == 0
    assert found.obs["verdict"].tolist() == ["usable", "not"]


def test_what_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of a cohort"):
        sd.tl.cohort(tmp_path)
    none = write_cohort(tmp_path / "none", SLIDES, {}, {"c": "?"})
    with pytest.raises(ValueError, match="1 failed, 3 are waiting"):
        sd.tl.cohort(none)
    cells = {"a": drawn(50, 0), "b": drawn(50, 1, model="f" * 64)}
    two = write_cohort(tmp_path / "two", SLIDES[:2], cells, {})
    with pytest.raises(ValueError, match=r"a and b are of two students \(0{12}.*f{12}"):
        sd.tl.cohort(two)
    (folder / "slides" / "b" / "niches.h5ad").write_bytes(b"no table")
    with pytest.warns(UserWarning, match=r"b/niches\.h5ad is no table.*they are no rows"):
        assert sd.tl.cohort(folder).obs_names.tolist() == ["a"]


def test_one_file_under_several_names(tmp_path: Path) -> None:
    """A copy and a link of a slide count as slides, and a row of the same tissue is no witness."""
    cells = {"a": drawn(300, 0), "a_copy": drawn(300, 0), "b": drawn(300, 1), "c": drawn(300, 2)}
    for (name, table), digest in zip(cells.items(), ("1", "1", "2", None), strict=True):
        table.uns["stdistill"]["slide"] = {"source": "svs", "path": f"/slides/{name}.svs"}
        if digest is not None:
            table.uns["stdistill"]["slide"]["digest"] = digest
    slides = pd.DataFrame({"slide_id": list(cells), "slide": [f"/slides/{name}.svs" for name in cells]})
    folder = write_cohort(tmp_path / "cohort", slides, cells, {})
    with pytest.warns(UserWarning, match=r"2 slides are of 1 files.* \(a = a_copy\).*isin\(\['a_copy'\]\)"):
        found = sd.tl.cohort(folder)
    assert found.obs["student_model"].tolist() == ["0" * 16] * 4


def test_results_that_were_put_there_by_hand(tmp_path: Path) -> None:
    """Another cohort's slides, copied into the folder, are of no row of its table."""
    slides = pd.DataFrame({"slide_id": ["a"], "slide": ["/a.svs"]})
    folder = write_cohort(tmp_path / "cohort", slides, {"a": drawn(60, 0), "b": drawn(60, 1)}, {})
    with pytest.warns(
        UserWarning, match=r"1 folders in .* are of no slide in slides\.csv, and are left out: b\. To add"
    ):
        assert sd.tl.cohort(folder).obs_names.tolist() == ["a"]


def test_results_that_are_cut_off_are_left_out(folder: Path) -> None:
    """As on a full disk: the other slides are read, and the reason is with those of slides that failed."""
    table = folder / "slides" / "a" / "niches.h5ad"
    table.write_bytes(table.read_bytes()[:5000])
    with pytest.warns(
        UserWarning, match=r"results of 1 slides cannot be read \(a\).* run `stdistill predict` again"
    ) as said:
        found = sd.tl.cohort(folder)
    (warning,) = [str(each.message) for each in said if "cannot be read" in str(each.message)]
    assert f"Delete {folder / 'slides' / 'a'}, and" in warning
    assert "copy it again" not in warning
    assert found.obs_names.tolist() == ["b"]
    assert found.obs["n_cells"].tolist() == [500]
    assert found.obs["group"].tolist() == ["2"]
    record = found.uns["stdistill"]["cohort"]
    assert record["failed"] == ["c", "a"]
    assert record["reasons"][0] == "c.svs is truncated"
    assert "niches.h5ad is no table of niches" in record["reasons"][1]
    (folder / "slides" / "b" / "niches.h5ad").unlink()
    with (
        pytest.warns(UserWarning, match="no rows"),
        pytest.raises(ValueError, match=r"2 slides cannot be read \(a, b\)"),
    ):
        sd.tl.cohort(folder)
