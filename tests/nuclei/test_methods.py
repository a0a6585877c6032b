from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stdistill._measures.instances import match_overlaps
from stdistill._nuclei.density import optical_density
from stdistill._nuclei.methods import METHODS, load_method


@pytest.mark.parametrize("name", METHODS)
def test_nuclei_of_a_simple_field_are_found(name: str, field: Any) -> None:
    density = optical_density(torch.from_numpy(field.pixels).permute(2, 0, 1))
    assert match_overlaps(field.labels, load_method(name)(density)).f1 > 0.97


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (33, 65)])
def test_images_may_have_any_size(name: str, shape: tuple[int, int]) -> None:
    labels = load_method(name)(torch.zeros(3, *shape))
    assert labels.shape == shape
    assert labels.dtype == np.int32


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("density", [0.0, 0.7, 3.4])
def test_plain_images_have_no_nuclei(name: str, density: float) -> None:
    assert not load_method(name)(torch.full((3, 96, 96), density)).any()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no method 'otsu'.*'unet', 'tree'"):
        load_method("otsu")
