from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from spatialdata import SpatialData

import stdistill as sd
from stdistill._measures.profiles.profile import NicheProfile
from stdistill.models.explanation.result import Explanation


@pytest.fixture(scope="module")
def he_slide(bundle: Path) -> SpatialData:
    """Niches are halves of the slide; a student is the surer the further a cell is from the border."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    x = cells.obsm["spatial"][:, 0]
    beyond = (x - np.median(x)) / 100
    cells.obs["student_niche"] = pd.Categorical(np.where(beyond < 0, "0", "1"))
    cells.obs["student_logit_0"], cells.obs["student_logit_1"] = -beyond, beyond
    sd.pp.neighborhoods(slide, n_neighbors=12)
    return slide


@pytest.fixture(scope="module")
def profile(he_slide: SpatialData) -> NicheProfile:
    return sd.tl.niche_profile(he_slide, niche_key="student_niche")


def panels(axes: list[Axes]) -> dict[str, Axes]:
    named = {ax.get_title(loc="left") or ax.get_title(): ax for ax in axes[1:]}
    return {"map": axes[0], **named}


def texts(figure: plt.Figure) -> str:
    return "\n".join(each.get_text() for each in figure.texts)


def test_page(he_slide: SpatialData, profile: NicheProfile, check_image: Callable[[str], None]) -> None:
    sd.pl.niche_card(he_slide, "1", profile=profile, show=False)
    check_image("niche_card")


def test_panels_say_what_the_profile_says(he_slide: SpatialData, profile: NicheProfile) -> None:
    axes = panels(sd.pl.niche_card(he_slide, "1", profile=profile, show=False))
    of_it = profile["1"]
    assert set(axes) >= {"map", "Cell types", "Marker genes", "Morphology", "Borders on"}
    genes = [label.get_text() for label in axes["Marker genes"].get_yticklabels()]
    assert genes == of_it.markers["gene"].head(8).tolist()
    bars = [bar.get_width() for bar in axes["Cell types"].patches]
    np.testing.assert_allclose(bars, of_it.cell_types["share"].nlargest(8))
    assert [label.get_text() for label in axes["Borders on"].get_yticklabels()] == ["0"]
    typical = of_it.cells.loc[of_it.cells["kind"] == "typical", "cell"].tolist()
    assert [name for name in axes if name in typical] == typical[:6]
    written = texts(plt.gcf())
    assert f"Niche 1: {profile.names['1']}" in written
    assert "400 cells" in written
    assert "the name is a suggestion" in written
    assert "typical cells" in written


def test_crops_show_their_cells(he_slide: SpatialData, profile: NicheProfile) -> None:
    axes = sd.pl.niche_card(he_slide, "1", profile=profile, n_crops=2, crop_um=40, show=False)
    cells = [ax.get_title() for ax in axes[-2:]]
    expected = sd.get.he_crops(he_slide, cells=cells, crop_px=224, mpp=40 / 224)
    for ax, crop in zip(axes[-2:], expected, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), crop)


def explain(cells: ad.AnnData, names: list[str]) -> Explanation:
    """For the niche speak the cell itself, then its nearest cells; one speaks against it."""
    rows = []
    for name in names:
        distance = np.hypot(*(cells.obsm["spatial"] - cells[name].obsm["spatial"][0]).T)
        for rank, row in enumerate(np.argsort(distance)[:8]):
            strength = -1.0 if rank == 3 else 8.0 - rank
            rows.append((name, cells.obs_names[row], "1", strength, distance[row]))
    neighbors = pd.DataFrame(rows, columns=["cell", "neighbor", "niche", "attribution", "distance_um"])
    explained = pd.DataFrame({"niche": "1", "beaten": 0.8}, index=names)
    return Explanation(neighbors, explained, pd.DataFrame(), "leave_one_out", 40.0)


def test_deciding_neighbours_are_ringed(he_slide: SpatialData, profile: NicheProfile) -> None:
    cells = he_slide["table"]
    names = cells.obs_names[(cells.obs["student_niche"] == "1") & sd.get.he_pixels(he_slide)["on_image"]][
        :20:7
    ].tolist()
    explanation = explain(cells, names)
    axes = sd.pl.niche_card(he_slide, "1", profile=profile, explanation=explanation, crop_um=80, show=False)
    assert [ax.get_title() for ax in axes[-3:]] == names
    pixels = sd.get.he_pixels(he_slide)
    for ax, name in zip(axes[-3:], names, strict=True):
        rings = np.unique([ring.center for ring in ax.patches if isinstance(ring, Circle)], axis=0)
        own = explanation.neighbors[explanation.neighbors["cell"] == name]
        for_it = own[(own["attribution"] > 0) & (own["neighbor"] != name)]["neighbor"][:5]
        moved = pixels.loc[for_it, ["x", "y"]].to_numpy() - pixels.loc[name, ["x", "y"]].to_numpy(float)
        expected = 112 + moved * pixels["mpp"].iloc[0] / (80 / 224)
        np.testing.assert_allclose(rings, np.unique(expected, axis=0), atol=0.01)
    assert "sooner than 80% of random orders do" in texts(plt.gcf())


def test_an_explanation_of_another_model(he_slide: SpatialData) -> None:
    """The student was fitted again since, and its niche 1 is another; or it is of the teacher."""
    cells = he_slide["table"]
    cells.obs["student_model"] = pd.Categorical(["new"]).repeat(cells.n_obs)
    names = cells.obs_names[(cells.obs["student_niche"] == "1") & sd.get.he_pixels(he_slide)["on_image"]][:1].tolist()
    explanation = explain(cells, names)
    with pytest.warns(UserWarning, match=r"of another model than the niches in .obs\['student_niche'\].*sd.tl.explain"):
        sd.pl.niche_card(he_slide, "1", explanation=replace(explanation, model="old"), show=False)
    for known in ("new", None):
        sd.pl.niche_card(he_slide, "1", explanation=replace(explanation, model=known), show=False)
    del cells.obs["student_model"]


def test_an_explanation_by_other_names(he_slide: SpatialData) -> None:
    """Niches were renamed in the table since, as sd.tl.match_niches does, or merged by hand."""
    cells = he_slide["table"]
    cells.obs["student_model"] = pd.Categorical(["new"]).repeat(cells.n_obs)
    on_image = sd.get.he_pixels(he_slide)["on_image"]
    names = cells.obs_names[(cells.obs["student_niche"] == "1") & on_image][:2].tolist()
    explanation = replace(explain(cells, names), model="new")
    renamed = explanation.cells.assign(niche=["1", "0"])
    with pytest.warns(
        UserWarning, match=f"1 of the 2 explained cells .*'{names[1]}': '1' here, '0' in the explanation"
    ):
        sd.pl.niche_card(he_slide, "1", explanation=replace(explanation, cells=renamed), show=False)
    del cells.obs["student_model"]


def test_explained_cells_of_another_niche(he_slide: SpatialData, profile: NicheProfile) -> None:
    cells = he_slide["table"]
    others = cells.obs_names[cells.obs["student_niche"] == "0"][:1].tolist()
    with pytest.raises(ValueError, match="None of the 1 cells that are explained is in the niche"):
        sd.pl.niche_card(he_slide, "1", explanation=explain(cells, others))


def test_a_profile_of_niches_as_they_were_before(he_slide: SpatialData, profile: NicheProfile) -> None:
    cells = he_slide["table"].copy()
    niches = cells.obs["student_niche"]
    niches[niches.index[niches == "1"][:5]] = "0"
    with pytest.warns(
        UserWarning, match=r"is of 400 cells of niche '1', and .* has 395: .* sd\.tl\.niche_profile again"
    ):
        sd.pl.niche_card(cells, "1", profile=profile, show=False)


def test_without_profile_there_are_map_and_crops(he_slide: SpatialData) -> None:
    axes = sd.pl.niche_card(he_slide, "0", n_crops=3, show=False)
    assert len(axes) == 4
    assert "cells at random" in texts(plt.gcf())
    again = sd.pl.niche_card(he_slide, "0", n_crops=3, show=False)
    assert [ax.get_title() for ax in axes] == [ax.get_title() for ax in again]


def test_what_is_not_known_is_left_out_and_said(he_slide: SpatialData, profile: NicheProfile) -> None:
    some = replace(profile, markers=profile.markers.iloc[:0], cell_types=profile.cell_types.iloc[:0])
    axes = panels(sd.pl.niche_card(he_slide["table"], "0", profile=some, show=False))
    assert set(axes) == {"map", "Morphology", "Borders on"}
    assert "Not known: cell types, markers, H&E." in texts(plt.gcf())


def test_map_has_the_niche_in_its_colour(slide: ad.AnnData) -> None:
    slide.uns["teacher_niche_colors"] = np.array(["#ff0000", "#00ff00", "#0000ff", "#ffff00"], dtype=object)
    ax = sd.pl.niche_card(slide, "2", niche_key="teacher_niche", show=False)
    packed = ax.images[0].get_array()[..., :3].astype(int) @ np.array([1 << 16, 1 << 8, 1])
    assert set(np.unique(packed)) == {0x0000FF, 0xDDDDDD, 0xFFFFFF}


def test_title_and_file(slide: ad.AnnData, tmp_path: Path) -> None:
    sd.pl.niche_card(slide, "2", niche_key="teacher_niche", title="Tertiary lymphoid structure", show=False)
    assert "Tertiary lymphoid structure" in texts(plt.gcf())
    assert sd.pl.niche_card(slide, "2", niche_key="teacher_niche", save=tmp_path / "card.pdf") is not None
    assert (tmp_path / "card.pdf").stat().st_size > 1000


def test_what_is_wrong_is_said(slide: ad.AnnData, profile: NicheProfile) -> None:
    with pytest.raises(KeyError, match="niche='9' is not a category"):
        sd.pl.niche_card(slide, "9")
    with pytest.raises(TypeError, match="returns, found DataFrame"):
        sd.pl.niche_card(slide, "1", profile=profile.markers)
    with pytest.raises(ValueError, match="the profile is of 'student_niche'"):
        sd.pl.niche_card(slide, "1", niche_key="teacher_niche", profile=profile)
    slide.obs = slide.obs.drop(columns=["student_niche", "teacher_niche"])
    with pytest.raises(KeyError, match="name a column of niches with niche_key="):
        sd.pl.niche_card(slide, "1")
