"""Spots of Visium, as ``spatialdata_io`` reads them, through what leads from an H&E to the composition of spots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from spatialdata import SpatialData

import stdistill as sd

PITCH_UM = 100
"""Between the centres of neighbouring spots."""
IMAGE = "mini_hires_image"


@pytest.fixture
def visium(shared_data: Path) -> SpatialData:
    """100 spots of a slide whose H&E is nearly blank, their centres brought from pixels to µm."""
    import spatialdata_io

    slide = spatialdata_io.visium(shared_data / "visium_mini", dataset_id="mini")
    table = slide["table"]
    table.obsm["spatial"] = table.obsm["spatial"] * PITCH_UM / pdist(table.obsm["spatial"]).min()
    rng = np.random.default_rng(0)
    shares = pd.DataFrame(rng.dirichlet(np.ones(3), 100), table.obs_names, ["B cells", "CAFs/iCAF", "NK cells "])
    table.obsm["proportions"] = shares
    return slide


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Variable names are not unique"),
    pytest.mark.filterwarnings("ignore:.*on stained tissue"),
    pytest.mark.filterwarnings("ignore:.*features"),
]


def test_abundances_of_spots(visium: SpatialData) -> None:
    sd.pp.abundances(visium, obsm_key="proportions")
    found = sd.get.abundances(visium)
    assert found.columns.tolist() == ["B cells", "CAFs/iCAF", "NK cells"]
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert found.index.equals(visium["table"].obs_names)


def test_spots_lie_on_the_image_at_its_scale(visium: SpatialData) -> None:
    """Neighbours are 137 pixels of the scanned image apart, of which this one has .15 along a side."""
    pixels = sd.get.he_pixels(visium, image_key=IMAGE, coordinate_system="mini")
    assert pixels["on_image"].all()
    factors = visium["table"].obsm["spatial"] / pixels[["x", "y"]]
    np.testing.assert_allclose(factors, pixels[["mpp", "mpp"]], rtol=1e-3)
    assert pixels["mpp"].iloc[0] == pytest.approx(PITCH_UM / 137 / 0.150015, rel=1e-3)
    # The file's spot diameter, 89.4 pixels, is that of 65 µm and not of the 55 µm of a spot.
    assert 2 * visium["mini"].radius.iloc[0] * PITCH_UM / 137 == pytest.approx(65, rel=0.01)


def test_features_and_tissue_of_spots(visium: SpatialData) -> None:
    options = {"image_key": IMAGE, "coordinate_system": "mini"}
    sd.pp.embed_he(visium, encoder="texture", crop_px=64, **options)
    assert visium["table"].obsm["X_he"].shape == (100, 276)
    assert np.isfinite(visium["table"].obsm["X_he"]).all()
    sd.pp.tissue_share(visium, **options)
    shares = visium["table"].obs["he_tissue_share"]
    assert shares.between(0, 1).all()
    assert visium["table"].uns["stdistill"]["tissue_share"]["crop_px"] == 64
    crops = sd.get.he_crops(visium, cells=visium["table"].obs_names, **options)
    white = visium["table"].uns["stdistill"]["tissue_share"]["white_points"][0]
    density = np.log(white / np.maximum(crops.astype(float), 1))
    is_black = (crops <= 8).all(axis=-1)  # nothing was scanned
    np.testing.assert_allclose(shares, 1 - ((density < 0.15).all(axis=-1) | is_black).mean(axis=(1, 2)), atol=1e-6)
