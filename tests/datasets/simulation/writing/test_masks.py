"""Label images against another rasterisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from skimage.draw import polygon as fill
from skimage.draw import polygon2mask

from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM
from stdistill.datasets._simulation.tissue.cells import N_ANGLES, spatial_bins
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.writing import masks
from stdistill.datasets._simulation.writing.layout import LAYOUTS
from stdistill.datasets._simulation.writing.masks import _rasterise, write_cells_zarr
from stdistill.datasets._simulation.writing.tables import Measured, vertices


def measure(section: Section, version: str) -> Measured:
    prefix = np.arange(7, 7 + 3 * len(section.cells), 3, dtype=np.uint32)
    return Measured(section, LAYOUTS[version], prefix)


@pytest.fixture(scope="module")
def measured(section: Section) -> Measured:
    return measure(section, "3.0.0")


@pytest.fixture(scope="module")
def root(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zarr.Group]:
    folder = tmp_path_factory.mktemp("masks")
    write_cells_zarr(folder, measured)
    with zarr.storage.ZipStore(folder / "cells.zarr.zip", read_only=True) as store:
        yield zarr.open(store, mode="r")


@pytest.fixture(scope="module")
def labels(root: zarr.Group) -> dict[str, np.ndarray]:
    return {name: root["masks"][name][:] for name in "01"}


def rasterise(section: Section, left: int, top: int, width: int, height: int) -> np.ndarray:
    pixels = np.zeros((height, width), np.uint32)
    cells = section.cells
    bins = spatial_bins(cells.x, cells.y)
    _rasterise(pixels, (left, top), PIXEL_SIZE_UM, cells.x, cells.y, cells.outline, *bins)
    return pixels


def test_chunks_make_up_the_whole(section: Section) -> None:
    x, y = int(section.cells.x[700] / PIXEL_SIZE_UM), int(section.cells.y[700] / PIXEL_SIZE_UM)
    whole = rasterise(section, x, y, 300, 200)
    parts = [rasterise(section, x + i, y, 100, 200) for i in (0, 100, 200)]
    assert whole.any()
    np.testing.assert_array_equal(np.hstack(parts), whole)


def test_pixels_are_those_of_the_polygon() -> None:
    outline = np.random.default_rng(0).uniform(4, 9, (1, N_ANGLES)).astype(np.float32)
    centre = np.array([12.3]), np.array([11.1])
    pixels = np.zeros((130, 120), np.uint32)
    _rasterise(pixels, (0, 0), PIXEL_SIZE_UM, *centre, outline, *spatial_bins(*centre))
    corners = vertices(*centre, outline)[0] / PIXEL_SIZE_UM - 0.5
    expected = polygon2mask(pixels.shape, corners[:, ::-1])
    assert np.sum((pixels == 1) != expected) <= 3


def test_labels_have_the_shape_of_the_morphology_image(labels: dict[str, np.ndarray], measured: Measured) -> None:
    for image in labels.values():
        assert image.shape == measured.image_shape
        assert image.dtype == np.uint32


def test_cells_and_nuclei_are_numbered_from_one(labels: dict[str, np.ndarray], section: Section) -> None:
    for name, n in (("0", len(section.cells.nuclei)), ("1", len(section.cells))):
        np.testing.assert_array_equal(np.unique(labels[name]), np.arange(n + 1))


@pytest.mark.parametrize("name", ["0", "1"])
def test_pixels_are_those_another_rasteriser_fills(labels: dict[str, np.ndarray], section: Section, name: str) -> None:
    shapes = section.cells if name == "1" else section.cells.nuclei
    corners = vertices(shapes.x, shapes.y, shapes.outline).astype(float) / PIXEL_SIZE_UM - 0.5
    different = total = 0
    for index in range(0, len(shapes), 5):
        rows, columns = fill(corners[index, :, 1], corners[index, :, 0], labels[name].shape)
        ours = np.argwhere(
            labels[name][rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4] == index + 1
        )
        theirs = set(zip((rows - rows.min() + 3).tolist(), (columns - columns.min() + 3).tolist(), strict=True))
        different += len(theirs ^ {(int(r), int(c)) for r, c in ours})
        total += len(theirs)
    # Only pixels whose centre lies on an edge may differ.
    assert different < 1e-3 * total


def test_the_pixel_at_the_centroid_is_of_the_cell(
    labels: dict[str, np.ndarray], measured: Measured, section: Section
) -> None:
    column, row = (measured.summary[["cell_centroid_x", "cell_centroid_y"]] / PIXEL_SIZE_UM).astype(int).T.to_numpy()
    np.testing.assert_array_equal(labels["1"][row, column], np.arange(1, len(section.cells) + 1))


def test_a_nucleus_lies_on_the_label_of_its_cell(
    labels: dict[str, np.ndarray], root: zarr.Group, section: Section
) -> None:
    on_nucleus = labels["0"] > 0
    owner = root["polygon_sets/0/cell_index"][:][labels["0"][on_nucleus] - 1]
    np.testing.assert_array_equal(labels["1"][on_nucleus], owner + 1)
    np.testing.assert_array_equal(np.bincount(root["polygon_sets/0/cell_index"][:]), section.cells.n_nuclei)


def test_chunks_leave_no_trace(
    labels: dict[str, np.ndarray], measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_CHUNK", 389)
    write_cells_zarr(tmp_path, measured)
    with zarr.storage.ZipStore(tmp_path / "cells.zarr.zip", read_only=True) as store:
        for name, image in labels.items():
            array = zarr.open(store, mode="r")["masks"][name]
            assert array.chunks == (389, 389)
            np.testing.assert_array_equal(array[:], image)


def test_polygons_are_those_of_the_tables(root: zarr.Group, section: Section) -> None:
    for name, shapes in (("0", section.cells.nuclei), ("1", section.cells)):
        group = root["polygon_sets"][name]
        expected = vertices(shapes.x, shapes.y, shapes.outline)
        assert (group["num_vertices"][:] == expected.shape[1]).all()
        np.testing.assert_array_equal(group["vertices"][:].reshape(expected.shape), expected)


def test_summary_names_its_columns(root: zarr.Group, measured: Measured) -> None:
    summary = root["cell_summary"]
    assert summary.attrs["column_names"] == list(measured.summary.columns)
    np.testing.assert_array_equal(summary[:], measured.summary.to_numpy())
    assert root.attrs["number_cells"] == len(measured.section.cells)


def test_identifiers_are_prefix_and_suffix(root: zarr.Group, measured: Measured) -> None:
    prefix, suffix = root["cell_id"][:].T
    assert (suffix == 1).all()
    # 7 is 00000007 in hexadecimal digits, 10 is 0000000a; a to p stand for 0 to f.
    assert prefix[:2].tolist() == [7, 10]
    assert measured.cell_id[:2].tolist() == ["aaaaaaah-1", "aaaaaaak-1"]


@pytest.mark.parametrize("version", ["1.0.2", "1.7.6"])
def test_old_layouts_count_cells(section: Section, tmp_path: Path, version: str) -> None:
    write_cells_zarr(tmp_path, measure(section, version))
    with zarr.storage.ZipStore(tmp_path / "cells.zarr.zip", read_only=True) as store:
        root = zarr.open(store, mode="r")
        assert "polygon_sets" not in root
        name = "cell_id" if version == "1.0.2" else "seg_mask_value"
        assert root[name][:].tolist() == list(range(1, len(section.cells) + 1))
