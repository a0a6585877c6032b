"""The network that sees nuclei: a small U-Net on optical densities, and its shipped weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 48, 80)
"""Channels at full, half, quarter and eighth resolution."""
STRIDE_PX = 2 ** (len(WIDTHS) - 1)
"""Sides of what the network sees must be multiples of this."""
REACH_PX = 64
"""An output depends on no pixel further away than this."""
WEIGHTS = Path(__file__).parent / "weights" / "nuclei.safetensors"


class NucleusNetwork(nn.Module):
    """Tell foreground and centrality of nuclei from optical density.

    A U-Net (Ronneberger et al. 2015) whose decoder adds what the encoder saw instead of appending it, as in LinkNet
    (Chaurasia and Culurciello 2017): half of the arithmetic at full resolution.

    Parameters
    ----------
    normalised
        With batch normalisation, as for training. In the shipped weights it is folded into the convolutions.
    """

    def __init__(self, *, normalised: bool = False) -> None:
        super().__init__()
        finer, coarser = WIDTHS[:-1], WIDTHS[1:]
        self.encoder = nn.ModuleList(
            _two_convolutions(inputs, outputs, normalised) for inputs, outputs in zip((3, *finer), WIDTHS, strict=True)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip(coarser, finer, strict=True)
        )
        self.decoder = nn.ModuleList(_two_convolutions(width, width, normalised) for width in finer)
        self.head = nn.Conv2d(WIDTHS[0], 2, 1)

    def forward(self, density: Tensor) -> Tensor:
        """Compute both maps.

        Parameters
        ----------
        density
            Optical density (b, 3, h, w), with nuclei of about 14 px; sides are multiples of 8.

        Returns
        -------
        Logits (b, 2, h, w): of lying in a nucleus, and of the distance to the border of the nucleus as a share of the
        largest distance in it.
        """
        seen: list[Tensor] = []
        level = density
        for depth, block in enumerate(self.encoder):
            level = block(functional.max_pool2d(level, 2) if depth else level)
            seen.append(level)
        for depth in reversed(range(len(self.decoder))):
            level = functional.interpolate(self.narrow[depth](level), scale_factor=2)
            level = self.decoder[depth](level + seen[depth])
        maps: Tensor = self.head(level)
        return maps


def load_network(weights: Path = WEIGHTS) -> NucleusNetwork:
    """Load the shipped network, or one with other weights."""
    network = NucleusNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return network.to(memory_format=torch.channels_last).eval()


def _two_convolutions(inputs: int, outputs: int, normalised: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not normalised))
        layers += [nn.BatchNorm2d(outputs)] if normalised else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
