from __future__ import annotations

import numpy as np
import pytest
import torch

from stdistill._nuclei.density import optical_density, resized_density


def test_white_has_no_density_and_black_a_finite_one() -> None:
    density = optical_density(torch.tensor([255, 94, 0], dtype=torch.uint8))
    assert density.tolist() == pytest.approx([0, np.log(255 / 94), np.log(255 / 8)])


def test_shrinking_averages_what_it_leaves_out() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    density = resized_density(stripes, 16, 16)
    assert density.shape == (3, 16, 16)
    assert density[:, 2:-2, 2:-2].numpy() == pytest.approx(-np.log(100 / 255), abs=0.01)


def test_views_of_a_slide_may_be_given() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 4), dtype=np.uint8)
    view = pixels[::-1, 3:, :3]
    assert torch.equal(resized_density(view, 20, 30), resized_density(view.copy(), 20, 30))
