"""Rasters: label images, DAPI, H&E, and their files."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.draw import polygon2mask

from stdistill.datasets._simulation.painting.dapi import DapiPainter
from stdistill.datasets._simulation.painting.frames import PIXEL_SIZE_UM, draw_alignment
from stdistill.datasets._simulation.painting.he import HePainter
from stdistill.datasets._simulation.painting.stain import HALO, Stain, develop, draw_stain
from stdistill.datasets._simulation.tissue.cells import N_ANGLES, spatial_bins
from stdistill.datasets._simulation.tissue.section import Section
from stdistill.datasets._simulation.writing.images import TILE, write_pyramid
from stdistill.datasets._simulation.writing.masks import _rasterise
from stdistill.datasets._simulation.writing.parallel import N_WORKERS, ordered_map
from stdistill.datasets._simulation.writing.tables import polygon_centroids, vertices


class TestOrderedMap:
    def test_keeps_the_order(self) -> None:
        def slow(i: int) -> int:
            time.sleep(0.002 * (i % 3))
            return i * i

        assert list(ordered_map(slow, range(40))) == [i * i for i in range(40)]

    def test_runs_only_a_little_ahead(self) -> None:
        started: list[int] = []
        results = ordered_map(lambda i: started.append(i), range(1000))
        next(results)
        time.sleep(0.05)
        assert len(started) <= N_WORKERS + 2
        results.close()

    def test_uses_other_threads_and_passes_errors_on(self) -> None:
        assert threading.get_ident() not in set(ordered_map(lambda _: threading.get_ident(), range(4)))
        with pytest.raises(ZeroDivisionError):
            list(ordered_map(lambda i: 1 // i, [2, 1, 0, 1]))


class TestPyramid:
    @pytest.mark.parametrize("shape", [(700, 1100), (513, 512), (40, 1300, 3), (100, 90, 3)])
    def test_holds_what_was_painted_and_its_halves(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)
        path = tmp_path / "image.ome.tif"
        write_pyramid(
            path,
            tmp_path,
            lambda x, y, width, height: image[y : y + height, x : x + width],
            shape,
            np.uint8,
            0.5,
            channel="some",
            compression="zlib",
        )
        with tifffile.TiffFile(path) as tiff:
            levels = [level.asarray() for level in tiff.series[0].levels]
        np.testing.assert_array_equal(levels[0], image)
        assert max(levels[-1].shape[:2]) <= TILE
        for larger, smaller in itertools.pairwise(levels):
            rows, columns = smaller.shape[:2]
            blocks = larger[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean(axis=(1, 3))
            assert np.abs(blocks - smaller.reshape(rows, columns, -1)).max() <= 0.5
        assert [p.name for p in tmp_path.iterdir()] == ["image.ome.tif"]

    def test_is_painted_once_tile_by_tile(self, tmp_path: Path) -> None:
        asked: list[tuple[int, int, int, int]] = []

        def paint(x: int, y: int, width: int, height: int) -> np.ndarray:
            asked.append((x, y, width, height))
            return np.zeros((height, width), np.uint16)

        write_pyramid(
            tmp_path / "a.tif", tmp_path, paint, (600, 1030), np.uint16, 1, channel="DAPI", compression="zlib"
        )
        assert sorted(asked) == [
            (0, 0, 512, 512), (0, 512, 512, 88), (512, 0, 512, 512),
            (512, 512, 512, 88), (1024, 0, 6, 512), (1024, 512, 6, 88),
        ]  # fmt: skip

    def test_an_error_while_painting_is_raised(self, tmp_path: Path) -> None:
        def paint(*_: int) -> np.ndarray:
            raise RuntimeError("no paint")

        with pytest.raises(RuntimeError, match="no paint"):
            write_pyramid(
                tmp_path / "a.tif", tmp_path, paint, (90, 90), np.uint8, 1, channel="DAPI", compression="zlib"
            )


class TestLabels:
    def draw(self, section: Section, left: int, top: int, width: int, height: int) -> np.ndarray:
        pixels = np.zeros((height, width), np.uint32)
        cells = section.cells
        bins = spatial_bins(cells.x, cells.y)
        _rasterise(pixels, (left, top), PIXEL_SIZE_UM, cells.x, cells.y, cells.outline, *bins)
        return pixels

    def test_chunks_make_up_the_whole(self, section: Section) -> None:
        x, y = int(section.cells.x[700] / PIXEL_SIZE_UM), int(section.cells.y[700] / PIXEL_SIZE_UM)
        whole = self.draw(section, x, y, 300, 200)
        parts = [self.draw(section, x + i, y, 100, 200) for i in (0, 100, 200)]
        assert whole.any()
        np.testing.assert_array_equal(np.hstack(parts), whole)

    def test_pixels_are_those_of_the_polygon(self) -> None:
        outline = np.random.default_rng(0).uniform(4, 9, (1, N_ANGLES)).astype(np.float32)
        centre = np.array([12.3]), np.array([11.1])
        pixels = np.zeros((130, 120), np.uint32)
        _rasterise(pixels, (0, 0), PIXEL_SIZE_UM, *centre, outline, *spatial_bins(*centre))
        corners = vertices(*centre, outline)[0] / PIXEL_SIZE_UM - 0.5
        expected = polygon2mask(pixels.shape, corners[:, ::-1])
        assert np.sum((pixels == 1) != expected) <= 3

    def test_centroids_and_areas_are_those_of_the_polygon(self) -> None:
        from shapely import Polygon

        rng = np.random.default_rng(0)
        outline = rng.uniform(6, 9, (20, N_ANGLES)).astype(np.float32)
        x, y = rng.uniform(0, 50, (2, 20))
        polygons = [Polygon(p) for p in vertices(x, y, outline)]
        measured = polygon_centroids(x, y, outline)
        np.testing.assert_allclose(measured[0], [p.centroid.x for p in polygons], atol=1e-3)
        np.testing.assert_allclose(measured[1], [p.centroid.y for p in polygons], atol=1e-3)
        np.testing.assert_allclose(measured[2], [p.area for p in polygons], rtol=1e-4)

    def test_a_centroid_outside_gives_way_to_the_centre(self) -> None:
        bent = np.where(np.arange(N_ANGLES) % (N_ANGLES // 2) < 2, 14, 0.3).astype(np.float32)[None]
        bent[0, N_ANGLES // 2 :] = 0.3
        x, y, _ = polygon_centroids(np.array([5.0]), np.array([6.0]), bent)
        from shapely import Point, Polygon

        assert Polygon(vertices(np.array([5.0]), np.array([6.0]), bent)[0]).buffer(1e-6).contains(Point(x[0], y[0]))

    @pytest.mark.parametrize("n", [24, 12])
    def test_polygons_are_closed(self, n: int) -> None:
        polygons = vertices(np.zeros(3), np.zeros(3), np.ones((3, N_ANGLES), np.float32), n)
        assert polygons.shape == (3, n + 1, 2)
        np.testing.assert_array_equal(polygons[:, 0], polygons[:, -1])


class TestDapi:
    def test_tiles_fit_together(self, section: Section) -> None:
        painter = DapiPainter(np.random.default_rng(0), section, PIXEL_SIZE_UM)
        x, y = int(section.cells.x[700] / PIXEL_SIZE_UM), int(section.cells.y[700] / PIXEL_SIZE_UM)
        whole = painter.paint(x, y, 200, 120)
        assert whole.max() > 500
        parts = np.hstack([painter.paint(x, y, 90, 120), painter.paint(x + 90, y, 110, 120)])
        np.testing.assert_array_equal(parts, whole)

    def test_empty_slide_is_dark(self, section: Section) -> None:
        painter = DapiPainter(np.random.default_rng(0), section, PIXEL_SIZE_UM)
        assert painter.paint(0, 0, 40, 40).mean() < 60


class TestAlignment:
    @pytest.mark.parametrize("seed", range(5))
    def test_there_and_back(self, seed: int) -> None:
        frame = draw_alignment(np.random.default_rng(seed), 900, 600, 0.3)
        pixels = np.random.default_rng(seed).uniform(0, 500, (20, 2))
        um = pixels @ frame.to_um[:, :2].T + frame.to_um[:, 2]
        np.testing.assert_allclose(frame.from_um(um), pixels)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_slide_fits_closely(self, seed: int) -> None:
        frame = draw_alignment(np.random.default_rng(seed), 900, 600, 0.3)
        corners = frame.from_um(np.array([[0, 0], [900, 0], [0, 600], [900, 600.0]]))
        rows, columns = frame.shape
        np.testing.assert_allclose(corners.min(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(corners.max(axis=0), [columns, rows], atol=1)


class TestStain:
    def develop(self, haematoxylin: float, eosin: float, stain: Stain | None = None) -> np.ndarray:
        stain = stain or draw_stain(np.random.default_rng(0))
        stains = np.zeros((6 + 2 * HALO, 5 + 2 * HALO, 3), np.float32)
        stains[..., 0], stains[..., 1] = haematoxylin, eosin
        pixels = np.empty((6, 5, 3), np.uint8)
        sensor = np.zeros((1024, 1024), np.float32)
        develop(pixels, stains, (3, 4), stain.optical_density, stain.white, sensor)
        return pixels[3, 2].astype(float)

    def test_no_stain_is_white(self) -> None:
        stain = draw_stain(np.random.default_rng(0))
        np.testing.assert_allclose(self.develop(0, 0, stain), stain.white, atol=1)

    def test_light_falls_off_exponentially(self) -> None:
        stain = draw_stain(np.random.default_rng(0))
        once, twice = (-np.log(self.develop(0, e, stain) / stain.white) for e in (0.3, 0.6))
        np.testing.assert_allclose(twice, 2 * once, atol=0.02)

    @pytest.mark.parametrize("seed", range(10))
    def test_haematoxylin_is_blue_and_eosin_pink_in_every_laboratory(self, seed: int) -> None:
        stain = draw_stain(np.random.default_rng(seed))
        red, green, blue = self.develop(1, 0, stain)
        assert blue > red + 15
        assert blue > green + 15
        red, green, blue = self.develop(0, 0.5, stain)
        assert red > blue > green

    def test_laboratories_differ(self) -> None:
        first, second = (draw_stain(np.random.default_rng(seed)).optical_density for seed in (0, 1))
        assert np.abs(first - second).max() > 0.05


class TestHePainter:
    def painter(self, section: Section, mpp: float = 0.274) -> HePainter:
        to_um = np.array([[mpp, 0, 0], [0, mpp, 0.0]])
        return HePainter(np.random.default_rng(0), section, draw_stain(np.random.default_rng(1)), to_um)

    def test_tiles_fit_together(self, section: Section) -> None:
        painter = self.painter(section)
        x, y = int(section.cells.x[700] / 0.274), int(section.cells.y[700] / 0.274)
        whole = painter.paint(x, y, 210, 160)
        assert whole.min() < 100
        left = np.vstack([painter.paint(x, y, 97, 50), painter.paint(x, y + 50, 97, 110)])
        parts = np.hstack([left, painter.paint(x + 97, y, 113, 160)])
        # Sums of floats in another order may round to the next grey value.
        assert np.abs(parts.astype(int) - whole).max() <= 1

    def test_off_the_slide_is_white(self, section: Section) -> None:
        tile = self.painter(section).paint(-500, -500, 60, 60).astype(float)
        assert tile.mean() > 225
        assert 0.3 < tile.std(axis=(0, 1)).mean() < 4

    def test_frame_does_not_move_the_tissue(self, section: Section) -> None:
        """The same place looks alike in a frame turned by a quarter."""
        cell = 700
        um = np.array([section.cells.x[cell], section.cells.y[cell]])
        straight = self.painter(section)
        column, row = (um / 0.274).astype(int)
        first = straight.paint(column - 60, row - 60, 121, 121)
        turned_frame = 0.274 * np.array([[0.0, -1, 0], [1, 0, 0]])
        turned = HePainter(np.random.default_rng(0), section, draw_stain(np.random.default_rng(1)), turned_frame)
        # x of the slide is -y of the frame, y of the slide is its x.
        second = turned.paint(row - 60, -column - 61, 121, 121)
        back = np.rot90(second, -1)
        assert np.corrcoef(first.ravel(), back.ravel())[0, 1] > 0.97

    def test_types_that_share_a_look_are_painted_alike(self, section: Section) -> None:
        """Nuclei of two lymphocyte types have one colour, those of fibroblasts another."""
        painter, cells, types = self.painter(section), section.cells, section.cell_types
        nuclei = cells.nuclei

        def colours(name: str) -> np.ndarray:
            of_type = np.flatnonzero(cells.cell_type[nuclei.cell] == types.names.index(name))[:120]
            return np.array(
                [
                    painter.paint(int(nuclei.x[n] / 0.274) - 1, int(nuclei.y[n] / 0.274) - 1, 3, 3).mean()
                    for n in of_type
                ]
            )

        t_cell, b_cell, fibroblast = (colours(name) for name in ("CD4 T cell", "B cell", "Fibroblast"))
        assert abs(np.median(t_cell) - np.median(b_cell)) < 8
        assert abs(np.median(t_cell) - np.median(fibroblast)) > 15
