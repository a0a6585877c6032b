from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import tifffile
import zarr
from scipy import ndimage
from shapely import Point, Polygon
from shapely.geometry import shape
from spatialdata import SpatialData
from spatialdata_io import xenium

import stdistill as sd
from stdistill.datasets._simulation.writing import bundle as bundle_module

N_CELLS = 700
PIXEL_SIZE = 0.2125
VERSIONS = ("1.0.2", "1.7.6", "2.0.0", "3.0.0", "4.0.0")


def truth_of(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path.parent / f"{path.name}_truth.parquet")


def read(path: Path) -> SpatialData:
    """Read a bundle with all defaults; no warning may reach the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Readers of real bundles trigger these too: they are about the code of third parties, not about the data.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
        return xenium(path)


def he_pixels(path: Path) -> np.ndarray:
    return tifffile.imread(path / "simulated_he_image.ome.tif")


def alignment(path: Path) -> np.ndarray:
    return pd.read_csv(path / "simulated_he_imagealignment.csv", header=None).to_numpy()


def to_he(path: Path, um: np.ndarray) -> np.ndarray:
    """Places on the slide in µm, as H&E pixels (x, y)."""
    points = np.c_[um / PIXEL_SIZE, np.ones(len(um))]
    return (points @ np.linalg.inv(alignment(path)).T)[:, :2]


def centroids(path: Path) -> np.ndarray:
    return pd.read_parquet(path / "cells.parquet")[["x_centroid", "y_centroid"]].to_numpy()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle of every layout, of the same tissue."""
    folder = tmp_path_factory.mktemp("layouts")
    return {v: sd.datasets.simulate_xenium(folder / v, n_cells=N_CELLS, seed=4, xoa_version=v) for v in VERSIONS}


@pytest.fixture(scope="module")
def outs(bundles: dict[str, Path]) -> Path:
    return bundles["3.0.0"]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tissue as `outs`, simulated once more."""
    folder = tmp_path_factory.mktemp("again")
    return sd.datasets.simulate_xenium(folder / "outs", n_cells=N_CELLS, seed=4)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tissue of the same size."""
    folder = tmp_path_factory.mktemp("other")
    return sd.datasets.simulate_xenium(folder / "outs", n_cells=N_CELLS, seed=5)


class TestReading:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_layout_reads_without_a_warning(self, bundles: dict[str, Path], version: str) -> None:
        sdata = read(bundles[version])
        images = {"he_image", "morphology_focus"}
        if version < "2":
            images.add("morphology_mip")
        assert set(sdata.images) == images
        assert set(sdata.labels) == {"cell_labels", "nucleus_labels"}
        assert set(sdata.shapes) == {"cell_boundaries", "nucleus_boundaries"}
        assert sdata["table"].n_obs == N_CELLS
        assert len(sdata["cell_boundaries"]) == N_CELLS
        assert sdata["cell_boundaries"].is_valid.all()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_identifiers_agree_across_files(self, bundles: dict[str, Path], version: str) -> None:
        path = bundles[version]
        cells = pd.read_parquet(path / "cells.parquet")
        matrix = sc.read_10x_h5(path / "cell_feature_matrix.h5", gex_only=False)
        assert cells["cell_id"].is_unique
        assert matrix.obs_names.tolist() == cells["cell_id"].astype(str).tolist()
        assert pd.read_csv(path / "cells.csv.gz")["cell_id"].tolist() == cells["cell_id"].tolist()
        boundaries = pd.read_parquet(path / "cell_boundaries.parquet")
        assert boundaries["cell_id"].drop_duplicates().tolist() == cells["cell_id"].tolist()
        assert set(pd.read_parquet(path / "transcripts.parquet")["cell_id"]) <= set(cells["cell_id"])
        assert truth_of(path)["cell_id"].tolist() == cells["cell_id"].tolist()

    def test_identifiers_are_whole_numbers_in_the_oldest_layout(self, bundles: dict[str, Path]) -> None:
        ids = pd.read_parquet(bundles["1.0.2"] / "cells.parquet")["cell_id"]
        assert ids.tolist() == list(range(1, N_CELLS + 1))
        ids = pd.read_parquet(bundles["1.7.6"] / "cells.parquet")["cell_id"]
        assert ids.str.fullmatch("[a-p]{8}-1").all()

    def test_table_has_what_users_expect(self, outs: Path) -> None:
        adata = read(outs)["table"]
        np.testing.assert_allclose(adata.obsm["spatial"], centroids(outs))
        assert {"cell_area", "nucleus_area", "transcript_counts", "nucleus_count", "z_level"} <= set(adata.obs)
        assert 180 <= adata.n_vars <= 260
        assert {"EPCAM", "CD3D"} & set(adata.var_names)
        assert (adata.var["feature_types"] == "Gene Expression").all()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_experiment_names_files_that_exist(self, bundles: dict[str, Path], version: str) -> None:
        path = bundles[version]
        specs = json.loads((path / "experiment.xenium").read_text())
        assert specs["pixel_size"] == PIXEL_SIZE
        assert specs["num_cells"] == N_CELLS
        assert specs["analysis_sw_version"].startswith(f"xenium-{version}")
        for name in (*specs["images"].values(), *specs["xenium_explorer_files"].values()):
            assert (path / name).is_file()

    def test_layouts_differ_where_real_ones_do(self, bundles: dict[str, Path]) -> None:
        groups = {}
        for version, path in bundles.items():
            with zarr.storage.ZipStore(path / "cells.zarr.zip", read_only=True) as store:
                groups[version] = set(zarr.open(store, mode="r"))
        common = {"cell_id", "cell_summary", "masks"}
        assert groups["1.0.2"] == common
        assert groups["1.7.6"] == common | {"seg_mask_value"}
        assert groups["2.0.0"] == groups["3.0.0"] == groups["4.0.0"] == common | {"polygon_sets"}
        assert "label_id" not in pd.read_parquet(bundles["1.7.6"] / "cell_boundaries.parquet")
        assert "label_id" in pd.read_parquet(bundles["2.0.0"] / "cell_boundaries.parquet")
        assert (bundles["1.7.6"] / "morphology_mip.ome.tif").is_file()
        assert (bundles["4.0.0"] / "morphology_focus" / "ch0000_dapi.ome.tif").is_file()
        assert read(bundles["4.0.0"])["morphology_focus"]["scale0"].c.values.tolist() == ["DAPI"]


class TestMolecules:
    def test_counts_are_the_tally_of_transcripts(self, outs: Path) -> None:
        matrix = sc.read_10x_h5(outs / "cell_feature_matrix.h5", gex_only=False)
        counts = matrix.to_df()
        transcripts = pd.read_parquet(outs / "transcripts.parquet")
        tally = transcripts.groupby(["cell_id", "feature_name"]).size().unstack(fill_value=0)
        tally = tally.reindex(index=counts.index, columns=counts.columns, fill_value=0)
        np.testing.assert_array_equal(tally, counts)

    def test_counts_are_whole_and_as_many_as_in_real_slides(self, outs: Path) -> None:
        with h5py.File(outs / "cell_feature_matrix.h5") as h5:
            data = h5["matrix/data"][:]
        assert np.issubdtype(data.dtype, np.integer)
        assert data.min() > 0
        assert 60 < pd.read_parquet(outs / "cells.parquet")["transcript_counts"].median() < 250

    def test_controls_have_their_own_types_and_are_rare(self, outs: Path) -> None:
        matrix = sc.read_10x_h5(outs / "cell_feature_matrix.h5", gex_only=False)
        totals = matrix.to_df().T.groupby(matrix.var["feature_types"], observed=True).sum().sum(axis=1)
        assert {"Gene Expression", "Negative Control Probe", "Negative Control Codeword"} <= set(totals.index)
        assert 0 < totals.drop("Gene Expression").sum() < 0.01 * totals["Gene Expression"]

    def test_cell_columns_add_up(self, outs: Path) -> None:
        cells = pd.read_parquet(outs / "cells.parquet")
        parts = cells.filter(regex="_counts$").drop(columns="total_counts")
        np.testing.assert_array_equal(parts.sum(axis=1), cells["total_counts"])
        matrix = sc.read_10x_h5(outs / "cell_feature_matrix.h5")
        np.testing.assert_array_equal(np.asarray(matrix.X.sum(axis=1)).ravel(), cells["transcript_counts"])

    def test_molecules_lie_in_their_cell(self, outs: Path) -> None:
        transcripts = pd.read_parquet(outs / "transcripts.parquet").sample(3000, random_state=0)
        polygons = read(outs)["cell_boundaries"].geometry
        inside = [
            polygons[cell].buffer(0.05).contains(Point(x, y))
            for cell, x, y in transcripts[["cell_id", "x_location", "y_location"]].itertuples(index=False)
        ]
        assert all(inside)

    def test_overlaps_nucleus_says_the_truth(self, outs: Path) -> None:
        transcripts = pd.read_parquet(outs / "transcripts.parquet").sample(3000, random_state=1)
        nuclei = read(outs)["nucleus_boundaries"].groupby("cell_id").geometry.agg(list)
        measured = [
            any(nucleus.contains(Point(x, y)) for nucleus in nuclei.get(cell, []))
            for cell, x, y in transcripts[["cell_id", "x_location", "y_location"]].itertuples(index=False)
        ]
        # A few lie on an edge, where rounding decides.
        assert np.mean(transcripts["overlaps_nucleus"].astype(bool) == measured) > 0.995
        assert 0.3 < transcripts["overlaps_nucleus"].mean() < 0.95

    def test_quality_is_that_of_counted_molecules(self, outs: Path) -> None:
        transcripts = pd.read_parquet(outs / "transcripts.parquet")
        assert transcripts["transcript_id"].is_unique
        assert transcripts["qv"].between(20, 40).all()

    def test_markers_separate_types_that_look_the_same(self, outs: Path) -> None:
        matrix = sc.read_10x_h5(outs / "cell_feature_matrix.h5").to_df()
        cell_type = truth_of(outs)["cell_type"].to_numpy()
        genes = [gene for gene in ("MS4A1", "CD79A", "CD79B", "CD19", "CD37", "BANK1", "PAX5") if gene in matrix]
        b_cells = matrix.loc[cell_type == "B cell", genes].to_numpy().mean()
        t_cells = matrix.loc[cell_type == "CD4 T cell", genes].to_numpy().mean()
        assert b_cells > 4 * t_cells


class TestSegmentation:
    def test_label_images_name_the_cell_at_its_centroid(self, outs: Path) -> None:
        sdata = read(outs)
        labels = sdata["cell_labels"]["scale0"].image.to_numpy()
        column, row = (centroids(outs) / PIXEL_SIZE).astype(int).T
        np.testing.assert_array_equal(labels[row, column], sdata["table"].obs["cell_labels"])

    def test_every_label_is_a_cell_and_one_piece(self, outs: Path) -> None:
        labels = read(outs)["cell_labels"]["scale0"].image.to_numpy()
        assert set(np.unique(labels)) == set(range(N_CELLS + 1))
        for label, window in enumerate(ndimage.find_objects(labels)[:60], start=1):
            assert ndimage.label(labels[window] == label, np.ones((3, 3)))[1] == 1

    def test_polygons_contain_centroids_and_match_labels(self, outs: Path) -> None:
        sdata = read(outs)
        polygons = sdata["cell_boundaries"].geometry
        for polygon, centroid in zip(polygons, centroids(outs), strict=True):
            assert polygon.contains(Point(centroid))
        pixels = np.bincount(sdata["cell_labels"]["scale0"].image.to_numpy().ravel(), minlength=N_CELLS + 1)[1:]
        np.testing.assert_allclose(pixels * PIXEL_SIZE**2, polygons.area, rtol=0.05, atol=0.8)
        np.testing.assert_allclose(sdata["table"].obs["cell_area"], polygons.area, rtol=0.01)

    def test_cells_do_not_overlap(self, outs: Path) -> None:
        cells = read(outs)["cell_boundaries"].geometry
        assert cells.union_all().area > 0.999 * cells.area.sum()

    def test_nuclei_lie_in_their_cell(self, outs: Path) -> None:
        sdata = read(outs)
        cells, nuclei = sdata["cell_boundaries"].geometry, sdata["nucleus_boundaries"]
        for cell, nucleus in zip(nuclei["cell_id"], nuclei.geometry, strict=True):
            assert cells[cell].buffer(0.02).contains(nucleus)

    def test_some_cells_have_no_nucleus_and_some_two(self, bundles: dict[str, Path]) -> None:
        for version in ("2.0.0", "3.0.0", "4.0.0"):
            sdata = read(bundles[version])
            count = sdata["table"].obs["nucleus_count"]
            assert set(count) == {0, 1, 2}
            of_cell = sdata["nucleus_boundaries"]["cell_id"].value_counts()
            np.testing.assert_array_equal(of_cell.reindex(sdata["table"].obs["cell_id"], fill_value=0), count)
            area = sdata["table"].obs["nucleus_area"]
            assert area[count == 0].isna().all()
            assert (area[count > 0] > 0).all()

    def test_every_cell_has_one_nucleus_in_old_layouts(self, bundles: dict[str, Path]) -> None:
        for version in ("1.0.2", "1.7.6"):
            assert len(read(bundles[version])["nucleus_boundaries"]) == N_CELLS

    def test_layouts_show_the_same_tissue(self, bundles: dict[str, Path]) -> None:
        truths = [truth_of(path) for path in bundles.values()]
        for truth in truths[1:]:
            assert truth["niche"].tolist() == truths[0]["niche"].tolist()
            assert truth["cell_type"].tolist() == truths[0]["cell_type"].tolist()
        for path in bundles.values():
            np.testing.assert_allclose(centroids(path), centroids(bundles["3.0.0"]), atol=1e-6)


class TestHE:
    def test_is_a_pyramid_of_jpeg_tiles(self, outs: Path) -> None:
        with tifffile.TiffFile(outs / "simulated_he_image.ome.tif") as tiff:
            (series,) = tiff.series
            levels = series.levels
            assert tiff.is_ome
            assert len(tiff.pages) == 1
            assert len(tiff.pages[0].subifds) == len(levels) - 1 >= 1
            for level in levels:
                page = level.pages[0]
                assert (page.tilewidth, page.tilelength) == (512, 512)
                assert page.compression == tifffile.COMPRESSION.JPEG
                assert level.shape[2] == 3
                assert level.dtype == np.uint8
            for larger, smaller in itertools.pairwise(levels):
                assert smaller.shape[:2] == (larger.shape[0] // 2, larger.shape[1] // 2)
            assert max(levels[-1].shape[:2]) <= 512

    def test_levels_show_the_same_picture(self, outs: Path) -> None:
        with tifffile.TiffFile(outs / "simulated_he_image.ome.tif") as tiff:
            large, small = (tiff.series[0].levels[level].asarray().astype(float) for level in (0, 1))
        rows, columns = small.shape[:2]
        halved = large[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3).mean(axis=(1, 3))
        assert np.abs(halved - small).mean() < 4

    @pytest.mark.parametrize("he_mpp", [0.274, 0.5])
    def test_scale_is_that_of_the_alignment(self, tmp_path: Path, outs: Path, he_mpp: float) -> None:
        path = outs
        if he_mpp != 0.274:
            path = sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=150, he_mpp=he_mpp)
        with tifffile.TiffFile(path / "simulated_he_image.ome.tif") as tiff:
            image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert image["PhysicalSizeXUnit"] == image["PhysicalSizeYUnit"] == "µm"
        determinant = np.linalg.det(alignment(path)[:2, :2])
        assert determinant > 0
        for size in (image["PhysicalSizeX"], image["PhysicalSizeY"], np.sqrt(determinant) * PIXEL_SIZE):
            assert float(size) == pytest.approx(he_mpp, rel=1e-6)

    def test_alignment_is_a_quarter_turn_without_shear(self, outs: Path, other: Path) -> None:
        for path in (outs, other):
            (a, b), (c, d) = alignment(path)[:2, :2]
            assert a == pytest.approx(d)
            assert b == pytest.approx(-c)
            assert abs(abs(np.degrees(np.arctan2(c, a))) - 90) <= 3
            np.testing.assert_array_equal(alignment(path)[2], [0, 0, 1])

    def test_turns_to_either_side(self) -> None:
        from stdistill.datasets._simulation.painting.frames import draw_alignment

        turns = [draw_alignment(np.random.default_rng(seed), 900, 700, 0.274).matrix[1, 0] for seed in range(20)]
        assert min(turns) < 0 < max(turns)

    def test_all_cells_lie_on_the_image(self, outs: Path, other: Path) -> None:
        for path in (outs, other):
            rows, columns = he_pixels(path).shape[:2]
            x, y = to_he(path, centroids(path)).T
            assert ((x > 0) & (x < columns) & (y > 0) & (y < rows)).all()

    def test_nuclei_lie_where_the_alignment_says(self, bundles: dict[str, Path], other: Path) -> None:
        for path in (bundles["1.7.6"], bundles["3.0.0"], other):
            # Haematoxylin absorbs red light, eosin hardly does.
            red = he_pixels(path)[..., 0].astype(float)
            with zarr.storage.ZipStore(path / "cells.zarr.zip", read_only=True) as store:
                summary = zarr.open(store, mode="r")["cell_summary"]
                frame = pd.DataFrame(summary[:], columns=summary.attrs["column_names"])
            um = frame[["nucleus_centroid_x", "nucleus_centroid_y"]].dropna().to_numpy()
            if "nucleus_count" in frame:
                um = frame.loc[frame["nucleus_count"] == 1, ["nucleus_centroid_x", "nucleus_centroid_y"]].to_numpy()
            x, y = to_he(path, um).astype(int).T
            at_nuclei = red[y, x].mean()
            shifted = [
                red[np.clip(y + dy, 0, len(red) - 1), np.clip(x + dx, 0, red.shape[1] - 1)].mean()
                for dx, dy in ((45, 0), (-45, 0), (0, 45), (0, -45))
            ]
            assert at_nuclei < min(shifted) - 40

    def test_a_shift_of_few_pixels_would_be_seen(self, outs: Path) -> None:
        """The nuclei of the label image and those of the H&E overlap best without a shift."""
        sdata = read(outs)
        labels = sdata["nucleus_labels"]["scale0"].image.to_numpy() > 0
        image = he_pixels(outs)[..., 0].astype(float)
        rows, columns = image.shape
        y, x = np.mgrid[0:rows:3, 0:columns:3]
        matrix = alignment(outs)

        def darkness(dx: int, dy: int) -> float:
            px = matrix[:2] @ np.stack([x.ravel() + 0.5 + dx, y.ravel() + 0.5 + dy, np.ones(x.size)])
            column, row = np.floor(px).astype(int)
            valid = (column >= 0) & (row >= 0) & (column < labels.shape[1]) & (row < labels.shape[0])
            nucleus = np.zeros(x.size, bool)
            nucleus[valid] = labels[row[valid], column[valid]]
            return float(-image[y.ravel()[nucleus], x.ravel()[nucleus]].mean())

        here = darkness(0, 0)
        for dx, dy in ((4, 0), (-4, 0), (0, 4), (0, -4)):
            assert here > darkness(dx, dy) + 1

    def test_slide_is_white_around_pink_tissue(self, outs: Path) -> None:
        image = he_pixels(outs)
        for corner in (image[:20, :20], image[-20:, -20:], image[:20, -20:], image[-20:, :20]):
            assert corner.mean() > 225
        x, y = to_he(outs, centroids(outs)).astype(int).T
        window = image[y.min() : y.max(), x.min() : x.max()].reshape(-1, 3).astype(float)
        tissue = window[window.mean(axis=1) < 215].mean(axis=0)
        assert tissue[1] < tissue[2]
        assert tissue[1] < tissue[0]


class TestDapi:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_glows_in_the_nuclei(self, bundles: dict[str, Path], version: str) -> None:
        sdata = read(bundles[version])
        image = sdata["morphology_focus"]["scale0"].image.to_numpy()[0]
        labels = sdata["nucleus_labels"]["scale0"].image.to_numpy()
        assert image.dtype == np.uint16
        assert image.shape == labels.shape
        assert image[labels > 0].mean() > 5 * image[labels == 0].mean()

    def test_is_compressed_and_pyramidal(self, outs: Path) -> None:
        with tifffile.TiffFile(outs / "morphology_focus" / "morphology_focus_0000.ome.tif") as tiff:
            page = tiff.pages[0]
            assert page.compression != tifffile.COMPRESSION.NONE
            assert page.is_tiled
            assert len(tiff.series[0].levels) > 1
            assert "PhysicalSizeX" in tiff.ome_metadata


class TestAnnotation:
    def test_cell_groups_leave_out_few_cells(self, outs: Path) -> None:
        groups = pd.read_csv(outs / "simulated_cell_groups.csv")
        assert groups.columns.tolist() == ["cell_id", "group", "color"]
        assert 0.95 * N_CELLS < len(groups) < N_CELLS
        assert groups["color"].str.fullmatch("#[0-9A-F]{6}").all()
        assert (groups.groupby("group")["color"].nunique() == 1).all()
        truth = truth_of(outs).set_index("cell_id")["cell_type"]
        assert (truth[groups["cell_id"]].to_numpy() == groups["group"].to_numpy()).all()

    def test_pathology_is_qupath_geojson_over_the_tissue(self, outs: Path) -> None:
        collection = json.loads((outs / "simulated_pathology.geojson").read_text())
        assert collection["type"] == "FeatureCollection"
        rows, columns = he_pixels(outs).shape[:2]
        regions = [shape(feature["geometry"]) for feature in collection["features"]]
        assert regions
        for feature, region in zip(collection["features"], regions, strict=True):
            assert isinstance(region, Polygon)
            assert region.is_valid
            left, top, right, bottom = region.bounds
            assert -30 <= left <= right <= columns + 30
            assert -30 <= top <= bottom <= rows + 30
            assert feature["properties"]["classification"]["name"]
            assert len(feature["properties"]["classification"]["color"]) == 3
        covered = np.mean([any(r.contains(Point(p)) for r in regions) for p in to_he(outs, centroids(outs))[::5]])
        assert covered > 0.7

    def test_regions_follow_the_niches(self, tmp_path: Path) -> None:
        path = sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=3000, seed=2, n_niches=3)
        features = json.loads((path / "simulated_pathology.geojson").read_text())["features"]
        lymphoid = [f for f in features if f["properties"]["classification"]["name"] == "Lymphoid aggregate"]
        points = to_he(path, centroids(path))
        inside = np.array([any(shape(f["geometry"]).contains(Point(p)) for f in lymphoid) for p in points])
        niche = truth_of(path)["niche"] == "lymphoid aggregate"
        assert niche[inside].mean() > 0.6 > 0.3 > niche[~inside].mean()


class TestTruth:
    def test_lies_beside_the_bundle(self, outs: Path) -> None:
        truth = truth_of(outs)
        assert truth.columns.tolist() == ["cell_id", "niche", "cell_type"]
        assert len(truth) == N_CELLS
        assert not list(outs.rglob("*truth*"))

    def test_no_reader_sees_a_niche(self, bundles: dict[str, Path]) -> None:
        names = set().union(*(truth_of(path)["niche"] for path in bundles.values()))
        for path in bundles.values():
            adata = read(path)["table"]
            assert not [column for column in adata.obs if "niche" in column.lower()]
            for column in adata.obs.select_dtypes(["object", "category", "string"]):
                assert not names & set(adata.obs[column].astype(str))
            for file in path.glob("*.parquet"):
                assert not [c for c in pd.read_parquet(file).columns if "niche" in c.lower()]
            assert "niche" not in (path / "experiment.xenium").read_text()

    def test_identifiers_do_not_tell_the_niche(self, outs: Path) -> None:
        """Cells of one niche are not numbered in one run."""
        niche = truth_of(outs)["niche"]
        assert (niche != niche.shift()).sum() > 3 * niche.nunique()

    def test_niches_are_domains_of_mixed_types(self, tmp_path: Path) -> None:
        from scipy.spatial import cKDTree

        path = sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=3000, seed=7)
        truth = truth_of(path)
        neighbours = cKDTree(centroids(path)).query(centroids(path), k=9)[1][:, 1:]
        niche, cell_type = truth["niche"].to_numpy(), truth["cell_type"].to_numpy()
        assert np.mean(niche[neighbours] == niche[:, None]) > 0.75
        assert np.mean(cell_type[neighbours] == cell_type[:, None]) < 0.6
        shares = pd.crosstab(truth["niche"], truth["cell_type"], normalize="index").max(axis=1)
        assert shares.median() < 0.9


class TestSeeds:
    def test_same_seed_same_arrays(self, outs: Path, again: Path) -> None:
        for name in ("cells", "cell_boundaries", "nucleus_boundaries", "transcripts"):
            pd.testing.assert_frame_equal(
                pd.read_parquet(outs / f"{name}.parquet"), pd.read_parquet(again / f"{name}.parquet")
            )
        np.testing.assert_array_equal(he_pixels(outs), he_pixels(again))
        dapi = "morphology_focus/morphology_focus_0000.ome.tif"
        np.testing.assert_array_equal(tifffile.imread(outs / dapi), tifffile.imread(again / dapi))
        for name in ("simulated_he_imagealignment.csv", "simulated_cell_groups.csv", "simulated_pathology.geojson"):
            assert (outs / name).read_bytes() == (again / name).read_bytes()
        pd.testing.assert_frame_equal(truth_of(outs), truth_of(again))

    def test_other_seed_other_tissue(self, outs: Path, other: Path) -> None:
        assert not np.allclose(centroids(outs), centroids(other))
        assert set(truth_of(outs)["niche"]) != set(truth_of(other)["niche"])
        assert set(truth_of(outs)["cell_type"]) != set(truth_of(other)["cell_type"])
        genes = [set(sc.read_10x_h5(path / "cell_feature_matrix.h5").var_names) for path in (outs, other)]
        assert genes[0] != genes[1]
        assert not np.allclose(alignment(outs)[:2, :2], alignment(other)[:2, :2], atol=1e-4)
        colours = [he_pixels(path)[..., :].reshape(-1, 3).min(axis=0).astype(int) for path in (outs, other)]
        assert np.abs(colours[0] - colours[1]).max() > 2


class TestFiles:
    def test_returns_the_path(self, outs: Path, tmp_path: Path) -> None:
        assert sd.datasets.simulate_xenium(str(tmp_path / "deep" / "outs"), n_cells=100) == tmp_path / "deep" / "outs"
        assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["outs", "outs_truth.parquet"]

    def test_existing_bundle_stays(self, tmp_path: Path) -> None:
        (tmp_path / "outs").mkdir()
        with pytest.raises(FileExistsError, match="overwrite=True"):
            sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
        assert list(tmp_path.iterdir()) == [tmp_path / "outs"]

    def test_existing_truth_stays(self, tmp_path: Path) -> None:
        (tmp_path / "outs_truth.parquet").write_text("mine")
        with pytest.raises(FileExistsError, match="outs_truth"):
            sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
        assert (tmp_path / "outs_truth.parquet").read_text() == "mine"

    def test_overwrite_replaces_a_simulated_bundle(self, tmp_path: Path) -> None:
        path = sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100, xoa_version="1.7.6")
        sd.datasets.simulate_xenium(path, n_cells=120, overwrite=True)
        assert len(pd.read_parquet(path / "cells.parquet")) == len(truth_of(path)) == 120
        assert not (path / "morphology_mip.ome.tif").exists()

    @pytest.mark.parametrize("content", [None, "not JSON", "[]", '{"run_name": "real"}'])
    def test_overwrite_never_deletes_anything_else(self, tmp_path: Path, content: str | None) -> None:
        (tmp_path / "outs").mkdir()
        (tmp_path / "outs" / "precious.txt").write_text("keep")
        if content is not None:
            (tmp_path / "outs" / "experiment.xenium").write_text(content)
        with pytest.raises(FileExistsError, match="is no bundle that simulate_xenium wrote"):
            sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100, overwrite=True)
        assert (tmp_path / "outs" / "precious.txt").read_text() == "keep"

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_a_failure_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(bundle_module, "write_pyramid", fail)
        with pytest.raises(error):
            sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_the_old_bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = sd.datasets.simulate_xenium(tmp_path / "outs", n_cells=100)
        before = truth_of(path)

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(bundle_module, "write_cells_zarr", fail)
        with pytest.raises(RuntimeError):
            sd.datasets.simulate_xenium(path, n_cells=100, seed=9, overwrite=True)
        pd.testing.assert_frame_equal(truth_of(path), before)
        assert read(path)["table"].n_obs == 100


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"n_cells": 99}, ValueError, "n_cells must be at least 100, found 99"),
            ({"n_cells": 1e3}, TypeError, "n_cells must be an integer, found 1000.0"),
            ({"n_cells": "many"}, TypeError, "n_cells must be an integer, found 'many'"),
            ({"seed": -1}, ValueError, "seed must be at least 0, found -1"),
            ({"seed": None}, TypeError, "seed must be an integer, found None"),
            ({"n_niches": 1}, ValueError, "n_niches must be at least 2 and at most 26, found 1"),
            ({"n_niches": 27}, ValueError, "n_niches must be at least 2 and at most 26, found 27"),
            ({"n_cell_types": 5}, ValueError, "n_cell_types must be at least 6 and at most 22, found 5"),
            ({"n_cell_types": 23}, ValueError, "n_cell_types must be at least 6 and at most 22, found 23"),
            ({"he_mpp": 0}, ValueError, "he_mpp must be positive and finite, found 0"),
            ({"he_mpp": 0.05}, ValueError, "he_mpp must be at least 0.1 and at most 2.0 µm per pixel, found 0.05"),
            ({"he_mpp": 2.5}, ValueError, "he_mpp must be at least 0.1 and at most 2.0 µm per pixel, found 2.5"),
            ({"he_mpp": float("nan")}, ValueError, "he_mpp must be positive and finite, found nan"),
            ({"he_mpp": "0.5"}, TypeError, "he_mpp must be a number, found '0.5'"),
            ({"xoa_version": "5.0.0"}, ValueError, r"1\.0\.2', '1\.7\.6', '2\.0\.0', '3\.0\.0', '4\.0\.0'\].*'5.0.0'"),
        ],
    )
    def test_bad_ones_are_named(
        self, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            sd.datasets.simulate_xenium(tmp_path / "outs", **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_documented_versions_are_those_that_can_be_written(self) -> None:
        from stdistill.datasets._simulation.writing.layout import LAYOUTS

        assert tuple(LAYOUTS) == VERSIONS
        assert all(f'``"{version}"``' in sd.datasets.simulate_xenium.__doc__ for version in VERSIONS)

    @pytest.mark.parametrize(
        "arguments",
        [{"n_niches": 2, "n_cell_types": 6}, {"n_niches": 26, "n_cell_types": 22}, {"n_cells": np.int64(100)}],
    )
    def test_extremes_work(self, tmp_path: Path, arguments: dict[str, Any]) -> None:
        path = sd.datasets.simulate_xenium(tmp_path / "outs", **{"n_cells": 150, **arguments})
        truth = truth_of(path)
        assert len(truth) == arguments.get("n_cells", 150)
        assert truth["niche"].nunique() <= arguments.get("n_niches", 8)
        assert truth["cell_type"].nunique() <= arguments.get("n_cell_types", 16)


def test_importing_stays_light() -> None:
    heavy = ["numba", "tifffile", "zarr", "pandas", "pyarrow", "h5py", "scipy"]
    code = f"import sys, stdistill.datasets; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
