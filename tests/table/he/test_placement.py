from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
from spatialdata.transformations import Affine, Identity, set_transformation

import stdistill as sd
from stdistill._slide.affine import apply_affine
from stdistill._slide.plan import crop_origins
from stdistill._table.he.placement import he_frames
from stdistill._table.records import write_record

PIXEL_SIZE = 0.2125
MAPS = {
    "identity": np.eye(3),
    "quarter turn as 10x": np.array([[0.011071, 1.289579, 807.979], [-1.289579, 0.011071, 73097.655], [0, 0, 1]]),
    "half turn": np.array([[-1.0, 0, 300], [0, -1, 400], [0, 0, 1]]),
    "mirror": np.array([[-0.5, 0, 300], [0, 0.5, 1], [0, 0, 1]]),
    "scale": np.diag([0.645, 0.645, 1]),
    "slight shear": np.array([[1.29, 0.02, 10], [0, 1.29, -5], [0, 0, 1]]),
}


def pixel_centers(n: int = 40) -> np.ndarray:
    """Centres in µm that fall on the centres of morphology pixels, well apart."""
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(5)), axis=-1).reshape(-1, 2)[:n]
    return (7 * grid + 3.5) * PIXEL_SIZE


@pytest.mark.parametrize("kind", ["circles", "polygons", "labels"])
@pytest.mark.parametrize("name", MAPS)
def test_pixels_equal_the_hand_computed_ones(make_slide: Callable, kind: str, name: str) -> None:
    slide = make_slide(pixel_centers(), kind=kind, he_to_global=MAPS[name])
    (frame,) = he_frames(slide)
    um = slide["table"].obsm["spatial"]
    a, b, c, d, e, f = MAPS[name][:2].ravel()
    # Cramer's rule for a·x + b·y + c = X, d·x + e·y + f = Y, where (X, Y) is the centre in morphology pixels.
    X, Y = um[:, 0] / PIXEL_SIZE - c, um[:, 1] / PIXEL_SIZE - f
    expected = np.stack([(X * e - b * Y) / (a * e - b * d), (a * Y - d * X) / (a * e - b * d)], axis=1)
    np.testing.assert_allclose(frame.to_px(um), expected, atol=0.01)
    np.testing.assert_allclose(frame.to_um(frame.to_px(um)), um, atol=1e-6)
    assert frame.mpp == pytest.approx(PIXEL_SIZE * np.sqrt(abs(a * e - b * d)), rel=1e-6)


def test_mpp_of_the_published_alignment(make_slide: Callable) -> None:
    (frame,) = he_frames(make_slide(he_to_global=MAPS["quarter turn as 10x"]))
    assert frame.mpp == pytest.approx(0.27404, abs=1e-5)


def test_scaled_labels_and_multiscale_labels(make_slide: Callable) -> None:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale

    slide = make_slide(pixel_centers(), kind="labels")
    expected = he_frames(slide)[0].to_px(pixel_centers())
    raster = slide["cells"].values
    # The same mask at twice the resolution, scaled back into place.
    slide["cells"] = Labels2DModel.parse(
        raster.repeat(2, 0).repeat(2, 1),
        dims=("y", "x"),
        scale_factors=[2],
        transformations={"global": Scale([0.5, 0.5], axes=("x", "y"))},
    )
    np.testing.assert_allclose(he_frames(slide)[0].to_px(pixel_centers()), expected, atol=1e-6)


def test_labels_read_in_windows(make_slide: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stdistill._table.he.centroids.WINDOW_PX", 25)
    monkeypatch.setattr("stdistill._table.he.centroids.ENOUGH_CELLS", 12)
    slide = make_slide(pixel_centers(), kind="labels", he_to_global=MAPS["scale"])
    um = slide["table"].obsm["spatial"]
    np.testing.assert_allclose(he_frames(slide)[0].to_px(um), um / PIXEL_SIZE / 0.645, atol=1e-6)


def test_reading_leaves_the_elements_alone(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=MAPS["scale"])
    before = slide["cells"].copy()
    he_frames(slide)
    assert slide["cells"].equals(before)


def test_a_table_of_two_regions_on_two_images(make_slide: Callable) -> None:
    left = make_slide(pixel_centers(), kind="labels", he_to_global=MAPS["scale"])
    right = make_slide(pixel_centers(), kind="labels", he_to_global=MAPS["half turn"])
    both = spatialdata.concatenate({"left": left, "right": right}, concatenate_tables=True)
    frames = he_frames(both, image_key={"cells-left": "he-left", "cells-right": "he-right"})
    assert [f.image_key for f in frames] == ["he-left", "he-right"]
    np.testing.assert_array_equal(np.concatenate([f.cells for f in frames]), np.arange(80))
    np.testing.assert_allclose(frames[0].um_to_px, he_frames(left)[0].um_to_px)
    np.testing.assert_allclose(frames[1].um_to_px, he_frames(right)[0].um_to_px)
    with pytest.raises(KeyError, match="image_key='cells-right' is not a region named in the mapping"):
        he_frames(both, image_key={"cells-left": "he-left"})
    with pytest.raises(
        TypeError, match=r"a mapping of each region .*\{'cells-left': …\}; found \['he-left', 'he-right'\]"
    ):
        he_frames(both, image_key=["he-left", "he-right"])  # type: ignore[arg-type]


def test_any_shared_coordinate_system_will_do(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=MAPS["scale"])
    expected = he_frames(slide)[0].um_to_px
    for name in ("cells", "he"):
        element = slide[name]
        spatialdata.transformations.set_transformation(
            element, spatialdata.transformations.get_transformation(element), "mine"
        )
        spatialdata.transformations.remove_transformation(element, "global")
    np.testing.assert_allclose(he_frames(slide)[0].um_to_px, expected)


def test_no_shared_coordinate_system(make_slide: Callable) -> None:
    slide = make_slide()
    set_transformation(slide["he"], {"elsewhere": Identity()}, set_all=True)
    with pytest.raises(ValueError, match=r"'cells' \(in \['global'\]\) and 'he' \(in \['elsewhere'\]\) share no"):
        he_frames(slide)


def test_a_stretched_image_is_refused(make_slide: Callable) -> None:
    with pytest.raises(ValueError, match="anisotropic"):
        he_frames(make_slide(he_to_global=np.diag([1.0, 1.5, 1])))


def test_unknown_image(make_slide: Callable) -> None:
    with pytest.raises(KeyError, match=r"image_key='H&E' is not an image of the SpatialData; there is: 'he'"):
        he_frames(make_slide(), image_key="H&E")


def test_a_region_that_does_not_exist(make_slide: Callable) -> None:
    slide = make_slide()
    del slide.shapes["cells"]
    with pytest.raises(KeyError, match="region='cells' is not a shapes or labels element; there is: none"):
        he_frames(slide)


def test_ids_that_do_not_match(make_slide: Callable) -> None:
    slide = make_slide()
    slide["table"].obs["instance"] = slide["table"].obs["instance"].str.replace("cell", "nucleus")
    with pytest.raises(ValueError, match=r"None of the 60 cells .* is in 'cells'"):
        he_frames(slide)
    slide["table"].obs["instance"] = ["nobody", *make_slide()["table"].obs["instance"][1:]]
    with pytest.raises(ValueError, match=r"1 of the 60 cells .*nobody.* are not in 'cells'"):
        he_frames(slide)


def test_centers_of_other_cells_are_noticed(make_slide: Callable) -> None:
    slide = make_slide(extent=1000.0)
    slide["table"].obsm["spatial"] = slide["table"].obsm["spatial"][::-1].copy()
    with pytest.raises(ValueError, match="do not follow the element 'cells'"):
        he_frames(slide)


def test_a_table_alone_uses_what_was_recorded(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=MAPS["scale"])
    (frame,) = he_frames(slide)
    table = slide["table"].copy()
    with pytest.raises(ValueError, match="pass the SpatialData that holds the image"):
        he_frames(table)
    write_record(table, "read_xenium", um_to_he=frame.um_to_px, he_shape=np.array(frame.shape), image_key="he")
    (recorded,) = he_frames(table)
    np.testing.assert_array_equal(recorded.um_to_px, frame.um_to_px)
    assert recorded.shape == (400, 300)


def test_contains(make_slide: Callable) -> None:
    (frame,) = he_frames(make_slide(shape=(40, 30)))
    px = np.array([[0, 0], [29.9, 39.9], [30, 10], [10, 40], [-0.1, 5]])
    np.testing.assert_array_equal(frame.contains(px), [True, True, False, False, False])


def test_crop_origins_by_hand() -> None:
    px = np.array([[10.0, 20.0], [10.4, 20.6], [0.0, 0.0]])
    np.testing.assert_array_equal(crop_origins(px, 4), [[8, 18], [8, 19], [-2, -2]])
    np.testing.assert_array_equal(crop_origins(np.array([[10.5, 10.99]]), 3), [[9, 9]])


def test_native_crop(make_slide: Callable) -> None:
    (frame,) = he_frames(make_slide(he_to_global=MAPS["identity"]))
    assert frame.native_crop_px(224, None) == 224
    assert frame.native_crop_px(224, 0.425) == 448


def test_one_cell(make_slide: Callable) -> None:
    slide = make_slide(np.array([[10.0, 12.0]]), he_to_global=MAPS["scale"])
    (frame,) = he_frames(slide)
    expected = apply_affine(np.linalg.inv(MAPS["scale"]), np.array([[10.0, 12.0]]) / PIXEL_SIZE)
    np.testing.assert_allclose(frame.to_px(np.array([[10.0, 12.0]])), expected)


def test_axes_may_be_named_with_channels(make_slide: Callable) -> None:
    """An affine map over (c, y, x), as other readers write it, is read by its x and y."""
    slide = make_slide()
    cyx = np.diag([1.0, 2.0, 2.0, 1.0])
    set_transformation(slide["he"], Affine(cyx, input_axes=("c", "y", "x"), output_axes=("c", "y", "x")), "global")
    assert he_frames(slide)[0].mpp == pytest.approx(0.425)


def test_too_few_cells_on_labels(make_slide: Callable) -> None:
    with pytest.raises(ValueError, match="'cells' is not in µm, and 4 cells are too few to find its unit"):
        he_frames(make_slide(pixel_centers(4), kind="labels"))


def test_a_region_whose_cells_were_filtered_out(make_slide: Callable) -> None:
    slide = make_slide(30)
    slide["table"].uns["spatialdata_attrs"]["region"] = ["cells", "nuclei"]
    assert len(he_frames(slide)) == 1


def test_centers_that_are_no_longer_in_um(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=MAPS["scale"])
    (frame,) = he_frames(slide)
    write_record(
        slide["table"],
        "read_xenium",
        mpp=frame.mpp,
        um_to_he=frame.um_to_px,
        he_shape=np.array(frame.shape),
        image_key="he",
    )
    slide["table"].obsm["spatial"] /= PIXEL_SIZE
    with pytest.raises(ValueError, match=r"read at 0\.1371 µm per pixel; by the centres .* now has 0\.6450"):
        he_frames(slide)


def test_a_concatenated_table_has_no_frame(make_slide: Callable) -> None:
    slide = make_slide(he_to_global=MAPS["scale"])
    (frame,) = he_frames(slide)
    table = slide["table"].copy()
    record = {"um_to_he": frame.um_to_px, "he_shape": np.array(frame.shape), "image_key": "he", "n_cells": 60}
    write_record(table, "read_xenium", **record)
    assert len(he_frames(table[:20].copy())[0].cells) == 20
    both = ad.concat([table, table], uns_merge="first", index_unique="-")
    with pytest.raises(ValueError, match="The table has 120 cells, but its record is of one slide of 60"):
        he_frames(both)


@pytest.fixture
def realigned(make_slide: Callable) -> spatialdata.SpatialData:
    """As read without an alignment, which the user then made in a coordinate system of their own."""
    slide = make_slide(pixel_centers(), shape=(2000, 2000))
    set_transformation(slide["cells"], spatialdata.transformations.get_transformation(slide["cells"]), "mine")
    axes = ("x", "y")
    shifted = np.array([[1.0, 0, 1200], [0, 1, 828], [0, 0, 1]])
    set_transformation(slide["he"], Affine(shifted, input_axes=axes, output_axes=axes), "mine")
    return slide


def test_coordinate_systems_that_disagree(realigned: spatialdata.SpatialData) -> None:
    """The shift is √(1200² + 828²) = 1,458 pixels."""
    for use in (
        sd.get.he_pixels,
        sd.pp.split_strips,
        lambda slide: sd.pp.embed_he(slide, encoder="texture"),
        lambda slide: sd.get.he_crops(slide, cells=slide["table"].obs_names[:1]),
        lambda slide: sd.pl.neighborhood(slide, cell="cell-0", image_key="he"),
        lambda slide: sd.tl.pathology_probe(slide, polygons="none.json", keys="region"),
        lambda slide: sd.io.to_geojson(slide, "cells.geojson", key="region"),
        lambda slide: sd.io.to_geojson(slide, "cells.geojson", key="region", as_regions=True),
    ):
        if use is sd.pp.split_strips:
            sd.pp.neighborhoods(realigned, radius_um=5)
        with pytest.raises(
            ValueError, match=r"systems 'global' and 'mine', which put cells up to 1,458 pixels.*coordinate_system="
        ):
            use(realigned)
    assert "split" not in realigned["table"].obs


def test_the_coordinate_system_is_named(realigned: spatialdata.SpatialData) -> None:
    um = realigned["table"].obsm["spatial"]
    for system, shift in (("global", (0, 0)), ("mine", (1200, 828))):
        pixels = sd.get.he_pixels(realigned, coordinate_system=system)
        np.testing.assert_allclose(pixels[["x", "y"]], um / PIXEL_SIZE - shift)
    with pytest.raises(KeyError, match=r"coordinate_system='um' is not a coordinate system of both 'cells' and 'he'"):
        sd.get.he_pixels(realigned, coordinate_system="um")
    with pytest.raises(ValueError, match="coordinate_system='mine' is one of a SpatialData; an AnnData has none"):
        sd.get.he_pixels(realigned["table"], coordinate_system="mine")
    spatialdata.transformations.remove_transformation(realigned["he"], to_coordinate_system="global")
    np.testing.assert_allclose(sd.get.he_pixels(realigned)[["x", "y"]], um / PIXEL_SIZE - (1200, 828))


def test_coordinate_systems_that_agree(make_slide: Callable) -> None:
    """The same place in µm, and a rounded matrix: nothing has to be named."""
    slide = make_slide(pixel_centers(), he_to_global=MAPS["quarter turn as 10x"])
    expected = sd.get.he_pixels(slide)
    for name, scale in (("um", PIXEL_SIZE), ("rounded", 1.0)):
        for element in ("cells", "he"):
            to_global = spatialdata.transformations.get_transformation(slide[element])
            sequence = spatialdata.transformations.Sequence(
                [to_global, spatialdata.transformations.Scale([scale, scale], axes=("x", "y"))]
            )
            set_transformation(slide[element], sequence, name)
    matrix = np.array([[0.01107, 1.28958, 807.98], [-1.28958, 0.01107, 73097.65], [0, 0, 1]])
    set_transformation(slide["he"], Affine(matrix, ("x", "y"), ("x", "y")), "rounded")
    pd.testing.assert_frame_equal(sd.get.he_pixels(slide), expected)


def test_pictures_in_a_coordinate_system(realigned: spatialdata.SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("stdistill._drawing.view.check_placement", lambda *_: None)
    frames = he_frames

    def spy(*args: object, coordinate_system: str | None, **options: object) -> object:
        asked.append(coordinate_system)
        return frames(*args, coordinate_system="global", **options)

    monkeypatch.setattr("stdistill._drawing.view.he_frames", spy)
    cells = realigned["table"]
    sd.pp.neighborhoods(cells, radius_um=5)
    cells.obs["x_niche"] = cells.obs["split"] = pd.Categorical(["a"] * 40)
    cells.obs["x_confidence"] = 0.5
    given = {"image_key": "he", "coordinate_system": "mine", "show": False}
    sd.pl.niches(realigned, **given)
    sd.pl.split(realigned, **given)
    sd.pl.confidence(realigned, **given)
    sd.pl.neighborhood(realigned, cell="cell-0", **given)
    assert asked == ["mine"] * 4


def test_a_table_that_says_nothing_of_its_element(make_slide: Callable) -> None:
    """anndata.concat drops what spatialdata keeps in .uns."""
    slide = make_slide()
    table = slide.tables.pop("table")
    slide["table"] = ad.concat([table[:30], table[30:]])
    with pytest.raises(ValueError, match=r"'table' does not say of which element .*TableModel\.parse.*\['cells'\]"):
        sd.get.he_pixels(slide)


def test_cells_of_one_outline(make_slide: Callable) -> None:
    """As where two slides were concatenated whose cells are of elements of one name: both would lie on one H&E."""
    slide = make_slide(pixel_centers())
    cells = slide["table"]
    both = ad.concat([cells, cells], index_unique="-")
    both.uns["spatialdata_attrs"] = cells.uns["spatialdata_attrs"]
    slide.tables["table"] = both
    with pytest.raises(ValueError, match=r"40 of 80 cells are of an outline in 'cells' that another cell is of"):
        he_frames(slide)
