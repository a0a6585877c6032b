from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stdistill._measures.instances import match_overlaps
from stdistill._nuclei.density import optical_density
from stdistill._nuclei.tree import find_by_tree


def density_of(pixels: np.ndarray) -> np.ndarray:
    return optical_density(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()


def test_nuclei_that_lie_apart_are_all_found(field: Any) -> None:
    assert match_overlaps(field.labels, find_by_tree(density_of(field.pixels))).f1 == 1


def test_each_nucleus_has_a_threshold_of_its_own(draw: Callable[..., Any]) -> None:
    drawing = draw((60, 120), [(20, 30), (50, 30), (90, 30)], darkness=(0.6, 2.2, 1.2))
    found = find_by_tree(density_of(drawing.pixels))
    assert match_overlaps(drawing.labels, found, min_iou=0.7).n_matched == 3


def test_touching_nuclei_are_parted(draw: Callable[..., Any]) -> None:
    drawing = draw((60, 80), [(30, 30), (45, 30)], elongation=1.0)
    found = find_by_tree(density_of(drawing.pixels))
    assert match_overlaps(drawing.labels, found, min_iou=0.6).n_matched == 2


def test_what_is_much_larger_or_smaller_is_no_nucleus(draw: Callable[..., Any]) -> None:
    assert not find_by_tree(density_of(draw((200, 200), [(100, 100)], diameter=60, chromatin=0).pixels)).any()
    assert not find_by_tree(density_of(draw((60, 60), [(30, 30)], diameter=4).pixels)).any()


def test_a_part_has_the_nuclei_that_the_whole_has(field: Any) -> None:
    density = density_of(field.pixels)
    whole, part = find_by_tree(density), find_by_tree(density[:, 50:, 70:])
    inner = (slice(60, 130), slice(60, 170))  # further than nuclei and the ground around them reach
    matches = match_overlaps(whole[50:, 70:][inner], part[inner], min_iou=0.999)
    assert matches.n_matched == matches.n_true == matches.n_found > 5


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_plain_image_has_no_nuclei(grey: int) -> None:
    found = find_by_tree(density_of(np.full((64, 96, 3), grey, dtype=np.uint8)))
    assert found.shape == (64, 96)
    assert found.dtype == np.int32
    assert not found.any()


def test_red_is_no_nucleus(draw: Callable[..., Any]) -> None:
    red = np.full((60, 60, 3), (240, 200, 220), dtype=np.uint8)
    y, x = np.mgrid[:60, :60]
    red[np.hypot(y - 30, x - 30) < 7] = (235, 60, 80)  # a red blood cell
    assert not find_by_tree(density_of(red)).any()
