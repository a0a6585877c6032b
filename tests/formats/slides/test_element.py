from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from spatialdata import get_pyramid_levels
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

from stdistill._formats.slides.element import slide_element
from stdistill._formats.slides.open import open_slide


@pytest.fixture
def image(write: Callable, draw: Callable, halve: Callable) -> object:
    return open_slide(write(halve(draw(601, 400), 3)))


def test_one_place_in_all_levels(image: object) -> None:
    """Pixel centres of every level, in pixels of the full resolution, go from edge to edge."""
    element = slide_element(image, np.diag([4.0, 4.0, 1.0]), None)
    Image2DModel().validate(element)
    for level, n in zip(get_pyramid_levels(element), (601, 300, 150), strict=True):
        y = level.coords["y"].to_numpy()
        assert len(y) == n
        assert y[0] == pytest.approx(601 / n / 2)
        assert y[-1] == pytest.approx(601 - 601 / n / 2)
    assert list(level.coords["c"].values) == ["r", "g", "b"]


def test_systems_of_an_he_alone(image: object) -> None:
    element = slide_element(image, np.diag([4.0, 4.0, 1.0]), None)
    systems = get_transformation(element, get_all=True)
    to_um, to_global = (systems[name].to_affine_matrix(("x", "y"), ("x", "y")) for name in ("um", "global"))
    np.testing.assert_allclose(to_um @ (100, 40, 1), (25, 10, 1))
    np.testing.assert_allclose(to_global, np.eye(3))


def test_system_of_an_he_with_transcripts(image: object) -> None:
    """Turned by a quarter, at 0.5 µm per pixel, over a morphology image of 0.2 µm per pixel."""
    um_to_px = np.array([[0, 2, 10], [-2, 0, 600], [0, 0, 1.0]])
    element = slide_element(image, um_to_px, 0.2)
    (system,) = get_transformation(element, get_all=True).items()
    assert system[0] == "global"
    to_global = system[1].to_affine_matrix(("x", "y"), ("x", "y"))
    px = um_to_px @ (30, 50, 1)
    np.testing.assert_allclose(to_global @ px, (150, 250, 1))
