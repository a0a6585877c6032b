"""Trained networks on a device, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stdistill._support.threads import FreeThreads
from stdistill._training.devices import torch_device
from stdistill._training.state import own_torch_state


@contextmanager
def computing(
    network: nn.Module, device: torch.device | str, batch_size: int
) -> Iterator[tuple[torch.device, FreeThreads]]:
    """Take a network to a device, give this and the threads to be adjusted between batches, and take it back.

    `batch_size` is for whoever has to choose a smaller one: the memory of a device is what it runs out of.
    """
    home = next(iter(network.state_dict().values())).device
    place = torch.device(torch_device(device) if isinstance(device, str) else device)
    try:
        network.eval().to(place)
        with own_torch_state(), torch.inference_mode(), FreeThreads() as threads:
            yield place, threads
    except torch.OutOfMemoryError as error:
        msg = f"The device is out of memory with batch_size={batch_size}: try a smaller one. ({error})"
        raise MemoryError(msg) from error
    finally:
        network.to(home)
