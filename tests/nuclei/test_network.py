from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stdistill._nuclei.network import REACH_PX, STRIDE_PX, WEIGHTS, NucleusNetwork, load_network

STORED = [
    [0.0006, 0.0004, 0.0002, 0.0017, 0.2308, 0.9863, 0.9986, 0.9984, 0.998],
    [0.0005, 0.0004, 0.0001, 0.0004, 0.0212, 0.2179, 0.5824, 0.8545, 0.8768],
]
"""Both maps at every other pixel from 16 to 32 of the middle row of the disc."""


@pytest.fixture(scope="module")
def network() -> NucleusNetwork:
    return load_network()


def dark_disc(size: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = torch.sigmoid(7 - torch.hypot(y - size / 2 + 0.5, x - size / 2 + 0.5))
    colour = torch.tensor([0.65, 0.70, 0.29])[:, None, None]
    return (0.1 + inside * colour)[None]


def test_the_shipped_weights_are_small_and_have_a_card() -> None:
    assert WEIGHTS.stat().st_size < 700_000
    card = WEIGHTS.with_name("README.md").read_text()
    for topic in ("CC0", "BSD-3-Clause", "F1", "Limits", "train_nuclei.py"):
        assert topic in card


def test_a_nucleus_is_seen(network: NucleusNetwork) -> None:
    foreground, centrality = network(dark_disc())[0].sigmoid()
    assert foreground[32, 32] > 0.9
    assert foreground[4:8, 4:8].max() < 0.1
    assert centrality[32, 32] > 0.7
    assert centrality[32, 32] > centrality[32, 27] > centrality[32, 24]


def test_the_answer_is_that_of_the_day_the_weights_were_made(network: NucleusNetwork) -> None:
    with torch.inference_mode():
        maps = network(dark_disc())[0].sigmoid()
    expected = torch.tensor(STORED)
    torch.testing.assert_close(maps[:, 32, 16:34:2], expected, atol=2e-3, rtol=0)


def test_the_same_pixels_give_the_same_answer(network: NucleusNetwork) -> None:
    with torch.inference_mode():
        assert torch.equal(network(dark_disc()), network(dark_disc()))


def test_nothing_beyond_its_reach_matters(network: NucleusNetwork) -> None:
    image = torch.rand((1, 3, 3 * REACH_PX, 3 * REACH_PX), generator=torch.Generator().manual_seed(0))
    image.requires_grad_()
    network(image)[0, :, 96, 96].sum().backward()
    rows = torch.nonzero(image.grad.abs().sum((0, 1, 3))).ravel()
    assert rows.min() >= 96 - REACH_PX
    assert rows.max() <= 96 + REACH_PX
    assert REACH_PX % STRIDE_PX == 0


def test_training_and_shipped_networks_take_the_same_images() -> None:
    image = torch.rand(2, 3, 32, 40)
    assert NucleusNetwork(normalised=True)(image).shape == NucleusNetwork()(image).shape == (2, 2, 32, 40)


def test_other_weights_can_be_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NucleusNetwork()
    save_file({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "own.safetensors")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_network(tmp_path / "own.safetensors")(image), network(image), atol=1e-2, rtol=1e-2)
