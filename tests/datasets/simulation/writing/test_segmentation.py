"""Label images and polygons, as users read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from shapely import Point

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide

N_CELLS = 700
PIXEL_SIZE_UM = 0.2125


def test_label_images_name_the_cell_at_its_centroid(outs: SimulatedSlide) -> None:
    sdata = outs.sdata
    labels = sdata["cell_labels"]["scale0"].image.to_numpy()
    column, row = (outs.centroids / PIXEL_SIZE_UM).astype(int).T
    np.testing.assert_array_equal(labels[row, column], sdata["table"].obs["cell_labels"])


def test_every_label_is_a_cell_and_one_piece(outs: SimulatedSlide) -> None:
    labels = outs.sdata["cell_labels"]["scale0"].image.to_numpy()
    assert set(np.unique(labels)) == set(range(N_CELLS + 1))
    for label, window in enumerate(ndimage.find_objects(labels)[:60], start=1):
        assert ndimage.label(labels[window] == label, np.ones((3, 3)))[1] == 1


def test_polygons_contain_centroids_and_match_labels(outs: SimulatedSlide) -> None:
    sdata = outs.sdata
    polygons = sdata["cell_boundaries"].geometry
    for polygon, centroid in zip(polygons, outs.centroids, strict=True):
        assert polygon.contains(Point(centroid))
    pixels = np.bincount(sdata["cell_labels"]["scale0"].image.to_numpy().ravel(), minlength=N_CELLS + 1)[1:]
    np.testing.assert_allclose(pixels * PIXEL_SIZE_UM**2, polygons.area, rtol=0.05, atol=0.8)
    np.testing.assert_allclose(sdata["table"].obs["cell_area"], polygons.area, rtol=0.01)


def test_cells_do_not_overlap(outs: SimulatedSlide) -> None:
    cells = outs.sdata["cell_boundaries"].geometry
    assert cells.union_all().area > 0.999 * cells.area.sum()


def test_nuclei_lie_in_their_cell(outs: SimulatedSlide) -> None:
    sdata = outs.sdata
    cells, nuclei = sdata["cell_boundaries"].geometry, sdata["nucleus_boundaries"]
    for cell, nucleus in zip(nuclei["cell_id"], nuclei.geometry, strict=True):
        assert cells[cell].buffer(0.02).contains(nucleus)


def test_some_cells_have_no_nucleus_and_some_two(bundles: dict[str, SimulatedSlide]) -> None:
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        sdata = bundles[version].sdata
        count = sdata["table"].obs["nucleus_count"]
        assert set(count) == {0, 1, 2}
        of_cell = sdata["nucleus_boundaries"]["cell_id"].value_counts()
        np.testing.assert_array_equal(of_cell.reindex(sdata["table"].obs["cell_id"], fill_value=0), count)
        area = sdata["table"].obs["nucleus_area"]
        assert area[count == 0].isna().all()
        assert (area[count > 0] > 0).all()


def test_every_cell_has_one_nucleus_in_old_layouts(bundles: dict[str, SimulatedSlide]) -> None:
    for version in ("1.0.2", "1.7.6"):
        assert len(bundles[version].sdata["nucleus_boundaries"]) == N_CELLS


def test_layouts_show_the_same_tissue(bundles: dict[str, SimulatedSlide]) -> None:
    truths = [slide.truth for slide in bundles.values()]
    for truth in truths[1:]:
        assert truth["niche"].tolist() == truths[0]["niche"].tolist()
        assert truth["cell_type"].tolist() == truths[0]["cell_type"].tolist()
    for slide in bundles.values():
        np.testing.assert_allclose(slide.centroids, bundles["3.0.0"].centroids, atol=1e-6)
