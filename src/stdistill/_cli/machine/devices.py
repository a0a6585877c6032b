"""What torch finds on this machine; a program of its own, since a torch that does not fit the machine may end it."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch


def find_devices() -> list[dict[str, Any]]:
    """Describe the accelerators that torch can use: kind, name, and memory in bytes."""
    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        of = torch.cuda.get_device_properties(number)
        found.append({"kind": f"cuda:{number}", "name": of.name, "memory_bytes": of.total_memory})
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory()
        found.append({"kind": "mps", "name": "Apple GPU", "memory_bytes": memory})
    return found


def main() -> None:
    """Print the devices as JSON; then load timm, which fails where torchvision is not the one for this torch."""
    sys.stdout.write(json.dumps({"devices": find_devices(), "torch_threads": torch.get_num_threads()}))
    sys.stdout.flush()
    import timm  # noqa: F401


if __name__ == "__main__":
    main()
