from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from stdistill._table.records import find_record, read_record, records_of, write_record
from stdistill._table.schema import FEATURE_STEPS, NICHE_STEPS


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_records_survive_writing(make_cells: Callable, tmp_path: Path, suffix: str) -> None:
    cells = make_cells(3)
    write_record(cells, "a_step", radius_um=60.5, matrix=np.eye(3), name="µm", left_out=None)
    write_record(cells, "another", n=1)
    path = tmp_path / f"cells.{suffix}"
    cells.write_h5ad(path) if suffix == "h5ad" else cells.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    record = read_record(again, "a_step")
    assert record["radius_um"] == 60.5
    assert record["name"] == "µm"
    assert "left_out" not in record
    assert "stdistill_version" in record
    np.testing.assert_array_equal(record["matrix"], np.eye(3))
    assert read_record(again, "another")["n"] == 1


def test_no_record(make_cells: Callable) -> None:
    assert read_record(make_cells(3), "a_step") == {}


def test_a_view_gets_a_record_of_its_own(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "a_step", n=1)
    part = cells[:2].copy()
    write_record(part, "a_step", n=2)
    assert read_record(cells, "a_step")["n"] == 1


def test_results_under_another_key_have_a_record_of_their_own(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "nolan", key_added="teacher", k=20)
    write_record(cells, "nolan", key_added="he_nolan", k=10)
    assert list(cells.uns["stdistill"]) == ["nolan", "nolan_he_nolan"]
    assert read_record(cells, "nolan")["k"] == read_record(cells, "nolan", "teacher")["k"] == 20
    assert read_record(cells, "nolan", "he_nolan")["k"] == 10
    assert read_record(cells, "nolan", "another") == {}


def test_a_step_without_a_default_key_has_a_record_for_each(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "match_niches", key_added="student_niche", share_matched=0.5)
    assert list(cells.uns["stdistill"]) == ["match_niches_student_niche"]
    assert read_record(cells, "match_niches", "student_niche")["share_matched"] == 0.5
    assert read_record(cells, "match_niches") == {}


def test_a_key_of_any_name_survives_writing(make_cells: Callable, tmp_path: Path) -> None:
    cells = make_cells(3)
    write_record(cells, "match_niches", key_added="T cell/B niche", share_matched=0.5)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    again = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert list(again.uns["stdistill"]) == ["match_niches_T-cell-B-niche"]
    assert read_record(again, "match_niches", "T cell/B niche")["key_added"] == "T cell/B niche"


def test_each_split_has_a_record(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "split_strips", key_added="split", n_strips=4)
    write_record(cells, "split_strips", key_added="strips", n_strips=2)
    assert list(cells.uns["stdistill"]) == ["split_strips", "split_strips_strips"]
    assert [record["n_strips"] for _, record in records_of(cells, ["split_strips"])] == [4, 2]


def test_an_earlier_version_had_one_record_of_the_split_whatever_its_name(make_cells: Callable) -> None:
    cells = make_cells(3)
    cells.uns["stdistill"] = {"split_strips": {"key_added": "strips", "n_strips": 4}}
    assert [record["key_added"] for _, record in records_of(cells, ["split_strips"])] == ["strips"]


def test_a_record_goes_with_the_result_that_it_describes(make_cells: Callable) -> None:
    """Under one key stands what the last of the steps wrote there; of other keys and kinds nothing is lost."""
    cells = make_cells(3)
    write_record(cells, "distill", key_added="student", model_sha256="aa")
    write_record(cells, "distill", key_added="other")
    write_record(cells, "embed_expression", key_added="X")
    write_record(cells, "leiden", key_added="student")
    assert find_record(cells, NICHE_STEPS, "student")[0] == "leiden"
    assert "distill" not in cells.uns["stdistill"]
    write_record(cells, "embed_he", key_added="X")
    assert find_record(cells, FEATURE_STEPS, "X")[0] == "embed_he"
    assert sorted(cells.uns["stdistill"]) == ["distill_other", "embed_he_X", "leiden_student"]


def test_a_model_applied_to_its_own_cells_leaves_the_record_of_its_training(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "distill", key_added="student", model_sha256="aa")
    write_record(cells, "predict", key_added="student", model_sha256="aa")
    assert find_record(cells, NICHE_STEPS, "student")[0] == "distill"
    write_record(cells, "predict", key_added="student", model_sha256="bb")
    assert find_record(cells, NICHE_STEPS, "student") == ("predict", read_record(cells, "predict"))
