from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

import stdistill as sd
from stdistill.models.explanation.result import Explanation


def explained(table: ad.AnnData, cell: str, radius_um: float, label_key: str | None = None) -> Explanation:
    """As sd.tl.explain returns it, of made-up numbers: cells to the right speak for the niche."""
    offsets = table.obsm["spatial"] - table.obsm["spatial"][table.obs_names.get_loc(cell)]
    distance = np.linalg.norm(offsets, axis=1)
    near = np.flatnonzero(distance <= radius_um)
    added = np.sin(3 * offsets[near, 0] / radius_um) * (1 - distance[near] / radius_um / 2)
    neighbors = pd.DataFrame(
        {
            "cell": cell,
            "neighbor": table.obs_names[near],
            "niche": "1",
            "attribution": added,
            "distance_um": distance[near],
        }
    ).sort_values("attribution", ascending=False, ignore_index=True)
    if label_key is not None:
        neighbors["label"] = table.obs.loc[neighbors["neighbor"], label_key].array
    cells = pd.DataFrame({"niche": "1", "deletion_area": 0.25, "random_area": 0.75}, index=[cell])
    removed = np.linspace(0, 1, 11)
    deletion = pd.DataFrame(
        {"cell": cell, "removed": removed, "probability": (1 - removed) ** 3, "random": 1 - removed**3}
    )
    return Explanation(neighbors, cells, deletion, "leave_one_out", radius_um, label_key)


def test_over_the_slide(bundle: Path, check_image: Callable) -> None:
    sdata = sd.pp.read_xenium(bundle)
    cell = sdata["table"].obs_names[300]
    found = explained(sdata["table"], cell, 40, "cell_type")
    titles = ["one cell", "its neighbours", "believed?"]
    sd.pl.explain(sdata, found, cell=cell, image_key="he", title=titles, show=False)
    check_image("explain_he")


def test_what_is_drawn(slide: ad.AnnData) -> None:
    found = explained(slide, "17", 40)
    disc, beside, curve = sd.pl.explain(slide, found, cell="17", show=False)
    assert disc.get_title() == "17: niche 1"
    others, dots = disc.collections
    assert len(dots.get_paths()) == len(found.neighbors)
    shown = np.abs(slide.obsm["spatial"] - slide.obsm["spatial"][17]).max(axis=1) <= 44
    assert len(others.get_paths()) == shown.sum() - len(found.neighbors)
    # Those that matter most lie on top, in the colours of a scale that is the same to both sides.
    highest = found.neighbors["attribution"].abs().max()
    last = found.neighbors.loc[found.neighbors["attribution"].abs().idxmax(), "attribution"]
    expected = plt.get_cmap("RdBu_r")(0.5 + 0.5 * last / highest)
    np.testing.assert_allclose(dots.get_facecolors()[-1], expected, atol=0.01)
    disc_of_radius, rim = disc.patches
    assert (disc_of_radius.radius, rim.radius) == (40, 5)
    assert tuple(disc_of_radius.center) == tuple(slide.obsm["spatial"][17])
    (points,) = beside.collections
    np.testing.assert_allclose(points.get_offsets(), found.neighbors[["distance_um", "attribution"]])
    random, own = curve.lines
    np.testing.assert_allclose(own.get_ydata(), found.deletion["probability"])
    np.testing.assert_allclose(random.get_ydata(), found.deletion["random"])
    assert curve.get_title() == "area 0.25, at random 0.75"
    assert curve.get_ylabel() == "probability of niche 1"


def test_labels_have_the_colours_of_the_table(slide: ad.AnnData) -> None:
    slide.uns["cell_type_colors"] = ["red", "green", "blue", "black", "orange"]
    found = explained(slide, "17", 40, "cell_type")
    found.neighbors.loc[0, "label"] = None
    axes = sd.pl.explain(slide, found, cell="17", show=False)
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    present = found.neighbors["label"].dropna().unique()
    assert legend == sorted(present)
    for points, name in zip(axes[1].collections, legend, strict=False):
        color = dict(zip("ABCDE", slide.uns["cell_type_colors"], strict=True))[name]
        np.testing.assert_allclose(points.get_facecolor()[0], to_rgba(color))
    assert len(axes[1].collections) == len(present) + 1  # and the one without
    axes = sd.pl.explain(slide, found, cell="17", palette=dict.fromkeys("ABCDE", "pink"), show=False)
    np.testing.assert_allclose(axes[1].collections[0].get_facecolor()[0], to_rgba("pink"))


def test_nothing_decides(slide: ad.AnnData) -> None:
    found = explained(slide, "17", 40)
    found.neighbors["attribution"] = 0.0
    disc, *_ = sd.pl.explain(slide, found, cell="17", show=False)
    assert np.isfinite(disc.collections[1].get_facecolors()).all()


def test_own_axes_and_files(slide: ad.AnnData, tmp_path: Path) -> None:
    _, axes = plt.subplots(1, 3)
    drawn = sd.pl.explain(slide, explained(slide, "17", 40), cell="17", ax=axes, save=tmp_path / "one.png")
    assert drawn == list(axes)
    assert (tmp_path / "one.png").stat().st_size > 0


def test_a_slide_whose_cells_have_the_same_names(slide: ad.AnnData) -> None:
    found = explained(slide, "17", 40)
    other = slide.copy()
    other.obsm["spatial"] = slide.obsm["spatial"][::-1].copy()
    with pytest.raises(ValueError, match=r"of the \d+ cells around '17' lie elsewhere .* is of another slide"):
        sd.pl.explain(other, found, cell="17")
    other.obsm["spatial"] = (slide.obsm["spatial"] + [300, -40]).astype(np.float32)  # moved as a whole, and rounded
    sd.pl.explain(other, found, cell="17", show=False)


def test_an_explanation_of_a_student_that_was_fitted_again(slide: ad.AnnData) -> None:
    table = slide.copy()
    found = replace(explained(table, "17", 40), model="old")
    sd.pl.explain(table, found, cell="17", show=False)  # nothing is known of the table's niches
    table.obs["student_niche"], table.obs["student_model"] = "1", "new"
    with pytest.warns(UserWarning, match=r"of another model than the niches in .obs\['student_niche'\].*sd.tl.explain"):
        sd.pl.explain(table, found, cell="17", show=False)
    table.obs["teacher_niche"], table.obs["teacher_model"] = "1", "old"
    sd.pl.explain(table, found, cell="17", show=False)  # the teacher was explained


def test_an_explanation_by_other_names(slide: ad.AnnData) -> None:
    table = slide.copy()
    found = replace(explained(table, "17", 40), model="same")
    table.obs["student_niche"], table.obs["student_model"] = "1", "same"
    sd.pl.explain(table, found, cell="17", show=False)
    table.obs["student_niche"] = "tumour"
    with pytest.warns(UserWarning, match="'17': 'tumour' here, '1' in the explanation"):
        sd.pl.explain(table, found, cell="17", show=False)


def test_bad_input(slide: ad.AnnData) -> None:
    found = explained(slide, "17", 40)
    with pytest.raises(KeyError, match="'18' is not a cell that was explained"):
        sd.pl.explain(slide, found, cell="18")
    with pytest.raises(TypeError, match=r"Expected what sd.tl.explain returns, found DataFrame"):
        sd.pl.explain(slide, found.neighbors, cell="17")
    with pytest.raises(KeyError, match="1 of the cells are not in the table, such as '17'"):
        sd.pl.explain(slide[slide.obs_names != "17"].copy(), found, cell="17")
    with pytest.raises(TypeError, match="an AnnData holds none"):
        sd.pl.explain(slide, found, cell="17", image_key="he")
    with pytest.raises(KeyError, match="'reds' is not a colour map"):
        sd.pl.explain(slide, found, cell="17", cmap="reds")
