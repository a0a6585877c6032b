from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stdistill._formats.slides.open import list_scenes, open_slide


def test_the_thumbnail_is_first(tmp_path: Path, draw: Callable, halve: Callable) -> None:
    """As in Ventana's TIFFs: a picture of the glass, the slide, its levels."""
    levels = halve(draw(1024, 768), 3)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(draw(256, 256, seed=1), photometric="rgb", metadata=None, description="Label Image")
        for level in levels:
            tiff.write(level, photometric="rgb", metadata=None, tile=(128, 128))
    image = open_slide(path)
    assert [level.shape[1:] for level in image.stored] == [level.shape[:2] for level in levels]
    np.testing.assert_array_equal(np.moveaxis(image.levels[0].compute(), 0, -1), levels[0])


@pytest.mark.parametrize(
    "name", ["label", "Label Image", "macro", "Aperio macro 400x300", "thumbnail", "overview", "#label", "barcode"]
)
def test_pictures_of_the_glass_are_no_scenes(
    tmp_path: Path, draw: Callable, name: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Also those of half the size of the slide, in any place of an OME-TIFF."""
    for order in ((name, "tissue"), ("tissue", name)):
        path = tmp_path / "slide.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as tiff:
            for each in order:
                pixels = draw(512, 512) if each == "tissue" else draw(400, 300, seed=2)
                tiff.write(pixels, photometric="rgb", metadata={"axes": "YXS", "Name": each}, tile=(128, 128))
        if name == "Aperio macro 400x300":  # a name that ends otherwise is a scene
            assert len(list_scenes(path)) == 2
            continue
        image = open_slide(path)
        assert (image.shape, image.scene) == ((512, 512), "tissue")
    assert not [each for each in recwarn.list if issubclass(each.category, UserWarning)]  # of other kinds may come late


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_scenes_are_listed_and_chosen(write_ome: Callable, draw: Callable, halve: Callable, byteorder: str) -> None:
    sizes = [(600, 400), (512, 512), (400, 900)]
    images = [halve(draw(*size, seed=seed), 2) for seed, size in enumerate(sizes)]
    names = ["Scene 1", "B", "2"]
    words = [{"Name": name, "PhysicalSizeX": 0.2 + 0.1 * n} for n, name in enumerate(names)]
    path = write_ome(images, metadata=words, byteorder=byteorder, compression="deflate")
    assert list_scenes(path) == [(name, *size) for name, size in zip(names, sizes, strict=True)]
    listed = r"\(0: 'Scene 1', 400 × 600 px; 1: 'B', 512 × 512 px; 2: '2', 900 × 400 px\)"
    with pytest.raises(ValueError, match=rf"^slide\.ome\.tif holds 3 scenes {listed}\. Choose one with scene="):
        open_slide(path)
    choices: list[tuple[Any, int]] = [(0, 0), ("Scene 1", 0), (1, 1), ("B", 1), (2, 2), ("2", 2), (np.int64(2), 2)]
    for scene, number in choices:
        image = open_slide(path, scene=scene)
        assert image.scene == names[number]
        assert image.stated is not None
        assert image.stated.x == pytest.approx(0.2 + 0.1 * number)
        for level, expected in zip(image.levels, images[number], strict=True):
            np.testing.assert_array_equal(np.moveaxis(level.compute(), 0, -1), expected)
    for scene in (3, -1, "C", "b", ""):
        with pytest.raises(ValueError, match=rf"^scene={scene!r} is not in slide\.ome\.tif; there is: 0: 'Scene 1'"):
            open_slide(path, scene=scene)


def test_scenes_of_one_size(write_ome: Callable, draw: Callable) -> None:
    """tifffile keeps them apart when they have names; plain pages of one size it stacks."""
    images = [draw(300, 300, seed=seed) for seed in range(3)]
    path = write_ome([[each] for each in images], metadata=[{"Name": "A"}, {"Name": "A"}, {"Name": "B"}])
    for number, pixels in enumerate(images):
        read = open_slide(path, scene=number).levels[0].compute()
        np.testing.assert_array_equal(np.moveaxis(read, 0, -1), pixels)
    with pytest.raises(ValueError, match=r"holds 2 scenes of the name 'A' .* Choose one by its number"):
        open_slide(path, scene="A")


def test_plain_pages_of_one_size(write: Callable, draw: Callable) -> None:
    pages = [draw(300, 300, seed=seed) for seed in range(2)]
    path = write(pages)
    with pytest.raises(ValueError, match=r"holds 2 scenes \(0: 300 × 300 px; 1: 300 × 300 px\)"):
        open_slide(path)
    for number, pixels in enumerate(pages):
        np.testing.assert_array_equal(np.moveaxis(open_slide(path, scene=number).levels[0].compute(), 0, -1), pixels)


def test_a_small_second_image_is_no_scene(write_ome: Callable, draw: Callable) -> None:
    path = write_ome([[draw(800, 800)], [draw(150, 150)]])
    assert open_slide(path).shape == (800, 800)


def test_a_coloured_picture_of_a_fluorescence_slide(tmp_path: Path, draw: Callable) -> None:
    """Not the picture is taken for an H&E."""
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        channels = np.zeros((5, 1000, 1000), np.uint16)
        tiff.write(channels, photometric="minisblack", metadata={"axes": "CYX"}, tile=(128, 128))
        tiff.write(draw(400, 400), photometric="rgb", metadata={"axes": "YXS"}, tile=(128, 128))
    with pytest.raises(ValueError, match=r"pixels of type uint16; .* Is it a fluorescence image"):
        open_slide(path)
