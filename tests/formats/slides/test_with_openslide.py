from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stdistill._formats.slides import with_openslide
from stdistill._formats.slides.open import open_slide

openslide = pytest.importorskip("openslide")


@pytest.fixture
def mirax(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of a MIRAX slide: a file, and a folder beside it."""
    shutil.copy(shared_data / "slides_odd" / "30_small.mrxs", tmp_path / "slide.mrxs")
    shutil.copytree(shared_data / "slides_odd" / "30_small", tmp_path / "slide")
    (tmp_path / "slide").chmod(0o755)
    return tmp_path / "slide.mrxs"


def test_a_level_is_an_array(mirax: Path) -> None:
    image = open_slide(mirax)
    assert image.format == "mirax"
    whole = image.levels[0].compute()
    assert whole.shape == (3, 1024, 1024)
    for number, level in enumerate(image.stored):
        again = pickle.loads(pickle.dumps(level))
        np.testing.assert_array_equal(again[:, 10:90, 20:50], image.levels[number][:, 10:90, 20:50].compute())
    assert len(image.digest) == 64
    assert image.digest == openslide.OpenSlide(mirax).properties["openslide.quickhash-1"]


def test_the_folder_was_not_copied(mirax: Path) -> None:
    shutil.rmtree(mirax.with_suffix(""))
    with pytest.raises(ValueError, match=r"^slide\.mrxs cannot be read by OpenSlide .*files beside it"):
        open_slide(mirax)


@pytest.mark.parametrize("name", ["a.mrxs", "a.scn", "a.bif", "a.czi", "a.vms", "a.DCM"])
def test_no_slide_of_this_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("nothing of the kind")
    with pytest.raises(ValueError, match=rf"^{name} cannot be read by OpenSlide"):
        open_slide(path)


def test_openslide_is_not_installed(mirax: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_openslide._open.cache_clear()
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImportError, match=r"^slide\.mrxs is read through OpenSlide, .* 'stdistill\[openslide\]'"):
        open_slide(mirax)


class Stand:
    """A slide as OpenSlide gives it, of one colour, transparent on its left half."""

    def __init__(self, properties: dict[str, str], levels: list[tuple[int, int]]) -> None:
        self.properties, self.level_dimensions, self.dimensions = properties, levels, levels[0]
        self.asked: list[Any] = []

    def read_region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        self.asked.append((corner, level, size))
        width, height = size
        factor = self.dimensions[0] / self.level_dimensions[level][0]
        x = corner[0] + (np.arange(width) + 0.5) * factor
        rgba = np.zeros((height, width, 4), np.uint8)
        rgba[:, x >= self.dimensions[0] / 2] = (200, 120, 170, 255)
        return rgba


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Path, Stand]]:
    def stand(levels: list[tuple[int, int]] | None = None, **properties: str) -> tuple[Path, Stand]:
        slide = Stand(
            {f"openslide.{name.replace('_', '-')}": value for name, value in properties.items()},
            levels or [(800, 600), (200, 150)],
        )
        monkeypatch.setattr(with_openslide, "_open", lambda *_: slide)
        path = tmp_path / "slide.mrxs"
        path.write_text("x")
        return path, slide

    return stand


@pytest.mark.parametrize(
    ("background", "glass"), [({}, (255, 255, 255)), ({"background_color": "E6EbF0"}, (230, 235, 240))]
)
def test_gaps_have_the_colour_of_the_background(stand: Callable, background: dict[str, str], glass: tuple) -> None:
    path, slide = stand(mpp_x="0.25", mpp_y="0.25", **background)
    image = open_slide(path)
    for level in image.stored:
        pixels = level[:, :, :]
        half = pixels.shape[2] // 2
        assert (pixels[:, :, :half] == np.array(glass)[:, None, None]).all()
        assert (pixels[:, :, half:] == np.array((200, 120, 170))[:, None, None]).all()
    slide.asked.clear()
    image.stored[1][:, 10:20, 30:70]
    assert slide.asked == [((120, 40), 1, (40, 10))]  # corners in pixels of the full resolution


@pytest.mark.parametrize(
    ("properties", "mpp"),
    [
        ({"mpp_x": "0.2325", "mpp_y": "0.2326"}, 0.23255),
        ({"mpp_x": "0,5", "mpp_y": "0,5"}, 0.5),
        ({"objective_power": "40"}, None),
        ({"mpp_x": "0.25"}, None),
        ({"mpp_x": "10000", "mpp_y": "10000"}, None),
    ],
)
def test_mpp(stand: Callable, properties: dict[str, str], mpp: float | None) -> None:
    stated = open_slide(stand(**properties)[0]).stated
    usable = None if stated is None else stated.usable
    assert usable == (None if mpp is None else pytest.approx(mpp))


def test_bounds_are_carried(stand: Callable) -> None:
    bounds = {"bounds_x": "256", "bounds_y": "128", "bounds_width": "400", "bounds_height": "300"}
    assert open_slide(stand(**bounds)[0]).bounds == (256, 128, 400, 300)
    del bounds["bounds_width"]
    assert open_slide(stand(**bounds)[0]).bounds is None
