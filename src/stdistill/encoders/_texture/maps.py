"""Maps of stain, texture and nuclei, whose averages describe a crop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stdistill.encoders._texture.filters import gradient, halve, local_maximum, smooth

N_OCTAVES = 6
"""Scales of texture: 1, 2, 4 … 32 px."""
FINE_OCTAVES = 4
"""The octaves whose anisotropy and clustering are measured; the coarser ones have too few pixels for it."""
COARSER_OCTAVES = 3
"""Octaves above its own at which the clustering of a detail is measured, as far as there are."""
BLOB_SPACINGS = {3: 2, 6: 4, 12: 8, 25: 16}
"""Radius in px of the discs that answer most, and the spacing of the filter at half resolution that finds them."""
BLOB_RESPONSES = (0.04, 0.14)
"""A blob counts from the first response on (optical density), and fully from the second (our choice)."""
NEIGHBOUR_SPACINGS = (2, 4, 8)
"""Spacings of the filters at half resolution by which a blob sees its neighbours."""
TISSUE_CLASSES = ((0.0, 0.05), (0.3, 0.3), (0.8, 0.3), (0.2, 0.8))
"""Haematoxylin and eosin density of lumen, stroma, nuclei and strongly eosinophilic tissue (our choice)."""
CLASS_VARIANCE = 0.06
"""How far around those densities a pixel still belongs to a class."""


class Map(NamedTuple):
    """What is averaged over a crop."""

    name: str
    values: Tensor
    """(b, k, h, w) for k stains or classes."""
    pitch_px: int
    """Side of its pixels, in pixels of the crop."""
    reach_px: int
    """How far it sees beyond its own pixels, in pixels of the crop."""


Add = Callable[[Map], None]
"""Takes a map as soon as it is made, so that few are in memory at once."""


def add_octave(add: Add, level: Tensor, octave: int, coarsest: int = N_OCTAVES - 1) -> tuple[Tensor, Tensor]:
    """Make the maps of an octave's details, with their fluctuations up to the `coarsest` octave.

    Returns
    -------
    The next level, and the magnitudes of haematoxylin and eosin at the last octave of their fluctuations.
    """
    pitch = 2**octave
    seen = 2 * (pitch - 1)  # by what made the level
    low = smooth(level, times=2)
    details = level - low
    lower = halve(low)
    del low
    reach = seen + 2 * pitch
    magnitudes = details.abs()
    add(Map(f"magnitude_{octave}", magnitudes, pitch, reach))
    add(Map(f"signed_square_{octave}", details * magnitudes, pitch, reach))
    magnitudes = magnitudes[:, :2]
    if octave < FINE_OCTAVES:
        for coarser in coarser_octaves(octave, coarsest):
            magnitudes = halve(magnitudes)
            add_fluctuation(add, magnitudes, octave, coarser)
    products = details * details.roll(1, dims=1)
    del details
    add(Map(f"product_{octave}", products, pitch, reach))
    add(Map(f"product_size_{octave}", products.abs(), pitch, reach))
    if octave < FINE_OCTAVES:
        aligned, energy = _orientation(level[:, :2])
        add(Map(f"aligned_{octave}", aligned, 4 * pitch, seen + 4 * pitch))
        add(Map(f"energy_{octave}", energy, 4 * pitch, seen + 4 * pitch))
    return lower, magnitudes


def coarser_octaves(octave: int, coarsest: int = N_OCTAVES - 1) -> range:
    """Octaves at which the details of an octave are looked at for clusters."""
    return range(octave + 1, min(octave + COARSER_OCTAVES, coarsest) + 1)


def add_fluctuation(add: Add, magnitudes: Tensor, octave: int, coarser: int) -> None:
    """Make the maps of an octave's magnitudes, which were halved to a coarser octave, and of their fluctuation."""
    pitch, seen = 2**coarser, 2 * (2 ** (octave + 1) - 1)
    fluctuations = (magnitudes - smooth(magnitudes, times=2)).abs()
    add(Map(f"halved_{octave}_{coarser}", magnitudes, pitch, seen))
    add(Map(f"fluctuation_{octave}_{coarser}", fluctuations, pitch, seen + 2 * pitch))


def _orientation(level: Tensor) -> tuple[Tensor, Tensor]:
    """Energy of the gradients that agrees on one direction within about 8 × 8 pixels, and all of it."""
    dx, dy = gradient(level)
    tensor = torch.cat([dx.square() - dy.square(), 2 * dx * dy, dx.square() + dy.square()], dim=1)
    cosine, sine, energy = smooth(halve(tensor)).chunk(3, dim=1)
    return torch.hypot(cosine, sine), energy


def with_square(stains: Tensor) -> Tensor:
    """Return haematoxylin, eosin, and the square of haematoxylin: what is looked at where blobs are."""
    return torch.cat([stains[:, :2], stains[:, :1].square()], dim=1)


def add_blobs(add: Add, half: Tensor, n_radii: int = len(BLOB_SPACINGS)) -> None:
    """Make the maps of blobs of the first so many radii, of stains at half resolution."""
    low = smooth(half[:, :1])
    stains, seen = with_square(half), 1
    for radius, spacing in list(BLOB_SPACINGS.items())[:n_radii]:
        lower = smooth(low, spacing=spacing)
        seen += spacing
        blobs = _blobs(low - lower)
        near = blobs
        for each in NEIGHBOUR_SPACINGS:
            near = smooth(near, spacing=each)
        reach = 2 * (seen + 1)
        _add_blobs(add, radius, blobs, low - lower, stains, 2, reach)
        add(Map(f"near_blobs_{radius}", blobs * near, 2, reach + 2 * sum(NEIGHBOUR_SPACINGS)))
        low = lower


def add_coarse_blobs(add: Add, stains: Tensor, radius: int) -> None:
    """Make the maps of blobs of a radius of 12 or 25 px, of stains with a square that were averaged over 4 or 8 px.

    They are nearly those of half resolution: the filters have the variance of those, and blobs are counted per pixel
    of half resolution, of which one of these covers an `area`.
    """
    pitch = BLOB_SPACINGS[radius] // 2
    area = (pitch // 2) ** 2
    low = smooth(smooth(stains[:, :1]), spacing=2)
    response = low - smooth(low, spacing=4)
    blobs = _blobs(response)
    spacings = [spacing * 2 // pitch for spacing in NEIGHBOUR_SPACINGS if spacing * 2 >= pitch]
    near = blobs
    for spacing in spacings:
        near = smooth(near, spacing=spacing)
    # A blob counts itself as it does at half resolution, and the others by what the filters cover.
    near = near / area + (0.25 ** len(NEIGHBOUR_SPACINGS) - 0.25 ** len(spacings) / area) * blobs
    _add_blobs(add, radius, blobs / area, response, stains, pitch, 0)
    add(Map(f"near_blobs_{radius}", blobs * near / area, pitch, 0))


def _blobs(response: Tensor) -> Tensor:
    """Find the local maxima of a response: 0 to 1, by how strong it is."""
    low, high = BLOB_RESPONSES
    return (response >= local_maximum(response)) * ((response - low) / (high - low)).clamp(0, 1)


def _add_blobs(
    add: Add, radius: int, blobs: Tensor, response: Tensor, stains: Tensor, pitch_px: int, reach_px: int
) -> None:
    """Make the maps of how many blobs there are, and of what is there."""
    add(Map(f"blobs_{radius}", blobs, pitch_px, reach_px))
    add(Map(f"response_at_blobs_{radius}", blobs * response, pitch_px, reach_px))
    add(Map(f"stains_at_blobs_{radius}", blobs * stains, pitch_px, reach_px))


def add_architecture(add: Add, half: Tensor) -> None:
    """Make the maps of the tissue classes' shares, and of their pairs side by side, of stains at half resolution."""
    centres = torch.tensor(TISSUE_CLASSES, dtype=half.dtype, device=half.device)
    distances = (half[:, None, :2] - centres[:, :, None, None]).square().sum(2)
    classes = torch.softmax(-distances / CLASS_VARIANCE, dim=1)
    add(Map("class_share", classes, 2, 0))
    for octave in range(1, 3):
        classes = halve(classes)
        around = smooth(classes, times=2)
        for one in range(len(TISSUE_CLASSES)):  # with itself, and with those that follow
            pairs = classes[:, one : one + 1] * around[:, one:]
            add(Map(f"class_pairs_{octave}_{one}", pairs, 2 ** (octave + 1), 2 ** (octave + 2)))
