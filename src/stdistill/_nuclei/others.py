"""Networks of other packages, which find nuclei where those are installed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stdistill._nuclei.density import NUCLEUS_PX, TYPICAL_UM
from stdistill._support.arrays import Pixels

Labels = npt.NDArray[np.int32]
UM_PER_PX = TYPICAL_UM / NUCLEUS_PX
"""µm per pixel of what methods see."""
STARDIST_MPP = 0.25
"""The H&E that StarDist's network was trained on."""


def load_other(name: str, weights: str | None, device: str) -> Callable[[Tensor], Labels]:
    """Load the network of another package.

    Parameters
    ----------
    name
        One of `OTHERS`.
    weights
        Name or path of its weights, as the package takes it; `None`: those for nuclei in H&E, or for all images. The
        package downloads them when they are not at hand.
    device
        Where it runs; StarDist chooses itself.

    Raises
    ------
    ImportError
        When the package is not installed.
    """
    module, load, usual = OTHERS[name]
    try:
        package = import_module(module)
    except ImportError as error:
        msg = (
            f"method={name!r} needs the package {module.partition('.')[0]}, which cannot be imported ({error}). "
            f"Install it with pip install 'stdistill[{name}]', or take the default method, whose weights are here."
        )
        raise ImportError(msg) from error
    segment = load(package, usual if weights is None else weights, device)
    alone = threading.Lock()  # nothing says that these may be called by several threads at once

    def find(density: Tensor) -> Labels:
        pixels = (255 * (-density).exp()).round().byte().permute(1, 2, 0).cpu().numpy()
        with alone:
            labels = segment(pixels)
        return np.unique(np.append(0, labels), return_inverse=True)[1][1:].reshape(labels.shape).astype(np.int32)

    return find


def _instanseg(package: Any, weights: str, device: str) -> Callable[[Pixels], Labels]:
    """Load InstanSeg (Goldsborough et al. 2024)."""
    model = package.InstanSeg(weights, device=device, verbosity=0)

    def segment(pixels: Pixels) -> Labels:
        found = model.eval_small_image(
            np.moveaxis(pixels, -1, 0), pixel_size=UM_PER_PX, return_image_tensor=False, target="nuclei"
        )
        labels: Labels = np.asarray(found.cpu())[0, 0].astype(np.int32)
        return labels

    return segment


def _cellpose(package: Any, weights: str, device: str) -> Callable[[Pixels], Labels]:
    """Load Cellpose-SAM (Pachitariu et al. 2025)."""
    import torch

    model = package.CellposeModel(gpu=device != "cpu", pretrained_model=weights, device=torch.device(device))

    def segment(pixels: Pixels) -> Labels:
        labels: Labels = model.eval(pixels, channel_axis=-1, diameter=NUCLEUS_PX)[0]
        return labels

    return segment


def _stardist(package: Any, weights: str, device: str) -> Callable[[Pixels], Labels]:
    """Load StarDist (Schmidt et al. 2018)."""
    from pathlib import Path

    folder = Path(weights)
    if folder.is_dir():
        model = package.StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    else:
        model = package.StarDist2D.from_pretrained(weights)

    def segment(pixels: Pixels) -> Labels:
        # Not by percentiles of the tile, as usual, which would differ from tile to tile.
        labels: Labels = model.predict_instances(pixels / np.float32(255), scale=UM_PER_PX / STARDIST_MPP)[0]
        return labels

    return segment


OTHERS: dict[str, tuple[str, Callable[[Any, str, str], Callable[[Pixels], Labels]], str]] = {
    "instanseg": ("instanseg", _instanseg, "brightfield_nuclei"),
    "cellpose": ("cellpose.models", _cellpose, "cpsam"),
    "stardist": ("stardist.models", _stardist, "2D_versatile_he"),
}
"""Module, what loads a network of it, and its usual weights."""
