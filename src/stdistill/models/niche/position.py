"""Where a token lies relative to its centre, as frequencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def frequency_features(offsets: Tensor, n_frequencies: int) -> Tensor:
    """Sines and cosines of relative positions at doubling frequencies.

    γ(p) = [sin(2^l π p), cos(2^l π p)], l = 0 … n_frequencies - 1, for each coordinate p (Mildenhall et al. 2020,
    equation 4). With p in [-1, 1] the lowest frequency tells all places apart, the highest resolves
    2^(1 - n_frequencies) of the radius.

    Parameters
    ----------
    offsets
        (…, 2), relative positions in radii.
    n_frequencies
        Number of frequencies.

    Returns
    -------
    (…, 4 · n_frequencies), float32: sines, then cosines, each by coordinate and then by frequency.
    """
    # In lower precision than float32 the phases of the high frequencies would be lost.
    powers = torch.arange(n_frequencies, device=offsets.device, dtype=torch.float32)
    phases = offsets.float().unsqueeze(-1) * (torch.pi * 2**powers)
    phases = phases.flatten(-2)
    return torch.cat([phases.sin(), phases.cos()], dim=-1)


class FrequencyEncoding(nn.Module):
    """A learned linear map of `frequency_features` to the width of the tokens."""

    def __init__(self, width: int, n_frequencies: int) -> None:
        super().__init__()
        self.n_frequencies = n_frequencies
        self.linear = nn.Linear(4 * n_frequencies, width, bias=False)

    def forward(self, offsets: Tensor) -> Tensor:
        """Encode (…, 2) relative positions in radii as (…, width)."""
        encoded: Tensor = self.linear(frequency_features(offsets, self.n_frequencies))
        return encoded
