from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from stdistill._table.records import read_record, write_record


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


def test_the_name_of_the_split_is_found_in_its_only_record(make_cells: Callable) -> None:
    cells = make_cells(3)
    write_record(cells, "split_strips", key_added="strips")
    assert read_record(cells, "split_strips")["key_added"] == "strips"
