"""Networks of other packages, by stand-ins with the interfaces of InstanSeg 0.1, Cellpose 4 and StarDist 0.9."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from stdistill._measures.instances import match_overlaps
from stdistill._nuclei.density import optical_density
from stdistill._nuclei.methods import load_method

OTHERS = ("instanseg", "cellpose", "stardist")


def threshold(rgb: np.ndarray) -> np.ndarray:
    """Number dark things (h, w, 3), leaving out numbers as filters do."""
    from scipy import ndimage

    return 3 * ndimage.label(rgb[..., 0] < 170)[0]


class InstanSeg:
    def __init__(self, model_type: str, device: str | None = None, verbosity: int = 1) -> None:
        SEEN.update(weights=model_type, device=device)

    def eval_small_image(
        self, image: Any, pixel_size: float, return_image_tensor: bool = True, target: str = "all_outputs"
    ) -> torch.Tensor:
        assert image.shape[0] == 3
        assert not return_image_tensor
        SEEN.update(pixel_size=pixel_size, target=target)
        return torch.from_numpy(threshold(np.moveaxis(image, 0, -1)))[None, None].float()


class CellposeModel:
    def __init__(self, gpu: bool, pretrained_model: str, device: torch.device) -> None:
        SEEN.update(weights=pretrained_model, device=str(device), gpu=gpu)

    def eval(self, x: Any, channel_axis: int, diameter: float) -> tuple[np.ndarray, list, np.ndarray]:
        SEEN.update(diameter=diameter)
        return threshold(x), [], np.zeros(256)


class StarDist2D:
    def __init__(self, config: None, name: str, basedir: str) -> None:
        SEEN.update(weights=str(Path(basedir) / name))

    @classmethod
    def from_pretrained(cls, name: str) -> StarDist2D:
        SEEN.update(weights=name)
        return cls.__new__(cls)

    def predict_instances(self, img: np.ndarray, scale: float) -> tuple[np.ndarray, dict]:
        assert img.max() <= 1
        SEEN.update(scale=scale)
        return threshold(255 * img), {}


SEEN: dict[str, Any] = {}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The three packages, which note what they were asked."""
    SEEN.clear()
    for name, what in (("instanseg", InstanSeg), ("cellpose.models", CellposeModel), ("stardist.models", StarDist2D)):
        for part in {name.partition(".")[0], name}:
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
        setattr(sys.modules[name], what.__name__, what)
    return SEEN


def density_of(pixels: np.ndarray) -> torch.Tensor:
    return optical_density(torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("instanseg", {"weights": "brightfield_nuclei", "device": "cpu", "pixel_size": 6 / 14, "target": "nuclei"}),
        ("cellpose", {"weights": "cpsam", "device": "cpu", "gpu": False, "diameter": 14}),
        ("stardist", {"weights": "2D_versatile_he", "scale": 6 / 14 / 0.25}),
    ],
)
def test_they_see_the_pixels_and_number_nuclei(
    installed: dict[str, Any], field: Any, name: str, asked: dict[str, Any]
) -> None:
    labels = load_method(name)(density_of(field.pixels))
    assert installed == asked
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert match_overlaps(field.labels, labels).f1 > 0.95


def test_own_weights(installed: dict[str, Any], tmp_path: Path) -> None:
    for name in ("instanseg", "cellpose"):
        load_method(name, weights="mine")
        assert installed["weights"] == "mine"
    load_method("stardist", weights=str(tmp_path))
    assert installed["weights"] == str(tmp_path)


def test_glass_has_no_nuclei(installed: dict[str, Any]) -> None:
    for name in OTHERS:
        labels = load_method(name)(density_of(np.full((40, 50, 3), 245, np.uint8)))
        assert labels.shape == (40, 50)
        assert not labels.any()


def test_one_thread_at_a_time(installed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    inside = threading.Lock()

    def check(self: Any, x: np.ndarray, **_: Any) -> tuple[np.ndarray, list, None]:
        assert inside.acquire(blocking=False)
        threading.Event().wait(0.02)
        inside.release()
        return np.zeros(x.shape[:2], int), [], None

    monkeypatch.setattr(CellposeModel, "eval", check)
    find = load_method("cellpose")
    failed: list[BaseException] = []

    def work() -> None:
        try:
            find(torch.zeros(3, 8, 8))
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert not failed


@pytest.mark.parametrize("name", OTHERS)
def test_a_missing_package_is_named(name: str, hide: Callable[[str], None]) -> None:
    hide(name)
    with pytest.raises(ImportError, match=rf"method='{name}' needs the package {name}.*stdistill\[{name}\]"):
        load_method(name)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package one that is not installed."""

    def do(name: str) -> None:
        for part in (name, f"{name}.models"):
            monkeypatch.setitem(sys.modules, part, None)

    return do
