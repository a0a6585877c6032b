from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from matplotlib.patches import Circle
from scipy.sparse import csc_matrix

import stdistill as sd


def test_over_the_slide(bundle: Path, check_image: Callable) -> None:
    sdata = sd.pp.read_xenium(bundle)
    sd.pp.neighborhoods(sdata, radius_um=40)
    cell = sdata["table"].obs_names[300]
    sd.pl.neighborhood(sdata, cell=cell, image_key="he", size_um=4, title="one cell", show=False)
    check_image("neighborhood_he")


def test_cell_disc_and_neighbors(slide: ad.AnnData) -> None:
    sd.pp.neighborhoods(slide, radius_um=40)
    ax = sd.pl.neighborhood(slide, cell="17", size_um=1, show=False)
    center = slide.obsm["spatial"][17]
    near = np.linalg.norm(slide.obsm["spatial"] - center, axis=1) <= 40
    assert ax.get_title() == f"17: {near.sum() - 1} neighbours within 40.0 µm"
    (disc,) = (patch for patch in ax.patches if isinstance(patch, Circle))
    assert (disc.center, disc.radius) == (tuple(center), 40)
    pixels = ax.images[0].get_array()
    np.testing.assert_array_equal(pixels[1000, 1000], (0xBD, 0x1F, 0x01, 255))
    for number in np.flatnonzero(near):
        column, row = ((slide.obsm["spatial"][number] - center + 50) * 20).astype(int)
        expected = (0xBD, 0x1F, 0x01, 255) if number == 17 else (0x3F, 0x90, 0xDA, 255)
        np.testing.assert_array_equal(pixels[row, column], expected)
    assert not {key for key in slide.uns if key.endswith("_colors")}


def test_a_graph_by_columns(slide: ad.AnnData) -> None:
    sd.pp.neighborhoods(slide, radius_um=40)
    title = sd.pl.neighborhood(slide, cell="17", show=False).get_title()
    slide.obsp["spatial_connectivities"] = csc_matrix(slide.obsp["spatial_connectivities"])
    assert sd.pl.neighborhood(slide, cell="17", show=False).get_title() == title


def test_bad_input(slide: ad.AnnData) -> None:
    with pytest.raises(KeyError, match=r"Run sd.pp.neighborhoods"):
        sd.pl.neighborhood(slide, cell="17")
    sd.pp.neighborhoods(slide, radius_um=40)
    with pytest.raises(KeyError, match=r"cell='x' is not in .obs_names; they are like \['0', '1', '2'\]"):
        sd.pl.neighborhood(slide, cell="x")
    with pytest.raises(ValueError, match="alpha must be positive"):
        sd.pl.neighborhood(slide, cell="17", alpha=-1)
    graph = slide.obsp.pop("spatial_connectivities")
    with pytest.raises(KeyError, match=r"'spatial_connectivities' is not a graph in .obsp; .* Run sd.pp.neighborhoods"):
        sd.pl.neighborhood(slide, cell="17")
    slide.obsp["spatial_connectivities"] = graph
    del slide.uns["spatial_neighbors"]["params"]
    with pytest.raises(ValueError, match="records the radius None"):
        sd.pl.neighborhood(slide, cell="17")
