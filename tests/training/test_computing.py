from __future__ import annotations

import pytest
import torch
from torch import nn

from stdistill._training.computing import computing


def test_a_network_computes_without_gradients_and_is_at_home_again() -> None:
    """Torch as the user has it does not matter, and stays."""
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.9)).train()
    torch.set_default_dtype(torch.float64)
    try:
        with computing(network, "cpu", 8) as (place, threads):
            assert place == torch.device("cpu")
            threads.adjust()
            given = torch.ones(1000, 2)
            assert given.dtype == torch.float32
            found = network(given)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.unique().numel() == 1  # nothing was dropped out
    assert found.is_inference()
    assert network[0].weight.device == torch.device("cpu")


def test_it_comes_home_after_an_error() -> None:
    network = nn.Linear(2, 1)
    with pytest.raises(KeyError), computing(network, torch.device("cpu"), 8):
        raise KeyError
    assert network.weight.device == torch.device("cpu")


def test_a_device_without_room_for_so_many() -> None:
    full = pytest.raises(MemoryError, match="out of memory with batch_size=8: try a smaller one")
    with full, computing(nn.Linear(2, 1), "cpu", 8):
        raise torch.OutOfMemoryError
