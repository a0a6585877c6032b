from __future__ import annotations

import errno
import runpy
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image
from spatialdata import SpatialData
from torch import nn

import stdistill as sd
from stdistill._features import store
from stdistill._features.store import reserve_folder

CROP_PX = 32
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}
rng = np.random.default_rng(0)


class Identity(nn.Module):
    """The pixels themselves, 0 to 255: exact in float16."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * 255).flatten(1)


class Returns(nn.Module):
    """The same for every crop."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> Any:
        return self.value(images)


def identity(**changes: Any) -> sd.encoders.Encoder:
    return sd.encoders.from_module(Identity(), name="identity", **PLAIN | changes)


def paint(
    slide: SpatialData, *, chunks: int = 100, white_border: int = 0, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Fill the H&E with noise, or with `pixels`, in chunks; return it as (height, width, 3)."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import get_transformation

    old = slide["he"]
    if pixels is None:
        pixels = rng.integers(60, 190, (3, old.sizes["y"], old.sizes["x"]), dtype=np.uint8)
    else:
        pixels = pixels.transpose(2, 0, 1)
    if white_border:
        pixels[:, :white_border] = [[[251]], [[252]], [[253]]]
    lazy = da.from_array(pixels, chunks=(1, chunks, chunks))
    transformation = get_transformation(old)
    del slide.images["he"]
    slide.images["he"] = Image2DModel.parse(
        lazy, dims=("c", "y", "x"), c_coords=["r", "g", "b"], transformations={"global": transformation}
    )
    return np.moveaxis(pixels, 0, -1)


def crops_of(slide: SpatialData, side: int = CROP_PX) -> np.ndarray:
    features = slide["table"].obsm["X_he"]
    return np.moveaxis(features.reshape(len(features), 3, side, side), 1, -1)


def cut_by_hand(pixels: np.ndarray, slide: SpatialData, side: int, padding: Any) -> list[np.ndarray]:
    places = sd.get.he_pixels(slide)
    margin = 2 * side
    padded = np.full((pixels.shape[0] + 2 * margin, pixels.shape[1] + 2 * margin, 3), padding, dtype=np.uint8)
    padded[margin:-margin, margin:-margin] = pixels
    crops = []
    for x, y in places[["x", "y"]].to_numpy():
        left, top = int(np.floor(x - side / 2 + 0.5)) + margin, int(np.floor(y - side / 2 + 0.5)) + margin
        crops.append(padded[top : top + side, left : left + side])
    return crops


ALIGNMENTS = {
    "identity": np.eye(3),
    "turned by 90°": [[0, 1.25, 4], [-1.25, 0, 320], [0, 0, 1]],
    "flipped": [[-1, 0, 300], [0, 1, 0], [0, 0, 1]],
    "scaled": [[0.8, 0, 5], [0, 0.8, 2], [0, 0, 1]],
    "sheared a little": [[1, 0.02, 0], [0, 1, 0], [0, 0, 1]],
}


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_crops_are_those_cut_by_hand(make_slide: Callable[..., SpatialData], name: str) -> None:
    slide = make_slide(he_to_global=ALIGNMENTS[name])
    pixels = paint(slide)
    on_image = sd.get.he_pixels(slide)["on_image"].to_numpy()
    assert on_image.sum() > 20
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX)
    ours = crops_of(slide)
    for crop, expected, inside in zip(ours, cut_by_hand(pixels, slide, CROP_PX, 255), on_image, strict=True):
        if inside:
            np.testing.assert_array_equal(crop, expected)
        else:
            assert np.isnan(crop).all()


def test_edges_show_the_color_of_the_glass(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide([[1.0, 1.0], [60.0, 50.0], [0.2, 80.0], [60.0, 84.8]])
    pixels = paint(slide, white_border=20)
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX)
    np.testing.assert_array_equal(crops_of(slide), cut_by_hand(pixels, slide, CROP_PX, (251, 252, 253)))


@pytest.mark.parametrize("kind", ["polygons", "labels"])
def test_any_element_may_be_annotated(make_slide: Callable[..., SpatialData], kind: str) -> None:
    slide = make_slide(kind=kind)
    pixels = paint(slide)
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX)
    np.testing.assert_array_equal(crops_of(slide), cut_by_hand(pixels, slide, CROP_PX, 255))


def pillow(pixels: np.ndarray, slide: SpatialData, native: int, side: int, filtering: Image.Resampling) -> np.ndarray:
    crops = cut_by_hand(pixels, slide, native, 255)
    return np.stack([np.asarray(Image.fromarray(crop).resize((side, side), filtering)) for crop in crops])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1.6, 0.7])
def test_asked_resolution_equals_pillow(
    make_slide: Callable[..., SpatialData], interpolation: str, factor: float
) -> None:
    slide = make_slide()
    pixels = paint(slide)
    sd.pp.embed_he(slide, encoder=identity(interpolation=interpolation), crop_px=CROP_PX, mpp=0.2125 * factor)
    expected = pillow(pixels, slide, round(CROP_PX * factor), CROP_PX, Image.Resampling[interpolation.upper()])
    assert np.abs(crops_of(slide) - expected).max() <= 1.1  # Pillow rounds to 8 bits after each axis


def test_input_size_of_the_encoder(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    pixels = paint(slide)
    sd.pp.embed_he(slide, encoder=identity(resize_px=24, input_px=20), crop_px=CROP_PX)
    expected = pillow(pixels, slide, CROP_PX, 24, Image.Resampling.BILINEAR)[:, 2:22, 2:22]
    assert np.abs(crops_of(slide, 20) - expected).max() <= 1.1


def test_coarse_crops_are_read_from_the_pyramid(bundle: Path) -> None:
    """A level serves as well as the full resolution that it was made from."""
    slide = sd.pp.read_xenium(bundle)
    slide.tables["table"] = slide["table"][:60].copy()
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX, mpp=0.274 * 2.3)
    of_level = crops_of(slide).astype(float)
    full = slide["he"]["scale0"]["image"]
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import get_transformation

    single = Image2DModel.parse(
        full.data, dims=full.dims, transformations=get_transformation(slide["he"], get_all=True)
    )
    alone = SpatialData.init_from_elements({"he": single, "cell_circles": slide["cell_circles"]})
    alone["table"] = slide["table"].copy()
    sd.pp.embed_he(alone, encoder=identity(), crop_px=CROP_PX, mpp=0.274 * 2.3)
    of_full = crops_of(alone).astype(float)
    assert np.abs(of_level - of_full).mean() < 3
    assert np.corrcoef(of_level.ravel(), of_full.ravel())[0, 1] > 0.98


def test_normalization_is_the_encoders(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    pixels = paint(slide)
    means = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = sd.encoders.from_module(means, mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))
    sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX)
    colors = np.stack(cut_by_hand(pixels, slide, CROP_PX, 255)).mean((1, 2)) / 255
    expected = (colors - (0.1, 0.2, 0.3)) / (0.5, 1, 2)
    np.testing.assert_allclose(slide["table"].obsm["X_he"], expected, atol=1e-3)


def test_several_encoders_are_concatenated(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    texture = slide["table"].obsm["X_he"]
    sd.pp.embed_he(slide, encoder=["texture", identity()], crop_px=64, key_added="X_both")
    both = slide["table"].obsm["X_both"]
    assert both.shape == (60, 276 + 3 * 64 * 64)
    np.testing.assert_array_equal(both[:, :276], texture)
    records = slide["table"].uns["stdistill"]
    assert records["embed_he"]["encoder"] == "texture"
    assert records["embed_he_X_both"]["encoder"] == "texture+identity"


def join(*slides: SpatialData) -> SpatialData:
    """One SpatialData, whose table annotates the cells of all."""
    import anndata as ad

    tables = []
    for number, slide in enumerate(slides):
        table = slide["table"].copy()
        table.obs["region"] = f"cells{number}"
        tables.append(table)
    joined = ad.concat(tables, index_unique="-")
    joined.obs["region"] = joined.obs["region"].astype("category")
    joined.uns["spatialdata_attrs"] = {
        "region": ["cells0", "cells1"],
        "region_key": "region",
        "instance_key": "instance",
    }
    elements = {f"{name}{n}": slide[name] for n, slide in enumerate(slides) for name in ("he", "cells")}
    return SpatialData.init_from_elements({**elements, "table": joined})


OWN_IMAGES = {"cells0": "he0", "cells1": "he1"}


def test_several_slides(make_slide: Callable[..., SpatialData]) -> None:
    slides = [make_slide(seed=seed) for seed in (0, 1)]
    pixels = [paint(slide) for slide in slides]
    both = join(*slides)
    sd.pp.embed_he(both, encoder=identity(), crop_px=CROP_PX, image_key=OWN_IMAGES)
    expected = [crop for s, p in zip(slides, pixels, strict=True) for crop in cut_by_hand(p, s, CROP_PX, 255)]
    np.testing.assert_array_equal(crops_of(both), expected)


def test_slides_of_different_scales(make_slide: Callable[..., SpatialData]) -> None:
    """Their own pixels are not compared, unless they are of one size but for the alignment's last digits."""
    finer = make_slide(he_to_global=np.diag([0.5, 0.5, 1]), shape=(800, 600))
    both = join(make_slide(), finer)
    with pytest.raises(ValueError, match=r"differ in µm per pixel \('he0' 0\.2125, 'he1' 0\.1062\).*Give mpp="):
        sd.pp.embed_he(both, encoder="texture", crop_px=CROP_PX, image_key=OWN_IMAGES)
    assert "X_he" not in both["table"].obsm
    sd.pp.embed_he(both, encoder="texture", crop_px=CROP_PX, image_key=OWN_IMAGES, mpp=0.2125)
    assert both["table"].uns["stdistill"]["embed_he"]["mpp"] == 0.2125

    alike = join(make_slide(), make_slide(he_to_global=np.diag([1.01, 1.01, 1])))
    sd.pp.embed_he(alike, encoder="texture", crop_px=CROP_PX, image_key=OWN_IMAGES)
    assert alike["table"].uns["stdistill"]["embed_he"]["mpp"] == pytest.approx(0.2125 * 1.005)


@pytest.mark.parametrize("mpp", [None, 0.3])
def test_texture_reads_whole_windows(
    make_slide: Callable[..., SpatialData], monkeypatch: pytest.MonkeyPatch, mpp: float | None
) -> None:
    """However the slide is read, features are the same, and nearly those of the crops."""
    slide = make_slide()
    pixels = paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=160, mpp=mpp)
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 64)
    paint(slide, pixels=pixels, chunks=64)
    sd.pp.embed_he(slide, encoder="texture", crop_px=160, mpp=mpp, key_added="X_small")
    by_crops = sd.encoders.get("texture").by_crops()
    sd.pp.embed_he(slide, encoder=by_crops, crop_px=160, mpp=mpp, key_added="X_crops")
    table = slide["table"]
    large, small, crops = (table.obsm[key].astype(np.float32) for key in ("X_he", "X_small", "X_crops"))
    np.testing.assert_allclose(small, large, rtol=2e-3, atol=2e-3)  # rounded to float16
    assert np.nanmedian(np.abs(large - crops)) < 0.02
    records = [table.uns["stdistill"][f"embed_he{suffix}"] for suffix in ("", "_X_small", "_X_crops")]
    assert [record["revision"] for record in records] == ["windows-1", "windows-1", "unknown"]
    kinds = [table.obs[f"{key}_model"].iloc[0] for key in ("X_he", "X_small", "X_crops")]
    assert kinds[0] == kinds[1] != kinds[2]


def test_the_record_repeats_it(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, mpp=0.3)
    record = slide["table"].uns["stdistill"]["embed_he"]
    assert record["encoder"] == "texture"
    assert record["licence"] == "BSD-3-Clause"
    assert (record["crop_px"], record["mpp"], record["device"]) == (64, 0.3, "cpu")


def test_concatenated_tables_tell_features_apart(make_slide: Callable[..., SpatialData]) -> None:
    """Records are dropped there: what is learned from all cells must know it by their columns."""
    tables = []
    changes: list[dict[str, Any]] = [{}, {}, {"crop_px": 40}, {"mpp": 0.5}]
    for change in changes:
        slide = make_slide()
        colours = sd.encoders.from_module(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), mean=(0,) * 3, std=(1,) * 3
        )
        sd.pp.embed_he(slide, encoder=colours, **{"crop_px": 16, **change})
        tables.append(slide["table"])
    same, other, scaled = (ad.concat([tables[0], table], index_unique="-", label="slide") for table in tables[1:])
    how: dict[str, Any] = {"teacher_key": "half", "max_epochs": 1, "library_key": "slide", "progress_bar": False}
    for together, message in ((other, "is of 2 models in this table"), (scaled, "0.2125 to 0.5 µm per pixel")):
        together.obs["half"] = pd.Categorical(np.arange(together.n_obs) % 2)
        with pytest.raises(ValueError, match=message):
            sd.tl.distill(together, **how)
    same.obs["half"] = pd.Categorical(np.arange(same.n_obs) % 2)
    sd.tl.distill(same, **how)


def test_copy(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide()
    paint(slide)
    copy = sd.pp.embed_he(slide, encoder="texture", crop_px=64, copy=True)
    assert "X_he" in copy["table"].obsm
    assert "X_he" not in slide["table"].obsm


def test_stain_normalization(bundle: Path) -> None:
    """The colours change, and nothing of the normalised image stays behind."""
    from spatialdata.models import Labels2DModel
    from squidpy.experimental import im

    slide = sd.pp.read_xenium(bundle)
    slide.tables["table"] = slide["table"][:100].copy()
    stains = np.array([[0.45, 0.07, -0.33], [0.78, 0.94, -0.30], [0.43, 0.34, 0.89]])
    stains /= np.linalg.norm(stains, axis=0)
    tissue = np.ones(slide["he"]["scale0"]["image"].shape[1:], dtype=np.int32)
    slide.labels["he_tissue"] = Labels2DModel.parse(tissue, dims=("y", "x"))
    reference = im.StainReference(method="macenko", stain_matrix=stains, white_point=np.full(3, 255.0))
    means = sd.encoders.from_module(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), name="means", **PLAIN)
    sd.pp.embed_he(slide, encoder=means, crop_px=CROP_PX)
    before = slide["table"].obsm["X_he"]
    elements = {name for _, name, _ in slide.gen_elements()}
    sd.pp.embed_he(slide, encoder=means, crop_px=CROP_PX, stain_normalization=reference)
    assert np.abs(slide["table"].obsm["X_he"] - before).mean() > 0.01
    assert {name for _, name, _ in slide.gen_elements()} == elements
    assert "macenko" in slide["table"].uns["stdistill"]["embed_he"]["stain_normalization"]
    with pytest.raises(TypeError, match="StainReference"):
        sd.pp.embed_he(slide, encoder=means, stain_normalization="macenko")


# Offline


def test_defaults_work_offline(bundle: Path, attempts: list[Any]) -> None:
    slide = sd.pp.read_xenium(bundle)
    slide.tables["table"] = slide["table"][:20].copy()
    with pytest.warns(UserWarning, match="texture"):
        sd.pp.embed_he(slide)
    assert slide["table"].obsm["X_he"].shape == (20, 276)
    vit = sd.encoders.get("vit_tiny_patch16_224", weights="random")
    sd.pp.embed_he(slide, encoder=vit, crop_px=CROP_PX)
    assert slide["table"].obsm["X_he"].shape == (20, 192)
    assert not attempts


# The store


def test_store_is_one_row_a_cell(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    slide = make_slide()
    paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, store=tmp_path / "store")
    ids = (tmp_path / "store" / "cell_ids.txt").read_text().split()
    rows = np.load(tmp_path / "store" / "features.npy", mmap_mode="r")
    np.testing.assert_array_equal(slide["table"][ids].obsm["X_he"], rows)


class Counts(Identity):
    n_crops = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counts.n_crops += len(images)
        return super().forward(images)


def test_resumes_only_an_equal_run(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    slide = make_slide()
    paint(slide)
    encoder = sd.encoders.from_module(Counts(), dim=3 * CROP_PX**2, **PLAIN)

    def n_crops(**changes: Any) -> int:
        Counts.n_crops = 0
        sd.pp.embed_he(slide, **{"encoder": encoder, "crop_px": CROP_PX, "store": tmp_path / "store"} | changes)
        return Counts.n_crops

    assert n_crops() == 60
    assert n_crops() == 0
    assert n_crops(resume=False) == 60
    kept = (tmp_path / "store/features.npy").read_bytes()
    with pytest.raises(ValueError, match=r"mpp: None, now 0.3.*resume=False"):
        n_crops(mpp=0.3)
    with pytest.raises(ValueError, match="encoders"):
        n_crops(encoder=identity())
    paint(slide)
    with pytest.raises(ValueError, match="image"):
        n_crops()
    assert (tmp_path / "store/features.npy").read_bytes() == kept
    assert n_crops(resume=False) == 60
    slide.tables["table"] = slide["table"][10:].copy()
    with pytest.raises(ValueError, match="cells"):
        n_crops()
    assert n_crops(resume=False) == 50


def test_a_complete_store_is_read_however_the_image_is_chunked(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, and the order of the rows with them, follow the chunks; the features of a cell do not."""
    slide = make_slide()
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 64)
    pixels = paint(slide, chunks=64)
    options: dict[str, Any] = {"encoder": "texture", "crop_px": 64, "n_augmented": 1, "store": tmp_path / "store"}
    sd.pp.embed_he(slide, **options)
    before = slide["table"].obsm.pop("X_he")
    look = slide["table"].obsm["X_he_augmented_1"]
    order = (tmp_path / "store/cell_ids.txt").read_text()
    paint(slide, chunks=100, pixels=pixels)
    with monkeypatch.context() as patch:
        patch.setattr(store.FeatureStore, "write", lambda *_: pytest.fail("computed again"))
        sd.pp.embed_he(slide, **options)
    np.testing.assert_array_equal(slide["table"].obsm["X_he"], before)
    np.testing.assert_array_equal(slide["table"].obsm["X_he_augmented_1"], look)
    (tmp_path / "store/finished").write_bytes(bytes(len((tmp_path / "store/finished").read_bytes())))
    with pytest.raises(ValueError, match=r"windows.*resume=False"):  # half of it would be in another order
        sd.pp.embed_he(slide, **options)
    sd.pp.embed_he(slide, **options, resume=False)
    assert (tmp_path / "store/cell_ids.txt").read_text() != order
    np.testing.assert_array_equal(slide["table"].obsm["X_he"], before)


def test_a_failed_run_goes_on(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide()
    paint(slide)
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 64)
    paint(slide, chunks=64)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    undisturbed = slide["table"].obsm.pop("X_he")
    write, left = store.FeatureStore.write, iter([True, True, False])

    def fail(self: Any, *arguments: Any) -> None:
        if not next(left):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.FeatureStore, "write", fail)
        with pytest.raises(OSError, match="No space"):
            sd.pp.embed_he(slide, encoder="texture", crop_px=64, store=tmp_path / "store")
    assert "X_he" not in slide["table"].obsm
    assert store.FeatureStore(tmp_path / "store").unfinished()[0] == 2
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, store=tmp_path / "store")
    np.testing.assert_array_equal(slide["table"].obsm["X_he"], undisturbed)


KILLS = """
import os, random, signal, sys, time
import spatialdata, stdistill as sd, stdistill._features.embedder

def embed(bundle, store):
    slide = sd.pp.read_xenium(bundle)
    slide.tables["table"] = slide["table"][:300].copy()
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, batch_size=16, store=store)

bundle, undisturbed, killed = sys.argv[1:]
for seconds in [random.uniform(0.1, 2) for _ in range(10)]:
    child = os.fork()  # what was imported need not be imported again
    if not child:
        embed(bundle, killed)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
embed(bundle, killed)
embed(bundle, undisturbed)
"""


def test_killed_at_random_moments(bundle: Path, tmp_path: Path) -> None:
    """kill -9, ten times: the matrix is bit-identical to that of an undisturbed run."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", KILLS, bundle, undisturbed, killed], check=True, capture_output=True)
    for name in ("features.npy", "cell_ids.txt", "finished"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


def test_the_default_store_is_removed(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slide = make_slide()
    paint(slide)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".lock"}


def test_a_cache_that_cannot_be_written_to(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder cannot be made, or takes no lock; a folder of the user's own is the way out."""
    slide = make_slide()
    paint(slide)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cache for features, cannot be made \(Not a directory\).*store="):
        sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("stdistill._features.store.FileLock.acquire", refuse)
    with pytest.raises(OSError, match=r"Files cannot be locked in .*Permission denied.*store="):
        sd.pp.embed_he(slide, encoder="texture", crop_px=64)


def test_equal_runs_at_once(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One starts and ends while the other is at work: each has a store of its own, and gets the same features."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slide = make_slide()
    paint(slide)
    ended: list[np.ndarray] = []

    def meanwhile(images: torch.Tensor) -> torch.Tensor:
        if not ended:
            ended.append(np.empty(0))  # once
            ended[0] = run()
        return images.flatten(1)

    encoder = sd.encoders.from_module(Returns(meanwhile), name="meanwhile", dim=3 * CROP_PX**2, **PLAIN)

    def run() -> np.ndarray:
        return sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX, copy=True)["table"].obsm["X_he"]

    np.testing.assert_array_equal(run(), ended[0])
    assert not list(tmp_path.rglob("*.npy"))


def test_the_default_store_goes_on(
    make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is the second one, of a run that began while an equal one was at work."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("stdistill._slide.plan.WINDOW_PX", 64)
    slide = make_slide()
    paint(slide, chunks=64)
    encoder = sd.encoders.from_module(Counts(), dim=3 * CROP_PX**2, **PLAIN)
    write, reserved, n_windows = store.FeatureStore.write, [], iter(range(100))

    def fail(self: Any, *arguments: Any) -> None:
        reserved.append(self.folder)
        if next(n_windows) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *arguments)

    def first(self: Any, *arguments: Any) -> None:
        """Start the second run, which fails, within the first, which ends."""
        with monkeypatch.context() as patch:
            patch.setattr(store.FeatureStore, "write", fail)
            with pytest.raises(OSError, match="No space"):
                sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX, copy=True)
        monkeypatch.setattr(store.FeatureStore, "write", write)
        write(self, *arguments)

    monkeypatch.setattr(store.FeatureStore, "write", first)
    sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX)
    assert [path.parent for path in tmp_path.rglob("features.npy")] == [reserved[0]]
    assert reserved[0].name.endswith("-2")
    Counts.n_crops = 0
    again = sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX, copy=True)
    assert 0 < Counts.n_crops < 60
    np.testing.assert_array_equal(again["table"].obsm["X_he"], slide["table"].obsm["X_he"])


RESERVE = """
import sys
from pathlib import Path
from stdistill._features.store import reserve_folder

with reserve_folder(Path(sys.argv[1]), "run") as folder:
    folder.mkdir()
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RESERVE, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "run-1\n"
        with reserve_folder(tmp_path, "run") as folder:
            assert folder.name == "run-2"
        process.kill()
    with reserve_folder(tmp_path, "run") as folder:
        assert folder.name == "run-1"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with (
        pytest.raises(OSError, match=r"cannot be locked in .*No locks available.* with store="),
        reserve_folder(tmp_path, "run"),
    ):
        pass


# Bad input


def test_no_image(make_slide: Callable[..., SpatialData], make_cells: Callable[..., Any]) -> None:
    slide = make_slide()
    with pytest.raises(TypeError, match="SpatialData"):
        sd.pp.embed_he(make_cells())
    with pytest.raises(KeyError, match=r"image_key='tumour'.*'he'"):
        sd.pp.embed_he(slide, encoder="texture", image_key="tumour")
    del slide.images["he"]
    with pytest.raises(KeyError, match="read_xenium"):
        sd.pp.embed_he(slide, encoder="texture")


def test_no_rgb_image(make_slide: Callable[..., SpatialData]) -> None:
    from spatialdata.models import Image2DModel

    slide = make_slide()
    del slide.images["he"]
    slide.images["he"] = Image2DModel.parse(np.zeros((1, 50, 50), np.uint16), dims=("c", "y", "x"))
    with pytest.raises(ValueError, match=r"1 channels of type uint16.*RGB"):
        sd.pp.embed_he(slide, encoder="texture")


def test_unknown_encoder(make_slide: Callable[..., SpatialData]) -> None:
    with pytest.raises(KeyError, match=r"Did you mean .*uni2-h"):
        sd.pp.embed_he(make_slide(), encoder="uni2h")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda images: images, r"returned \(\d+, 3, 32, 32\) for \d+ crops; expected"),
        (lambda images: images.mean((1, 2, 3)), r"expected \(\d+, d\)"),
        (lambda images: {"features": images}, "returned dict"),
        (lambda images: images.flatten(1)[:, :5] * np.nan, r"NaN.*for \d+ of \d+ crops"),
        (lambda images: images.flatten(1)[:, :5] * 0 + 1e6, "beyond float16"),
    ],
)
def test_bad_module(make_slide: Callable[..., SpatialData], value: Any, message: str) -> None:
    slide = make_slide()
    paint(slide)
    encoder = sd.encoders.from_module(Returns(value), **PLAIN)
    with pytest.raises(ValueError, match=message):
        sd.pp.embed_he(slide, encoder=encoder, crop_px=CROP_PX, resume=False)
    assert "X_he" not in slide["table"].obsm


def test_announced_dimension(make_slide: Callable[..., SpatialData]) -> None:
    encoder = sd.encoders.from_module(Identity(), dim=7, **PLAIN)
    with pytest.raises(ValueError, match="announced to give 7 features"):
        sd.pp.embed_he(make_slide(), encoder=encoder, crop_px=CROP_PX, resume=False)


def test_no_cell_on_the_image(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide(he_to_global=[[1, 0, 5000], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"None of the 60 cells lies on the image 'he'.*he_pixels"):
        sd.pp.embed_he(slide, encoder="texture")


def test_image_without_resolution(make_slide: Callable[..., SpatialData]) -> None:
    slide = make_slide(pixel_size=1.0)
    with pytest.raises(ValueError, match="has no µm per pixel"):
        sd.pp.embed_he(slide, encoder="texture", mpp=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_px": 4}, "crop_px must be at least 8"),
        ({"crop_px": 24}, r"'texture' .* least 32 px .* have 24 px\. Give crop_px=32 or more"),
        ({"mpp": -1.0}, "mpp must be positive"),
        ({"context": 1}, "context must be above 1, as 3 for tissue three times as wide as the crop, found 1"),
        ({"context": np.nan}, "context must be positive"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"precision": "int8"}, "precision must be one of"),
        ({"device": "tpu"}, "device must be one of"),
        ({"key_added": "X/he"}, "key_added must be a name"),
        ({"devices": 2}, "store="),
    ],
)
def test_bad_arguments(make_slide: Callable[..., SpatialData], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sd.pp.embed_he(make_slide(), encoder="texture", **changes)


def test_store_of_something_else(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no store of features"):
        sd.pp.embed_he(make_slide(), encoder="texture", store=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_full_disk(make_slide: Callable[..., SpatialData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(OSError, match=r"make room, or.*store="):
        sd.pp.embed_he(make_slide(), encoder="texture", store=tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == [".store.lock"]


def test_augmented(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    """The slide in other stains beside itself, with stores of their own; what is replaced goes with what it is of."""
    slide = make_slide()
    paint(slide)
    store = tmp_path / "features"
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX, n_augmented=2, store=store)
    table = slide["table"]
    features = [table.obsm[key] for key in ("X_he", "X_he_augmented_1", "X_he_augmented_2")]
    assert table.uns["stdistill"]["embed_he"]["n_augmented"] == 2
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (np.isnan(features[one]) == np.isnan(features[other])).all()
        assert (features[one] != features[other]).mean() > 0.5
    stores = [f"features{end}" for end in ("", "_augmented_1", "_augmented_2")]
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == stores
    again = sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX, n_augmented=1, copy=True)["table"]
    np.testing.assert_array_equal(again.obsm["X_he_augmented_1"], features[1])
    np.testing.assert_array_equal(again.obsm["X_he"], features[0])
    assert "X_he_augmented_2" not in again.obsm
    sd.pp.embed_he(slide, encoder=identity(), crop_px=CROP_PX)
    assert not [key for key in slide["table"].obsm if "augmented" in key]


def test_context(make_slide: Callable[..., SpatialData], tmp_path: Path) -> None:
    """The crop, and beside it as many pixels of three times the µm per pixel, each in a store of its own."""
    slide = make_slide()
    paint(slide)
    mpp = float(sd.get.he_pixels(slide)["mpp"].iloc[0])
    options: dict[str, Any] = {"encoder": identity(), "crop_px": CROP_PX}
    sd.pp.embed_he(slide, **options, key_added="X_crop")
    sd.pp.embed_he(slide, **options, mpp=3 * mpp, key_added="X_around")
    sd.pp.embed_he(slide, **options, context=3, n_augmented=1, store=tmp_path / "features")
    table = slide["table"]
    expected = np.hstack([table.obsm["X_crop"], table.obsm["X_around"]])
    np.testing.assert_array_equal(table.obsm["X_he"], expected)
    assert table.obsm["X_he_augmented_1"].shape == expected.shape
    stores = [f"features{end}" for end in ("", "_augmented_1", "_augmented_1_context", "_context")]
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == stores

    record = table.uns["stdistill"]["embed_he"]
    assert (record["context"], record["crop_px"], record["seen_px"]) == (3, CROP_PX, 3 * CROP_PX)
    assert record["crop_um"] == pytest.approx(3 * CROP_PX * mpp, abs=mpp)
    assert table.obs["X_he_model"].iloc[0] != table.obs["X_crop_model"].iloc[0]
    again = make_slide()
    paint(again, pixels=np.moveaxis(slide["he"].to_numpy(), 0, -1))
    sd.pp.embed_he(again, **options, mpp=mpp, context=3)
    np.testing.assert_array_equal(again["table"].obsm["X_he"], expected)


def test_two_processes_equal_one(bundle: Path, tmp_path: Path) -> None:
    """Lightning starts the script once more for the second device."""
    script = tmp_path / "embed.py"
    script.write_text(
        "import stdistill as sd\n"
        "def embed(out, **options):\n"
        f"    slide = sd.pp.read_xenium({str(bundle)!r})\n"
        "    slide.tables['table'] = slide['table'][:200].copy()\n"
        "    sd.pp.embed_he(slide, encoder='texture', crop_px=64, device='cpu', store=out, **options)\n"
        "if __name__ == '__main__':\n"
        f"    embed({str(tmp_path / 'by2')!r}, devices=2, strategy='ddp')\n"
    )
    runpy.run_path(str(script))["embed"](tmp_path / "by1")
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "by1/features.npy").read_bytes() == (tmp_path / "by2/features.npy").read_bytes()
