from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import spatialdata
import spatialdata_io
import tifffile
from spatialdata.testing import assert_spatial_data_objects_are_identical

import stdistill as sd


def replace(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def edit_specs(bundle: Path, **entries: Any) -> None:
    path = bundle / "experiment.xenium"
    replace(path, json.dumps({**json.loads(path.read_text()), **entries}))


def edit_cells(bundle: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = bundle / "cells.parquet"
    cells = edit(pd.read_parquet(path))
    path.unlink()
    cells.to_parquet(path)


def edit_alignment(bundle: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    (path,) = bundle.glob("*imagealignment.csv")
    matrix = edit(np.loadtxt(path, delimiter=","))
    path.unlink()
    np.savetxt(path, matrix, delimiter=",")


# ---- whole bundles


def test_what_is_read_by_default(bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        slide = sd.pp.read_xenium(bundle)
    assert {name for _, name, _ in slide.gen_elements()} == {"he", "cell_circles", "table"}
    table = slide["table"]
    assert table.n_obs == 800
    cells = pd.read_parquet(bundle / "cells.parquet")
    np.testing.assert_allclose(table.obsm["spatial"], cells[["x_centroid", "y_centroid"]], rtol=1e-6)
    assert table.X.sum() > 0
    record = table.uns["stdistill"]["read_xenium"]
    assert record["pixel_size"] == 0.2125
    assert record["xoa_version"].startswith("3.0.0")
    assert record["share_on_image"] == 1
    assert record["share_on_tissue"] > 0.9


def test_mpp_and_place_of_the_he(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    (path,) = bundle.glob("*imagealignment.csv")
    matrix = np.loadtxt(path, delimiter=",")
    mpp = np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) * 0.2125
    assert slide["table"].uns["stdistill"]["read_xenium"]["mpp"] == pytest.approx(mpp)
    pixels = sd.get.he_pixels(slide)
    there = matrix @ np.c_[pixels[["x", "y"]], np.ones(len(pixels))].T
    np.testing.assert_allclose(there[:2].T * 0.2125, slide["table"].obsm["spatial"], atol=0.002)
    np.testing.assert_allclose(sd.get.he_pixels(slide["table"])[["x", "y"]], pixels[["x", "y"]], atol=1e-6)


def test_same_place_as_spatialdata_io(bundle: Path) -> None:
    """Both readers put the same pixels at the same place of the morphology image."""
    ours, theirs = sd.pp.read_xenium(bundle), spatialdata_io.xenium(bundle, morphology_focus=False)
    theirs["he"] = theirs.images.pop("he_image")
    del theirs.shapes["cell_boundaries"]
    np.testing.assert_array_equal(ours["he"]["scale0"]["image"], theirs["he"]["scale0"]["image"])
    np.testing.assert_allclose(sd.get.he_pixels(ours)[["x", "y"]], sd.get.he_pixels(theirs)[["x", "y"]], atol=1.0)


@pytest.mark.parametrize("element", ["cell_labels", "cell_boundaries"])
def test_the_cells_as_other_elements(bundle: Path, element: str) -> None:
    slide = sd.pp.read_xenium(bundle, **{element: True})
    assert element in slide
    if element == "cell_labels":
        assert spatialdata.models.get_table_keys(slide["table"])[0] == "cell_labels"
    else:
        slide["table"].obs["region"] = pd.Categorical(["cell_boundaries"] * 800)
        slide.set_table_annotates_spatialelement("table", region="cell_boundaries")
    expected = sd.get.he_pixels(sd.pp.read_xenium(bundle))
    # Masks and polygons are drawn around the centres, not made from them: they agree to a part of a pixel.
    np.testing.assert_allclose(sd.get.he_pixels(slide)[["x", "y"]], expected[["x", "y"]], atol=0.3)


def test_everything_can_be_read(bundle: Path) -> None:
    slide = sd.pp.read_xenium(
        bundle, cell_boundaries=True, nucleus_boundaries=True, nucleus_labels=True, transcripts=True, morphology=True
    )
    names = {name for _, name, _ in slide.gen_elements()}
    assert names >= {"cell_boundaries", "nucleus_boundaries", "nucleus_labels", "transcripts", "morphology_focus"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_writes_and_reads_back_the_same(bundle: Path, tmp_path: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    slide.write(tmp_path / "slide.zarr")
    again = spatialdata.read_zarr(tmp_path / "slide.zarr")
    assert_spatial_data_objects_are_identical(slide, again)
    pd.testing.assert_frame_equal(sd.get.he_pixels(again), sd.get.he_pixels(slide))


def test_names_of_elements(bundle: Path) -> None:
    slide = sd.pp.read_xenium(bundle, image_key="histology", table_key="cells")
    assert set(slide.images) == {"histology"}
    assert set(slide.tables) == {"cells"}
    sd.pp.split_strips(slide, image_key="histology", table_key="cells", crop_px=32)
    assert "split" in slide["cells"].obs
    # The table remembers the image, also on its own.
    assert set(sd.get.he_pixels(slide["cells"])["image_key"]) == {"histology"}


def test_cell_groups(bundle: Path) -> None:
    table = sd.pp.read_xenium(bundle)["table"]
    groups = pd.read_csv(next(bundle.glob("*cell_groups.csv"))).set_index("cell_id")
    labelled = table.obs["cell_type"].dropna()
    assert labelled.to_dict() == groups.loc[labelled.index, "group"].to_dict()
    assert table.obs["cell_type"].isna().sum() == 800 - len(groups)
    colors = dict(zip(table.obs["cell_type"].cat.categories, table.uns["cell_type_colors"], strict=True))
    assert colors == groups.groupby("group")["color"].first().to_dict()


@pytest.mark.parametrize("version", ["xenium-3.0.0.15", "Xenium-3.0.0", "xenium-3.1.0-dev"])
def test_versions(own_bundle: Path, version: str) -> None:
    edit_specs(own_bundle, analysis_sw_version=version)
    record = sd.pp.read_xenium(own_bundle, he_image=False)["table"].uns["stdistill"]["read_xenium"]
    assert record["xoa_version"] == version.split("-")[1][:5]


def test_an_unparsable_version(own_bundle: Path) -> None:
    edit_specs(own_bundle, analysis_sw_version="R&D")
    with pytest.warns(UserWarning, match="cannot be parsed") as caught:
        slide = sd.pp.read_xenium(own_bundle, cell_boundaries=True)
    # One warning in our words, instead of spatialdata-io's own.
    ours, *theirs = [str(warning.message) for warning in caught if "parse" in str(warning.message)]
    assert '"analysis_sw_version"' in ours
    assert not theirs
    assert "xoa_version" not in slide["table"].uns["stdistill"]["read_xenium"]
    assert len(sd.get.he_pixels(slide)) == 800
    with pytest.raises(ValueError, match="cell_labels, morphology cannot be read without it"):
        sd.pp.read_xenium(own_bundle, cell_labels=True, morphology=True)


def test_real_specs(shared_data: Path) -> None:
    from stdistill._formats.xenium import _parse_version

    files = (shared_data / "xenium_specs").glob("*.xenium")
    versions = {path.name: _parse_version(json.loads(path.read_text())) for path in files}
    assert versions == {"experiment_v1.0.2.xenium": "1.0.2", "experiment_v3.0.0_nfcore_tiny.xenium": "3.0.0"}


def test_xenium_ranger_wins(own_bundle: Path) -> None:
    from stdistill._formats.xenium import _parse_version

    specs = {"analysis_sw_version": "xenium-1.3.0.5", "xenium_ranger": {"version": "xenium-2.0.0.10"}}
    assert _parse_version(specs) == "2.0.0"


def test_a_real_bundle(shared_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        slide = sd.pp.read_xenium(
            shared_data / "xenium_toy",
            cell_boundaries=True,
            nucleus_boundaries=True,
            cell_labels=True,
            nucleus_labels=True,
            transcripts=True,
            morphology=True,
        )
    assert slide["table"].shape == (526, 27)
    assert {"cell_labels", "nucleus_labels"} == set(slide.labels)
    assert {"cell_boundaries", "nucleus_boundaries"} == set(slide.shapes)
    assert {"morphology_mip", "morphology_focus"} == set(slide.images)
    sd.pp.neighborhoods(slide, n_neighbors=10)
    assert slide["table"].obsp["spatial_connectivities"].nnz > 0


def test_an_he_of_ones_own_over_a_real_bundle(shared_data: Path, tmp_path: Path) -> None:
    """An image anywhere on disk and an array as its alignment; labels of a real slide as annotated element."""
    cells = pd.read_parquet(shared_data / "xenium_toy" / "cells.parquet")
    tifffile.imwrite(tmp_path / "scan.tif", np.zeros((1200, 1200, 3), np.uint8), photometric="rgb")
    matrix = np.diag([6.0, 6, 1])
    circles, labels = (
        sd.pp.read_xenium(
            shared_data / "xenium_toy", he_image=tmp_path / "scan.tif", he_alignment=matrix, cell_labels=as_labels
        )
        for as_labels in (False, True)
    )
    expected = cells[["x_centroid", "y_centroid"]].to_numpy() / 0.2125 / 6
    np.testing.assert_allclose(sd.get.he_pixels(circles)[["x", "y"]], expected, atol=1e-6)
    # The masks of this bundle were drawn from simplified polygons.
    np.testing.assert_allclose(sd.get.he_pixels(labels)[["x", "y"]], expected, atol=0.1)


# ---- parts of bundles


def test_a_deposited_part(bundle: Path, tmp_path: Path) -> None:
    for name in ("cell_feature_matrix.h5", "cells.csv.gz"):
        (tmp_path / f"GSM1_{name}").symlink_to(bundle / name)
    with pytest.warns(UserWarning, match=r"has no experiment\.xenium"):
        part = sd.pp.read_xenium(tmp_path)
    whole = sd.pp.read_xenium(bundle, he_image=False)
    np.testing.assert_allclose(part["table"].obsm["spatial"], whole["table"].obsm["spatial"], atol=1e-3)
    assert (part["table"].X != whole["table"].X).nnz == 0
    assert part["cell_circles"].index.equals(whole["cell_circles"].index)
    np.testing.assert_allclose(part["cell_circles"]["radius"], whole["cell_circles"]["radius"], rtol=1e-3)


def test_a_part_with_its_he(bundle: Path, tmp_path: Path) -> None:
    for name in ("experiment.xenium", "cell_feature_matrix.h5", "cells.parquet"):
        (tmp_path / name).symlink_to(bundle / name)
    part = sd.pp.read_xenium(tmp_path, he_image=next(bundle.glob("*he_image.ome.tif")))
    whole = sd.pp.read_xenium(bundle)
    np.testing.assert_allclose(sd.get.he_pixels(part)[["x", "y"]], sd.get.he_pixels(whole)[["x", "y"]], atol=1e-6)
    with pytest.raises(ValueError, match=r"not a whole Xenium bundle .* transcripts cannot be read from it"):
        sd.pp.read_xenium(tmp_path, he_image=False, transcripts=True)


def test_a_part_in_another_order(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cell_feature_matrix.h5").symlink_to(bundle / "cell_feature_matrix.h5")
    cells = pd.read_parquet(bundle / "cells.parquet")
    cells.sample(frac=1, random_state=0).to_csv(tmp_path / "cells.csv.gz")
    with pytest.warns(UserWarning, match=r"no experiment\.xenium"):
        part = sd.pp.read_xenium(tmp_path)
    np.testing.assert_allclose(part["table"].obsm["spatial"], cells[["x_centroid", "y_centroid"]], atol=1e-3)


# ---- bad bundles


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no Xenium folder"):
        sd.pp.read_xenium(tmp_path / "missing")
    (tmp_path / "experiment.xenium").touch()
    with pytest.raises(
        FileNotFoundError, match=rf"experiment\.xenium is a file, and no Xenium folder; .* give the folder, {tmp_path}"
    ):
        sd.pp.read_xenium(tmp_path / "experiment.xenium")


def test_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        FileNotFoundError,
        match=r"has no cell_feature_matrix\.h5 and no cells\.parquet or cells\.csv\.gz\. It holds: notes\.txt\. Unpack",
    ):
        sd.pp.read_xenium(tmp_path)


def test_a_folder_above_the_bundle(bundle: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"The bundle seems to be .*outs"):
        sd.pp.read_xenium(bundle.parent)


def test_no_experiment_file(own_bundle: Path) -> None:
    (own_bundle / "experiment.xenium").unlink()
    with pytest.warns(UserWarning, match=r"has no experiment\.xenium: the table is read .*0\.2125 µm per pixel"):
        slide = sd.pp.read_xenium(own_bundle)
    assert slide["table"].n_obs == 800
    with (
        pytest.warns(UserWarning, match="has no experiment"),
        pytest.raises(ValueError, match="not a whole Xenium bundle"),
    ):
        sd.pp.read_xenium(own_bundle, cell_labels=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>404</html>", "is no JSON"),
        ("[1, 2]", "holds a list, expected a JSON object"),
        ('{"pixel_size": null}', "states pixel_size None"),
        ('{"pixel_size": 1e-320}', "states pixel_size 1e-320; expected µm per pixel"),
    ],
)
def test_a_broken_experiment_file(own_bundle: Path, text: str, message: str) -> None:
    replace(own_bundle / "experiment.xenium", text)
    with pytest.raises(ValueError, match=message):
        sd.pp.read_xenium(own_bundle)


def test_cell_ids_that_do_not_match(own_bundle: Path) -> None:
    edit_cells(own_bundle, lambda cells: cells.iloc[:-5])
    with pytest.raises(
        ValueError, match=r"\(800 cells\) and cells\.parquet \(795 cells\) do not match: 795 are in both"
    ):
        sd.pp.read_xenium(own_bundle)
    edit_cells(own_bundle, lambda cells: cells.assign(cell_id=[f"x{i}" for i in range(len(cells))]))
    with pytest.raises(ValueError, match=r"do not match: 0 are in both\. Examples: .*'x0', 'x1'"):
        sd.pp.read_xenium(own_bundle)


def test_cell_ids_in_another_order(own_bundle: Path) -> None:
    edit_cells(own_bundle, lambda cells: cells.iloc[::-1])
    with pytest.raises(ValueError, match="are in another order"):
        sd.pp.read_xenium(own_bundle)


def test_cell_ids_named_twice(own_bundle: Path) -> None:
    edit_cells(own_bundle, lambda cells: pd.concat([cells, cells.iloc[:3]]))
    with pytest.raises(ValueError, match="names 3 cells twice"):
        sd.pp.read_xenium(own_bundle)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_centers_that_are_not_finite(own_bundle: Path, value: float) -> None:
    edit_cells(own_bundle, lambda cells: cells.assign(x_centroid=np.r_[value, cells["x_centroid"][1:]]))
    with pytest.raises(ValueError, match="1 of 800 cells have a NaN or infinite centre"):
        sd.pp.read_xenium(own_bundle)


def test_zero_cells(own_bundle: Path) -> None:
    edit_cells(own_bundle, lambda cells: cells.iloc[:0])
    matrix = own_bundle / "cell_feature_matrix.h5"
    matrix.unlink()
    with h5py.File(matrix, "w") as file:
        file["matrix/barcodes"] = np.array([], dtype="S10")
        file["matrix/shape"] = np.array([2, 0])
        file["matrix/indptr"] = np.array([0])
        for name in ("data", "indices"):
            file[f"matrix/{name}"] = np.array([], dtype=np.int32)
        for name in ("id", "name", "feature_type"):
            file[f"matrix/features/{name}"] = np.array(["A", "B"], dtype="S1")
    with pytest.raises(ValueError, match=r"There are no cells in cell_feature_matrix\.h5 \(0 cells\)"):
        sd.pp.read_xenium(own_bundle)


def test_no_column_of_centers(own_bundle: Path) -> None:
    edit_cells(own_bundle, lambda cells: cells.drop(columns="x_centroid"))
    with pytest.raises(ValueError, match=r"cells\.parquet has no column \['x_centroid'\]"):
        sd.pp.read_xenium(own_bundle)


def test_cell_groups_of_another_slide(own_bundle: Path) -> None:
    (path,) = own_bundle.glob("*cell_groups.csv")
    for text, message in (
        ("cell_id,group\nsomeone,T cells\n", r"None of the 1 cells in .*cell_groups\.csv .* is on this slide"),
        ("barcode,cluster\n1,2\n", r"has the columns \['barcode', 'cluster'\]; expected cell_id, group"),
    ):
        replace(path, text)
        with pytest.raises(ValueError, match=message):
            sd.pp.read_xenium(own_bundle, cell_groups=path)
        # Nobody named it, and nothing but the cell types needs it.
        with pytest.warns(UserWarning, match=rf"{message}.*is left out: there is no"):
            assert "cell_type" not in sd.pp.read_xenium(own_bundle, he_image=False)["table"].obs
    with pytest.raises(FileNotFoundError, match="There is no file of cell groups"):
        sd.pp.read_xenium(own_bundle, cell_groups="types.csv")


def test_cell_groups_with_foreign_cells_and_no_colors(own_bundle: Path) -> None:
    (path,) = own_bundle.glob("*cell_groups.csv")
    first = pd.read_parquet(own_bundle / "cells.parquet")["cell_id"].iloc[0]
    first = first.decode() if isinstance(first, bytes) else first
    replace(path, f"cell_id,group\n{first},T cells\nsomeone,B cells\n")
    with pytest.warns(UserWarning, match="1 cells in .* are not on this slide"):
        table = sd.pp.read_xenium(own_bundle)["table"]
    assert table.obs["cell_type"].dropna().tolist() == ["T cells"]
    assert "cell_type_colors" not in table.uns


def test_a_cell_group_that_is_called_na(own_bundle: Path) -> None:
    """It may be one, or the word of another program for none: it is kept, and said."""
    (path,) = own_bundle.glob("*cell_groups.csv")
    groups = pd.read_csv(path)
    first = groups["group"].iloc[0]
    groups.replace({"group": {first: "NA"}}).to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"\.obs\['cell_type'\] has the labels \['NA'\], which count as any other"):
        table = sd.pp.read_xenium(own_bundle)["table"]
    assert (table.obs["cell_type"] == "NA").sum() == (groups["group"] == first).sum()


# ---- bad H&E images and alignments


def test_no_he_is_fine(own_bundle: Path) -> None:
    next(own_bundle.glob("*he_image.ome.tif")).unlink()
    slide = sd.pp.read_xenium(own_bundle)
    assert not slide.images
    with pytest.raises(KeyError, match=r"image_key='he' is not an image .* there is: none\. Read one with"):
        sd.get.he_pixels(slide)


def test_two_he_images(own_bundle: Path) -> None:
    (path,) = own_bundle.glob("*he_image.ome.tif")
    os_link = own_bundle / "second_he_image.ome.tif"
    os_link.symlink_to(path)
    with pytest.raises(ValueError, match=r"holds 2 H&E images: \['second_he_image.*Name the one to read"):
        sd.pp.read_xenium(own_bundle)
    assert sd.pp.read_xenium(own_bundle, he_image=path)["he"] is not None


def test_a_missing_alignment(own_bundle: Path) -> None:
    (path,) = own_bundle.glob("*imagealignment.csv")
    path.rename(own_bundle / "my_alignment.csv")
    with pytest.raises(
        FileNotFoundError, match=r"There is no alignment for .*he_image=False\. Candidates: \['my_alignment\.csv'\]"
    ):
        sd.pp.read_xenium(own_bundle)
    assert "he" in sd.pp.read_xenium(own_bundle, he_alignment=own_bundle / "my_alignment.csv").images
    assert not sd.pp.read_xenium(own_bundle, he_image=False).images


def test_an_alignment_without_an_image(own_bundle: Path) -> None:
    next(own_bundle.glob("*he_image.ome.tif")).unlink()
    with pytest.raises(ValueError, match="he_alignment was given, but no he_image"):
        sd.pp.read_xenium(own_bundle, he_alignment=np.eye(3))


def test_a_missing_image(bundle: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no H&E image .*scan\.tif"):
        sd.pp.read_xenium(bundle, he_image="scan.tif")


def test_an_alignment_the_wrong_way_round(own_bundle: Path) -> None:
    edit_alignment(own_bundle, np.linalg.inv)
    with pytest.raises(ValueError, match=r"Only \d+\.\d% of the 800 cells fall on the H&E.*np\.linalg\.inv\(matrix\)"):
        sd.pp.read_xenium(own_bundle)


def test_an_alignment_of_another_resolution(own_bundle: Path) -> None:
    """Landmarks set on a level of twice the pixel size: the cells crowd into a corner of the image."""
    edit_alignment(own_bundle, lambda matrix: matrix @ np.diag([2.0, 2, 1]))
    with pytest.warns(UserWarning, match=r"The H&E states 0\.2740 µm per pixel, .* makes it 0\.5480"):
        sd.pp.read_xenium(own_bundle)


def test_a_shifted_alignment(own_bundle: Path) -> None:
    def shift(matrix: np.ndarray) -> np.ndarray:
        move = np.eye(3)
        move[:2, 2] = 600  # pixels of the H&E: a good part of this small slide
        return matrix @ move

    edit_alignment(own_bundle, shift)
    with pytest.warns(UserWarning, match="cells fall off the H&E image; they will have no H&E features"):
        table = sd.pp.read_xenium(own_bundle)["table"]
    share = table.uns["stdistill"]["read_xenium"]["share_on_image"]
    assert share == pytest.approx(sd.get.he_pixels(table)["on_image"].mean())


@pytest.mark.parametrize(
    ("distort", "message"),
    [
        (np.diag([1.0, 1.3, 1]), "anisotropic"),
        (np.array([[1.0, 0.4, 0], [0, 1, 0], [0, 0, 1]]), "sheared"),
        (np.diag([0.0, 0, 1]), "singular"),
    ],
)
def test_distorting_alignments(own_bundle: Path, distort: np.ndarray, message: str) -> None:
    edit_alignment(own_bundle, lambda matrix: matrix @ distort)
    with pytest.raises(ValueError, match=message):
        sd.pp.read_xenium(own_bundle)


def test_a_mirrored_image(own_bundle: Path) -> None:
    """A section scanned from its back: image and alignment are mirrored, and the cells still lie on the tissue."""
    (path,) = own_bundle.glob("*he_image.ome.tif")
    pixels = tifffile.imread(path)
    path.unlink()
    tifffile.imwrite(path, pixels[:, ::-1], photometric="rgb", tile=(256, 256))
    mirror = np.array([[-1.0, 0, pixels.shape[1]], [0, 1, 0], [0, 0, 1]])
    edit_alignment(own_bundle, lambda matrix: matrix @ mirror)
    with pytest.warns(UserWarning, match="mirrors the image"):
        slide = sd.pp.read_xenium(own_bundle)
    assert sd.get.he_pixels(slide)["on_image"].all()


def test_glass_under_the_cells(own_bundle: Path) -> None:
    (path,) = own_bundle.glob("*he_image.ome.tif")
    shape = tifffile.imread(path).shape
    path.unlink()
    glass = np.full((shape[0] // 2, shape[1] // 2, 3), 240, np.uint8)
    tifffile.imwrite(path, glass, photometric="rgb")
    edit_alignment(own_bundle, lambda matrix: matrix @ np.diag([2.0, 2, 1]))
    with pytest.warns(UserWarning, match=r"Only 0\.0% of the cells on the H&E lie on stained tissue"):
        sd.pp.read_xenium(own_bundle)


def test_arguments_that_contradict(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="he_image must be the path of an image, False, or None"):
        sd.pp.read_xenium(bundle, he_image=True)
    with pytest.raises(ValueError, match="he_image=False leaves the image out"):
        sd.pp.read_xenium(bundle, he_image=False, he_alignment=np.eye(3))
    with pytest.raises(FileNotFoundError, match="which is a folder"):
        sd.pp.read_xenium(bundle, he_image=tmp_path, he_alignment=np.eye(3))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_bundle_without_any_version_is_read_in_part(own_bundle: Path) -> None:
    edit_specs(own_bundle, analysis_sw_version=None)
    assert sd.pp.read_xenium(own_bundle)["table"].n_obs == 800
    with pytest.raises(ValueError, match="not a whole Xenium bundle"):
        sd.pp.read_xenium(own_bundle, transcripts=True)


def test_a_matrix_that_was_not_copied_to_its_end(own_bundle: Path) -> None:
    path = own_bundle / "cell_feature_matrix.h5"
    replace(path, path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cell_feature_matrix\.h5 is no matrix .*copy it again"):
        sd.pp.read_xenium(own_bundle)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_cell_without_an_area(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cell_feature_matrix.h5").symlink_to(bundle / "cell_feature_matrix.h5")
    cells = pd.read_parquet(bundle / "cells.parquet")
    cells["cell_area"] = np.r_[0.0, np.nan, cells["cell_area"][2:]]
    cells.to_parquet(tmp_path / "cells.parquet")
    assert sd.pp.read_xenium(tmp_path)["cell_circles"]["radius"].iloc[:2].tolist() == [5.0, 5.0]


def test_an_h_and_e_that_was_turned(bundle: Path, tmp_path: Path) -> None:
    """By half, as in a viewer, and saved under its name: all cells are on the image, and on tissue."""
    folder = Path(shutil.copytree(bundle, tmp_path / "outs"))
    (image,) = folder.glob("*he_image.ome.tif")
    pixels = tifffile.imread(image)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sd.pp.read_xenium(folder)
    assert not any("on nuclei" in str(each.message) for each in said)
    tifffile.imwrite(image, pixels[::-1, ::-1].copy(), photometric="rgb", tile=(256, 256))
    with pytest.warns(UserWarning, match="do not seem to lie on nuclei of the H&E"):
        sd.pp.read_xenium(folder)
