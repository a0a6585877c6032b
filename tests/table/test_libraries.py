"""Slides of one table, and slides that lie over one another."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata

import stdistill as sd
from stdistill._table.libraries import find_library_key, library_codes, warn_of_overlap


@pytest.fixture
def two(make_cells: Callable[..., ad.AnnData]) -> list[ad.AnnData]:
    return [make_cells(300, extent=500.0, seed=seed) for seed in (0, 1)]


def messages(cells: ad.AnnData) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_overlap(cells, cells.obsm["spatial"], "So what.")
    return [str(each.message) for each in found]


@pytest.mark.parametrize(
    ("options", "by"),
    [
        ({"label": "slide", "index_unique": "-"}, r".obs['slide']"),
        ({"index_unique": "-"}, "the ends of .obs_names"),
        ({"index_unique": "_"}, "the ends of .obs_names"),
        ({}, "cells with repeated .obs_names"),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_slide_over_slide(two: list[ad.AnnData], options: dict, by: str) -> None:
    (message,) = messages(ad.concat({"a": two[0], "b": two[1]}, **options))
    assert "2 slides that lie over one another" in message
    assert by in message
    assert message.endswith("So what.")


def test_a_name_before_those_of_the_cells(two: list[ad.AnnData]) -> None:
    for table, name in zip(two, ("left", "right"), strict=True):
        table.obs_names = [f"{name}_{number}" for number in range(300)]
    (message,) = messages(ad.concat(two)[np.random.default_rng(0).permutation(600)].copy())
    assert "the beginnings of .obs_names" in message


def test_slides_beside_each_other(two: list[ad.AnnData]) -> None:
    two[1].obsm["spatial"][:, 0] += 500
    assert messages(ad.concat({"a": two[0], "b": two[1]}, label="slide", index_unique="-")) == []
    two[1].obsm["spatial"][0] = 1e7  # a stray cell changes nothing
    assert messages(ad.concat({"a": two[0], "b": two[1]}, label="slide", index_unique="-")) == []


def test_one_slide(make_cells: Callable[..., ad.AnnData]) -> None:
    rng = np.random.default_rng(0)
    cells = make_cells(
        600,
        cell_type=pd.Categorical(rng.choice(list("abc"), 600)),
        n_counts=rng.integers(0, 9, 600),
        flag=np.arange(600) < 300,
        score=np.repeat([0.5, 1.5], 300),
        missing=pd.Categorical(["a"] * 300 + [None] * 300),
    )
    assert messages(cells) == []
    cells.obs_names = [f"aaaa{number}-1" for number in range(600)]
    assert messages(cells) == []


def test_cells_on_a_line_or_at_one_place(make_cells: Callable[..., ad.AnnData]) -> None:
    line = np.c_[np.zeros(100), np.arange(100.0)]
    assert messages(make_cells(line, slide=["a"] * 50 + ["b"] * 50)) == []
    (message,) = messages(make_cells(np.zeros((100, 2)), slide=["a"] * 50 + ["b"] * 50))
    assert "100% of the place" in message


def test_it_is_said_where_it_matters(two: list[ad.AnnData]) -> None:
    both = ad.concat({"a": two[0], "b": two[1]}, label="slide", index_unique="-")
    both.obs["x_niche"] = pd.Categorical(["n"] * 600)
    with pytest.warns(UserWarning, match=r"by \.obs\['slide'\].*connected with each other.*library_key="):
        sd.pp.neighborhoods(both, n_neighbors=10)
    with pytest.warns(UserWarning, match=r"drawn over one another: draw a view of one slide at a time"):
        sd.pl.niches(both, show=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.pp.neighborhoods(both, n_neighbors=10, library_key="slide")
        sd.pl.niches(both[both.obs["slide"] == "a"], show=False)


def test_who_decides(make_slide: Callable[..., spatialdata.SpatialData], make_cells: Callable[..., ad.AnnData]) -> None:
    """What is given, else what the neighbourhoods keep apart, else the regions; one region is no slide among others."""
    one = make_slide(40)["table"]
    assert find_library_key(one, None) is None
    assert library_codes(one, None).tolist() == [0] * 40
    both = spatialdata.concatenate({"l": make_slide(40), "r": make_slide(40)}, concatenate_tables=True)["table"]
    assert find_library_key(both, None) == "region"
    assert library_codes(both, "region").tolist() == [0] * 40 + [1] * 40
    both.obs["patient"] = ["p", "q"] * 40
    assert find_library_key(both, "patient") == "patient"
    sd.pp.neighborhoods(both, radius_um=10, library_key="patient")
    assert find_library_key(both, None) == "patient"
    del both.obs["patient"]
    assert find_library_key(both, None) == "region"


def test_everybody_sees_the_regions(make_slide: Callable[..., spatialdata.SpatialData]) -> None:
    """scVI as batches, models and their hold-out blocks as slides, the split as sections: as neighbourhoods do."""
    options = {"width": 16, "depth": 1, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}
    parts = {name: make_slide(300, extent=60.0, seed=seed) for seed, name in enumerate("lr")}
    both = spatialdata.concatenate(parts, concatenate_tables=True)
    cells = both["table"]
    cells.X = np.random.default_rng(0).poisson(2.0, (600, 2)).astype(np.float32)
    cells.obsm["X_he"] = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32)
    del both.images["he-l"], both.images["he-r"]
    sd.pp.embed_expression(both, max_epochs=1)
    sd.pp.split_strips(both, crop_px=4, mpp=1.0)
    sd.pp.neighborhoods(both, radius_um=8.0)
    sd.tl.nolan(both, k=2, **options)
    sd.tl.distill(both, k=2, **options)
    implied = cells.obs.copy(), cells.obsm["X_scVI"].copy()
    del cells.obs["split"]
    for step in ("embed_expression", "split_strips", "neighborhoods", "nolan", "distill"):
        assert cells.uns["stdistill"][step]["library_key"] == "region"
    sd.pp.embed_expression(both, max_epochs=1, library_key="region")
    sd.pp.split_strips(both, crop_px=4, mpp=1.0, library_key="region")
    sd.pp.neighborhoods(both, radius_um=8.0, library_key="region")
    sd.tl.nolan(both, k=2, library_key="region", **options)
    sd.tl.distill(both, k=2, library_key="region", **options)
    pd.testing.assert_frame_equal(cells.obs[implied[0].columns], implied[0])
    np.testing.assert_array_equal(cells.obsm["X_scVI"], implied[1])
