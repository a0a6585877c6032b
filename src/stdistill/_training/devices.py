"""Where torch computes: the device that Lightning's words mean, whatever scheduler started this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from stdistill._support.arrays import Integers


def torch_device(accelerator: str = "auto") -> str:
    """Name the device of torch that is meant by a word of Lightning's; ``"auto"`` is the fastest there is.

    Raises
    ------
    ValueError
        When it is a GPU, and torch sees none.
    """
    kind = accelerator.partition(":")[0]
    if kind in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return accelerator if kind == "cuda" else "cuda"
    if kind in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return accelerator if kind == "mps" else "mps"
    if kind in ("gpu", "cuda", "mps"):
        msg = (
            f"{accelerator!r} is asked for, and torch sees no such device on this machine (`stdistill doctor` says "
            'what there is). "auto" takes the fastest there is, "cpu" the processor.'
        )
        raise ValueError(msg)
    return "cpu" if kind == "auto" else accelerator


def environment(devices: int | str | Sequence[int], num_nodes: int = 1) -> list[Any]:
    """Plugins for a Trainer: with one device the environment of a scheduler does not matter.

    A process within ``salloc --ntasks=8``, or of a notebook on a cluster, would else be refused by Lightning, which
    takes it for one of eight.
    """
    return [LightningEnvironment()] if num_nodes == 1 and n_devices(devices) == 1 else []


def n_devices(devices: int | str | Sequence[int]) -> int:
    """Count the devices that are meant; ``"auto"`` and -1 are all GPUs."""
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        return int(devices) if devices.isdecimal() else len(devices.strip(",").split(","))
    if isinstance(devices, int) and devices != -1:
        return devices
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    return max(1, torch.cuda.device_count())


@contextmanager
def forked_rng() -> Iterator[None]:
    """Leave torch's random numbers as they are, without waking CUDA, which processes to come could then not use."""
    is_awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if is_awake else []):
        yield


def share_of_rank(rows: Integers) -> Integers:
    """Take the part of this process of what several of them compute together."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return rows
    part: Integers = np.array_split(rows, torch.distributed.get_world_size())[torch.distributed.get_rank()]
    return part


def from_all_ranks(values: Any) -> list[Any]:
    """Give each process what all of them have, in the order of their ranks."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [values]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, values)
    return gathered
