"""What scripts of this folder that encode crops have in common: they are run on a slide, and write features and costs.

It is loaded in the environments of the packages that are compared, and needs none of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch

KIB_PER_GIB = 2**20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of the crops, which networks of timm are used to."""
BATCH_SIZE = 32
"""The default of all that are compared."""
WARM_UP = 40
"""So many crops go first, and are not counted: what is loaded or compiled is there afterwards."""

Corners = npt.NDArray[np.int64]
Features = npt.NDArray[np.floating]
Prepare = Callable[[Path, Corners, int, torch.nn.Module], Callable[[], Features]]
"""Slide, (n, 2) x and y of the crops' upper left corners, their side in pixels, network → what computes features."""


def run(prepare: Prepare, slide: Path, corners: Corners, crop_px: int, network: str) -> tuple[dict[str, Any], Features]:
    """Open the slide, then measure how its crops go through an untrained network of timm; costs and features."""
    torch.manual_seed(0)
    module = timm.create_model(network, num_classes=0).eval()
    prepare(slide, corners[:WARM_UP], crop_px, module)()
    encode = prepare(slide, corners, crop_px, module)
    start, before = time.perf_counter(), time.process_time()
    features = encode()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_gib": peak}, features


def main(prepare: Prepare, package: str) -> None:
    """Read the corners, run as the command line says, on one thread, and write features (npy) and costs (JSON)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("slide", type=Path)
    parser.add_argument("--corners", type=Path, required=True)
    parser.add_argument("--crop-px", type=int, required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--out", type=Path, required=True, help="without the ending")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    corners = np.load(arguments.corners)
    costs, features = run(prepare, arguments.slide, corners, arguments.crop_px, arguments.network)
    np.save(arguments.out.with_suffix(".npy"), features)
    found = {"version": f"{package} {version(package)}", "torch": torch.__version__, **costs}
    arguments.out.with_suffix(".json").write_text(json.dumps(found))
