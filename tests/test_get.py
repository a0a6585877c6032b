from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import spatialdata

import stdistill as sd


def test_pixels_of_the_cells(make_slide: Callable) -> None:
    slide = make_slide(np.array([[2.125, 4.25], [21.25, 42.5]]), he_to_global=np.diag([2.0, 2, 1]), shape=(60, 60))
    pixels = sd.get.he_pixels(slide)
    np.testing.assert_allclose(pixels[["x", "y"]], [[5, 10], [50, 100]])
    assert pixels["on_image"].tolist() == [True, False]
    assert pixels["image_key"].tolist() == ["he", "he"]
    np.testing.assert_allclose(pixels["mpp"], 0.425)
    assert pixels.index.equals(slide["table"].obs_names)


def test_two_slides(make_slide: Callable) -> None:
    parts = {"a": make_slide(30), "b": make_slide(20, he_to_global=np.diag([2.0, 2, 1]))}
    both = spatialdata.concatenate(parts, concatenate_tables=True)
    pixels = sd.get.he_pixels(both, image_key={"cells-a": "he-a", "cells-b": "he-b"})
    assert pixels.groupby("image_key", observed=True)["mpp"].first().to_dict() == pytest.approx(
        {"he-a": 0.2125, "he-b": 0.425}
    )
    np.testing.assert_allclose(pixels[["x", "y"]][:30], sd.get.he_pixels(parts["a"])[["x", "y"]])
