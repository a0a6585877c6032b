"""The ways to find nuclei, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from stdistill._nuclei.network import STRIDE_PX, load_network
from stdistill._nuclei.others import OTHERS, load_other
from stdistill._nuclei.postprocess import separate_nuclei
from stdistill._nuclei.tree import find_by_tree

Labels = npt.NDArray[np.int32]
Find = Callable[[Tensor], Labels]
"""Finds nuclei of about 14 px in optical density (3, h, w), and gives their pixels numbers (h, w): 1 … n, else 0."""

METHODS = ("unet", "tree")
"""Those of this library."""


def load_method(name: str, *, weights: str | None = None, device: str | torch.device = "cpu") -> Find:
    """Load a method.

    Parameters
    ----------
    name
        ``"unet"``, the shipped network, ``"tree"``, the component tree, which has no weights, or a network of another
        package: ``"instanseg"``, ``"cellpose"``, ``"stardist"``.
    weights
        Which weights another package's network takes.
    device
        Where the network runs.

    Raises
    ------
    ImportError
        When the package of a method is not installed.
    ValueError
        When there is no such method.
    """
    if name in OTHERS:
        return load_other(name, weights, str(device))
    if name == "tree":
        return lambda density: find_by_tree(density.numpy())
    if name != "unet":
        msg = f"There is no method {name!r} to find nuclei; there are {', '.join(map(repr, (*METHODS, *OTHERS)))}."
        raise ValueError(msg)
    return find_by_network(load_network().to(device))


def find_by_network(network: torch.nn.Module) -> Find:
    """Make a method of a network in evaluation mode."""
    device = next(network.parameters()).device

    def find(density: Tensor) -> Labels:
        height, width = density.shape[1:]
        fill = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
        image = functional.pad(density[None].to(device), fill).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            foreground, centrality = network(image)[0, :, :height, :width].sigmoid().cpu().numpy()
        return separate_nuclei(foreground, centrality)

    return find
