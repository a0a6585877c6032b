"""What users set for all of torch in a notebook, and networks here must not depend on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

_one_thread_at_a_time = threading.RLock()


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Make numbers of 32 bits, on the CPU where no device is named, with gradients; and put all back as it was.

    ``torch.set_default_dtype``, ``torch.set_default_device`` and ``torch.inference_mode`` hold for whoever comes after.
    Threads of one process have these, and the random numbers, in common: they come in one after the other.
    """
    with _one_thread_at_a_time:
        dtype = torch.get_default_dtype()
        # By a tensor: in torch 2.5 get_default_device fails once set_default_device(None) was called.
        elsewhere = torch.empty(0).device.type != "cpu"
        torch.set_default_dtype(torch.float32)
        try:
            # A mode of a device is asked at every operation, so that there is one only where it is needed.
            with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu") if elsewhere else nullcontext():
                yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Let a GPU of NVIDIA's multiply matrices of 32 bits as TF32, with 10 bits behind the point, for this while."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # somebody chose for CUDA alone, after which torch tells nothing of this setting
        yield
        return
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
