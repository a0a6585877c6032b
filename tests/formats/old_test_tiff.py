from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from stdistill._formats.slides import tiff, tiff_level
from stdistill._formats.slides.open import open_slide as read_slide_image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (600, 500, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(levels: list[Pixels], *, axes: str = "YXS", mpp: float | None = 0.274, **options: Any) -> Path:
        path = tmp_path / "slide_he_image.ome.tif"
        metadata: dict[str, Any] = {"axes": axes}
        if mpp is not None:
            metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp}
        options = {"tile": (128, 128), "photometric": "rgb", **options}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
            for level in levels[1:]:
                tiff.write(level, subfiletype=1, **options)
        return path

    return write


def test_a_pyramid_is_used_as_it_is(write: Callable, pixels: Pixels) -> None:
    # The second level holds other pixels than a downsampling would give, to see that it is read.
    small = 255 - pixels[::2, ::2]
    image = read_slide_image(write([pixels, small], compression="deflate"))
    assert image.mpp == pytest.approx(0.274)
    assert [level.shape for level in image.levels] == [(3, 600, 500), (3, 300, 250)]
    np.testing.assert_array_equal(image.levels[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(image.levels[1], small.transpose(2, 0, 1))


def test_a_window_decodes_only_the_tiles_under_it(
    write: Callable, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = read_slide_image(write([pixels], compression="deflate"))
    asked: list[Any] = []
    get = tiff_level.TiffLevel.__getitem__
    monkeypatch.setattr(tiff_level.TiffLevel, "__getitem__", lambda self, key: asked.append(key) or get(self, key))
    window = image.levels[0][:, 100:200, 300:350].compute()
    np.testing.assert_array_equal(window, pixels.transpose(2, 0, 1)[:, 100:200, 300:350])
    tiles = {(key[0].start // 128, key[1].start // 128) for key in asked}
    assert tiles == {(0, 2), (1, 2)}
    assert all(key[0].stop - key[0].start <= 128 and key[1].stop - key[1].start <= 128 for key in asked)


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "jpeg2000", None])
def test_compressions_of_slides(write: Callable, pixels: Pixels, compression: str | None) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 500).astype(np.uint8)[:, None], pixels.shape)
    image = read_slide_image(write([np.ascontiguousarray(smooth)], compression=compression))
    np.testing.assert_allclose(image.levels[0].compute().astype(int), smooth.transpose(2, 0, 1), atol=6)


def test_axes_in_another_order(write: Callable, pixels: Pixels) -> None:
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    image = read_slide_image(write([planes], axes="SYX", planarconfig="separate"))
    np.testing.assert_array_equal(image.levels[0], planes)
    with pytest.warns(UserWarning, match="does not say that its three channels are red, green and blue"):
        image = read_slide_image(write([planes], axes="CYX", photometric="minisblack"))
    np.testing.assert_array_equal(image.levels[0], planes)


def test_axes_of_length_one_are_dropped(write: Callable, pixels: Pixels) -> None:
    image = read_slide_image(write([pixels[None]], axes="ZYXS"))
    np.testing.assert_array_equal(image.levels[0], pixels.transpose(2, 0, 1))


def test_alpha_is_left_out(write: Callable, pixels: Pixels) -> None:
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    with pytest.warns(UserWarning, match=r"fourth \(alpha\) channel"):
        image = read_slide_image(write([rgba], extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(image.levels[0], pixels.transpose(2, 0, 1))


def test_one_channel(write: Callable, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match=r"no RGB image: its axes are Y 600 × X 500; .* DAPI"):
        read_slide_image(write([pixels[..., 0]], axes="YX", photometric="minisblack"))


def test_four_fluorescence_channels(write: Callable, pixels: Pixels) -> None:
    planes = np.ascontiguousarray(np.concatenate([pixels, pixels[..., :1]], axis=-1).transpose(2, 0, 1))
    with pytest.raises(ValueError, match="has 4 channels; an H&E has three"):
        read_slide_image(write([planes], axes="CYX", photometric="minisblack"))


def test_several_focal_planes(write: Callable, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="no RGB image: its axes are Z 2"):
        read_slide_image(write([np.stack([pixels, pixels])], axes="ZYXS"))


def test_sixteen_bit(write: Callable, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match=r"pixels of type uint16; .*8-bit RGB.*vips cast"):
        read_slide_image(write([pixels.astype(np.uint16)]))


def test_no_resolution(write: Callable, pixels: Pixels) -> None:
    assert read_slide_image(write([pixels], mpp=None)).mpp is None


def test_a_small_image_without_pyramid_is_no_matter(write: Callable, pixels: Pixels, recwarn: Any) -> None:
    assert len(read_slide_image(write([pixels])).levels) == 1
    assert not recwarn.list


def test_a_large_image_without_pyramid_and_tiles(
    write: Callable, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "LARGE_PX", 100)
    with pytest.warns(UserWarning, match=r"has no pyramid: reading will be slow"):
        read_slide_image(write([pixels]))
    with pytest.warns(UserWarning, match=r"no tiles and no pyramid.*vips tiffsave"):
        read_slide_image(write([pixels], tile=None))


def test_not_there_and_no_tiff(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no H&E image"):
        read_slide_image(tmp_path / "missing.tif")
    (tmp_path / "he.tif").write_text("a page that says 404")
    with pytest.raises(ValueError, match=r"he\.tif is no TIFF"):
        read_slide_image(tmp_path / "he.tif")


def test_levels_can_be_sent_to_other_processes(write: Callable, pixels: Pixels) -> None:
    image = read_slide_image(write([pixels]))
    level = pickle.loads(pickle.dumps(image.levels[0]))
    np.testing.assert_array_equal(level, pixels.transpose(2, 0, 1))


def test_a_file_written_anew_is_read_anew(write: Callable, pixels: Pixels) -> None:
    assert read_slide_image(write([pixels])).levels[0][0, 0, 0].compute() == pixels[0, 0, 0]
    time.sleep(0.01)
    assert read_slide_image(write([255 - pixels])).levels[0][0, 0, 0].compute() == 255 - pixels[0, 0, 0]


def test_a_real_svs(shared_data: Path) -> None:
    path = shared_data / "he_small_images" / "CMU-1-Small-Region.svs"
    image = read_slide_image(path)
    assert image.levels[0].shape == (3, 2967, 2220)
    expected = tifffile.imread(path, series=0)[1000:1224, 500:724].transpose(2, 0, 1)
    np.testing.assert_array_equal(image.levels[0][:, 1000:1224, 500:724], expected)


def _differs(job: tuple[Any, Pixels, int]) -> bool:
    level, expected, seed = job
    rng = np.random.default_rng(seed)
    for _ in range(30):
        y, x = rng.integers(0, 400, 2)
        if not np.array_equal(level[:, y : y + 90, x : x + 90].compute(), expected[:, y : y + 90, x : x + 90]):
            return True
    return False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_readers_do_not_disturb_each_other(write: Callable, pixels: Pixels) -> None:
    """As in a DataLoader's workers, after the parent has read from the image."""
    level = read_slide_image(write([pixels], tile=(64, 64), compression="deflate")).levels[0]
    expected = level.compute(scheduler="synchronous")
    with dask.config.set(scheduler="synchronous"), multiprocessing.get_context("fork").Pool(4) as pool:
        assert not any(pool.map(_differs, [(level, expected, seed) for seed in range(4)]))


def test_a_file_that_was_not_copied_to_its_end(write: Callable, pixels: Pixels) -> None:
    path = write([pixels], compression="deflate")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(ValueError, match=r"is truncated|is no TIFF|holds no image"):
        read_slide_image(path)


def test_colors_that_are_not_rgb(write: Callable, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="stores its colours as CIELAB; an H&E is expected as RGB"):
        read_slide_image(write([pixels], photometric="cielab"))
