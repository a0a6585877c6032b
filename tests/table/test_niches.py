from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from stdistill._table.niches import PALETTE, colors_of, default_colors, niche_names, read_logits, write_niches

LOGITS = np.array([[2.0, 0.0], [0.0, np.log(3)], [np.nan, 1.0], [1.0, 1.0]])


@pytest.fixture
def cells(make_cells: Callable) -> ad.AnnData:
    cells = make_cells(4)
    write_niches(cells, "student", LOGITS, niches=["tumour", "stroma"], colors=["#ff0000", "#0000ff"])
    return cells


def test_labels_and_confidence(cells: ad.AnnData) -> None:
    assert cells.obs["student_niche"].tolist() == ["tumour", "stroma", np.nan, "tumour"]
    assert cells.obs["student_niche"].cat.categories.tolist() == ["tumour", "stroma"]
    expected = [np.exp(2) / (1 + np.exp(2)), 0.75, np.nan, 0.5]
    np.testing.assert_allclose(cells.obs["student_confidence"], expected, rtol=1e-6)
    assert cells.obs["student_logit_1"].isna().tolist() == [False, False, True, False]
    assert cells.obs["student_logit_0"].isna().tolist() == [False, False, True, False]
    assert {cells.obs[f"student_{name}"].dtype for name in ("logit_0", "logit_1", "confidence")} == {np.dtype("f4")}


def test_a_second_model_leaves_nothing_of_the_first(cells: ad.AnnData) -> None:
    cells.obs["student_age"] = 1
    write_niches(cells, "student", np.zeros((4, 1)), niches=["0"], colors=["#000000"])
    names = ["student_age", "student_logit_0", "student_niche", "student_confidence", "spatial_mark", "student_mark"]
    assert sorted(cells.obs) == sorted(names)
    assert cells.uns["student_niche_colors"].tolist() == ["#000000"]
    assert cells.obs["student_confidence"].tolist() == [1, 1, 1, 1]


def test_huge_logits(make_cells: Callable) -> None:
    cells = make_cells(1)
    write_niches(cells, "a", np.array([[1e30, -1e30]]), niches=["0", "1"], colors=default_colors(2))
    assert cells.obs["a_confidence"].tolist() == [1]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_survives_writing(cells: ad.AnnData, tmp_path: Path, suffix: str) -> None:
    getattr(cells, f"write_{suffix}")(tmp_path / f"cells.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"cells.{suffix}")
    np.testing.assert_array_equal(read_logits(back, "student"), read_logits(cells, "student"))
    assert back.obs["student_niche"].tolist() == cells.obs["student_niche"].tolist()
    assert niche_names([back], "student", 2) == ["tumour", "stroma"]
    assert colors_of([back], "student_niche", ["stroma", "tumour"]) == ["#0000ff", "#ff0000"]


def test_logits_are_in_order_of_number(make_cells: Callable) -> None:
    cells = make_cells(3)
    logits = np.arange(36, dtype=np.float32).reshape(3, 12)
    write_niches(cells, "a", logits, niches=[str(niche) for niche in range(12)], colors=default_colors(12))
    cells.obs = cells.obs[sorted(cells.obs.columns)]
    np.testing.assert_array_equal(read_logits(cells, "a"), logits)
    del cells.obs["a_logit_3"]
    with pytest.raises(ValueError, match="11 columns of logits of 'a', but not 'a_logit_3'"):
        read_logits(cells, "a")


def test_subset_that_lost_a_niche(cells: ad.AnnData) -> None:
    """AnnData drops unused categories, and their colours, from a subset."""
    subset = cells[[0, 3]].copy()
    assert subset.obs["student_niche"].cat.categories.tolist() == ["tumour"]
    assert niche_names([subset], "student", 2) == ["tumour", "1"]
    assert niche_names([subset, cells], "student", 2) == ["tumour", "stroma"]
    assert colors_of([subset], "student_niche", ["tumour", "stroma"]) == ["#ff0000", default_colors(2)[1]]


def test_palette() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == 40
    assert default_colors(3) == list(PALETTE[:3])
    assert default_colors(40) == list(PALETTE)


def test_more_niches_have_the_colours_of_scanpy() -> None:
    """Which repeat after the 102nd."""
    assert default_colors(41)[:2] == ["#ffff00", "#1ce6ff"]
    many = default_colors(104)
    assert len(set(many[:102])) == 102
    assert many[102:] == many[:2]


def test_palette_is_told_apart_with_red_green_blindness() -> None:
    """The least distance in CIELAB over normal, protanopic and deuteranopic sight (Machado et al. 2009)."""
    from skimage.color import rgb2lab

    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    least = np.full((40, 40), np.inf)
    for sight in (np.eye(3), np.array(protan), np.array(deutan)):
        seen = np.clip(linear @ sight.T, 0, 1)
        srgb = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(srgb[None])[0]
        least = np.minimum(least, np.linalg.norm(lab[:, None] - lab[None], axis=2))
    np.fill_diagonal(least, np.inf)
    assert least[:20, :20].min() > 17
    assert least.min() > 11


def test_bad_prefix(make_cells: Callable) -> None:
    with pytest.raises(ValueError, match="key_added must be a name"):
        write_niches(make_cells(1), "a/b", np.zeros((1, 1)), niches=["0"], colors=["#000000"])


# Names


@pytest.fixture
def named(make_cells: Callable) -> ad.AnnData:
    cells = make_cells(6)
    write_niches(
        cells, "t", np.eye(3)[[0, 0, 1, 1, 2, 2]], niches=["tumour", "stroma", "immune"], colors=["#000000"] * 3
    )
    return cells


def as_text(cells: ad.AnnData) -> ad.AnnData:
    cells.obs["t_niche"] = cells.obs["t_niche"].astype(str).astype("category")  # in the order of the alphabet
    return cells


def reordered(cells: ad.AnnData) -> ad.AnnData:
    cells.obs["t_niche"] = cells.obs["t_niche"].cat.reorder_categories(["immune", "tumour", "stroma"])
    return cells


def concatenated(cells: ad.AnnData) -> ad.AnnData:
    return ad.concat([cells[2:].copy(), cells], index_unique="-")


@pytest.mark.parametrize("change", [as_text, reordered, concatenated])
def test_names_do_not_depend_on_the_order_of_the_categories(
    named: ad.AnnData, change: Callable[[ad.AnnData], ad.AnnData]
) -> None:
    assert niche_names([change(named)], "t", 3) == ["tumour", "stroma", "immune"]


def test_names_of_niches_without_cells(named: ad.AnnData, make_cells: Callable) -> None:
    some = named[2:].copy()  # AnnData drops the category
    assert niche_names([some], "t", 3) == ["0", "stroma", "immune"]
    assert niche_names([some, named], "t", 3) == ["tumour", "stroma", "immune"]
    kept = named[2:].copy()
    kept.obs["t_niche"] = kept.obs["t_niche"].cat.set_categories(["immune", "stroma", "tumour"])
    assert niche_names([kept], "t", 3) == ["tumour", "stroma", "immune"]
    numbered = make_cells(4)
    write_niches(numbered, "t", np.eye(3)[[1, 1, 2, 2]], niches=["2", "0", "1"], colors=["#000000"] * 3)
    numbered.obs["t_niche"] = numbered.obs["t_niche"].cat.remove_unused_categories()
    assert niche_names([numbered], "t", 3) == ["niche 0", "0", "1"]  # "0" is another niche's name


def test_labels_that_were_changed_are_not_those_of_the_logits(named: ad.AnnData) -> None:
    named.obs.loc[named.obs_names[0], "t_niche"] = "stroma"
    with pytest.raises(ValueError, match=r"not those of the logits 't'.*teacher_key=\"t_niche\""):
        niche_names([named], "t", 3)


def test_colors_of_categories_that_are_gone_are_nobodys(named: ad.AnnData) -> None:
    named.uns["t_niche_colors"] = np.array(["#ff0000", "#00ff00", "#0000ff"], dtype=object)
    some = named.copy()
    some.obs["t_niche"] = some.obs["t_niche"].where(some.obs["t_niche"] != "tumour").cat.remove_unused_categories()
    assert colors_of([named], "t_niche", ["stroma"]) == ["#00ff00"]
    assert colors_of([some], "t_niche", ["stroma"]) == default_colors(1)


def test_two_niches_of_one_name(named: ad.AnnData) -> None:
    named.obs["t_niche"] = named.obs["t_niche"].astype(str).replace("stroma", "tumour").astype("category")
    with pytest.raises(ValueError, match=r"Several niches .* one name.*teacher_key=\"t_niche\""):
        niche_names([named], "t", 3)


@pytest.mark.parametrize("suffix", [None, "h5ad"])
def test_colours_as_users_set_them(cells: ad.AnnData, tmp_path: Path, suffix: str | None) -> None:
    """A palette of numbers, as seaborn's are, or a dictionary; what is no colour gets into no model."""
    for colors in (np.array([[1.0, 0, 0], [0, 0, 1]]), {"stroma": "#0000ff", "tumour": "#ff0000"}):
        cells.uns["student_niche_colors"] = colors
        table = cells
        if suffix is not None:
            cells.write_h5ad(tmp_path / "cells.h5ad")
            table = ad.read_h5ad(tmp_path / "cells.h5ad")
        assert colors_of([table], "student_niche", ["stroma", "tumour"]) == ["#0000ff", "#ff0000"]
    cells.uns["student_niche_colors"] = ["#ff0000", "stroma"]
    with pytest.raises(ValueError, match=r"student_niche_colors\"\] holds \['stroma'\]; expected colours"):
        colors_of([cells], "student_niche", ["stroma", "tumour"])


def test_unlikely_niches_where_underflow_is_an_error(make_cells: Callable) -> None:
    """A confidence of 1 leaves e⁻¹⁰⁰ to the others, which is 0 in float32: no reason to lose a training."""
    cells = make_cells(1)
    with np.errstate(all="raise"):
        write_niches(cells, "a", np.array([[100.0, 0.0]]), niches=["0", "1"], colors=default_colors(2))
    assert cells.obs["a_confidence"].tolist() == [1]
