from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata
import tifffile
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import stdistill as sd
from stdistill._table.he.slide_record import read_slide_record, write_slide_record
from stdistill._table.he.stored import write_without_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:zarr v3 autosharding")


def give_record(slide: SpatialData, cells: ad.AnnData) -> None:
    record = read_slide_record(slide)
    assert record is not None
    write_slide_record(cells, replace(record, n_cells=cells.n_obs))


def write(path: Path, *, mpp: float = 0.5, seed: int = 0, side: int = 300, names: tuple[str, ...] = ("A",)) -> Path:
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for number, name in enumerate(names):
            pixels = np.random.default_rng(seed + number).integers(180, 240, (side, side, 3)).astype(np.uint8)
            pixels[:100] = 236
            words = {"axes": "YXS", "Name": name, "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
            tiff.write(pixels, tile=(128, 128), photometric="rgb", compression="deflate", metadata=words)
    return path


def same_image(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(one["scale0"]["image"], other["scale0"]["image"])
    systems = [get_transformation(each, get_all=True) for each in (one, other)]
    assert systems[0].keys() == systems[1].keys()
    for name in systems[0]:
        matrices = [each[name].to_affine_matrix(("x", "y"), ("x", "y")) for each in systems]
        np.testing.assert_allclose(*matrices)


def test_after_zarr(tmp_path: Path, make_cells: Callable) -> None:
    slide = sd.pp.read_slide(write(tmp_path / "slide.ome.tif"))
    cells = make_cells(20)
    give_record(slide, cells)
    slide["table"] = cells
    write_without_images(slide, tmp_path / "cells.zarr")
    n_bytes = sum(path.stat().st_size for path in (tmp_path / "cells.zarr").rglob("*") if path.is_file())
    assert n_bytes < (tmp_path / "slide.ome.tif").stat().st_size
    read = spatialdata.read_zarr(tmp_path / "cells.zarr")
    assert sd.pp.attach_slide(read) is None
    same_image(read["he"], slide["he"])


def test_after_h5ad(tmp_path: Path, make_cells: Callable) -> None:
    """A table alone carries the record, also under another name."""
    slide = sd.pp.read_slide(write(tmp_path / "slide.ome.tif", names=("A", "B")), scene="B", image_key="scan")
    cells = make_cells(20)
    give_record(slide, cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = SpatialData(tables={"nuclei": ad.read_h5ad(tmp_path / "cells.h5ad")})
    with pytest.raises(ValueError, match=r"no record of an H&E .* nor in a table 'table' \(there is: \['nuclei'\]\)"):
        sd.pp.attach_slide(read)
    sd.pp.attach_slide(read, table_key="nuclei")
    same_image(read["scan"], slide["scan"])


def test_of_a_xenium_slide(bundle: Path, tmp_path: Path) -> None:
    slide = sd.pp.read_xenium(bundle)
    slide["table"].write_h5ad(tmp_path / "cells.h5ad")
    shapes_only = SpatialData(shapes=dict(slide.shapes), tables={"table": ad.read_h5ad(tmp_path / "cells.h5ad")})
    sd.pp.attach_slide(shapes_only)
    same_image(shapes_only["he"], slide["he"])
    pd.testing.assert_frame_equal(sd.get.he_pixels(shapes_only), sd.get.he_pixels(slide))


def test_the_file_was_moved(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.ome.tif")
    slide = sd.pp.read_slide(path)
    image = slide["he"]
    moved = tmp_path / "archive" / "renamed.tif"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    del slide.images["he"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"The H&E is no longer at .*slide\.ome\.tif.*path="):
        sd.pp.attach_slide(slide)
    sd.pp.attach_slide(slide, moved)
    assert image["scale0"].sizes == slide["he"]["scale0"].sizes
    record = read_slide_record(slide)
    assert record is not None
    assert record.path == str(moved)
    del slide.images["he"]
    sd.pp.attach_slide(slide)  # it is known from now on


@pytest.mark.parametrize(
    ("other", "what"),
    [({"side": 310}, "size in pixels"), ({"mpp": 0.25}, "µm per pixel"), ({"seed": 5}, "digest")],
)
def test_another_slide_is_refused(tmp_path: Path, other: dict[str, Any], what: str) -> None:
    slide = sd.pp.read_slide(write(tmp_path / "slide.ome.tif"))
    del slide.images["he"]
    before = dict(slide.attrs["stdistill"]["slide"])
    with pytest.raises(ValueError, match=rf"other\.tif is not the H&E of this slide: its {what}"):
        sd.pp.attach_slide(slide, write(tmp_path / "other.tif", **other))
    assert slide.attrs["stdistill"]["slide"] == before
    assert not slide.images


@pytest.mark.parametrize("change", ["repainted", "flipped"])
def test_other_pixels_than_those_of_the_features(tmp_path: Path, change: str) -> None:
    """Bytes of a file are compared in part, and an earlier version did not record them."""
    pixels = np.random.default_rng(0).integers(120, 240, (600, 600, 3)).astype(np.uint8)
    pixels[:150] = 240
    stored = {"tile": (128, 128), "photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "slide.tif", pixels, **stored)
    slide = sd.pp.read_slide(tmp_path / "slide.tif")
    centers = np.random.default_rng(1).uniform(180, 580, (40, 2)).round(-1)
    pd.DataFrame(np.unique(centers, axis=0), columns=["x", "y"]).to_csv(tmp_path / "centres.csv", index=False)
    sd.pp.detect_nuclei(slide, nuclei=tmp_path / "centres.csv")
    sd.pp.embed_he(slide, encoder="texture", crop_px=32)
    del slide.images["he"]
    for holder in (slide, slide["table"]):
        record = read_slide_record(holder)
        assert record is not None
        write_slide_record(holder, replace(record, digest=None))
    other = pixels[:, ::-1].copy() if change == "flipped" else pixels.copy()
    other[200:280, 40:560] = 255
    tifffile.imwrite(tmp_path / "other.tif", other, **stored)
    with pytest.raises(ValueError, match=r"not the H&E of this slide: \.obsm\['X_he'\] was computed from other pixels"):
        sd.pp.attach_slide(slide, tmp_path / "other.tif")
    assert not slide.images
    sd.pp.attach_slide(slide, tmp_path / "slide.tif")


def test_mpp_that_was_given_holds_against_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.ome.tif", mpp=0.5)
    with pytest.warns(UserWarning, match=r"mpp=0\.25 is taken"):
        slide = sd.pp.read_slide(path, mpp=0.25)
    image = slide["he"]
    del slide.images["he"]
    sd.pp.attach_slide(slide)
    same_image(image, slide["he"])


def test_what_cannot_be_attached(tmp_path: Path, make_cells: Callable) -> None:
    slide = sd.pp.read_slide(write(tmp_path / "slide.ome.tif"))
    with pytest.raises(ValueError, match=r"has an image 'he' already; del sdata\.images\['he'\]"):
        sd.pp.attach_slide(slide)
    with pytest.raises(ValueError, match=r"no record of an H&E .* sd\.pp\.read_slide or sd\.pp\.read_xenium"):
        sd.pp.attach_slide(SpatialData(tables={"table": make_cells(5)}))
