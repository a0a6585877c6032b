"""From averages of maps to features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stdistill.encoders._texture.maps import BLOB_SPACINGS, FINE_OCTAVES, N_OCTAVES, TISSUE_CLASSES, coarser_octaves

SMALL_DENSITY = 1e-3
"""Mean differences of optical density below this are noise: one grey level at half brightness is 0.008."""
SMALL_ENERGY = 1e-4
"""Products of differences below this have no direction and no correlation: the square of about one grey level."""
ONE_BLOB = 1e-4
"""About one blob in a crop of 224 px, as a share of pixels at half resolution: means over fewer fade to 0."""

Averages = Mapping[str, Tensor]
"""Of each map (b, 2, k): over the whole crop and around its centre, for k stains or classes."""


def features_of(averages: Averages) -> dict[str, Tensor]:
    """Compute the features by name, (b, 2, k) each."""
    features = {"stain_mean": averages["stain"], "stain_deviation": averages["stain_variance"].sqrt()}
    for octave in range(N_OCTAVES):
        features |= _texture(averages, octave)
    for radius in BLOB_SPACINGS:
        features |= _blobs(averages, radius)
    features["class_share"] = averages["class_share"].sqrt()
    for octave in range(1, 3):
        pairs = torch.cat([averages[f"class_pairs_{octave}_{one}"] for one in range(len(TISSUE_CLASSES))], dim=-1)
        features[f"class_pairs_{octave}"] = (pairs + SMALL_DENSITY).sqrt()
    return features


def _texture(averages: Averages, octave: int) -> dict[str, Tensor]:
    """Energy, asymmetry, correlation between stains, anisotropy and clustering of an octave's details.

    Anisotropy is the share of the gradients' energy that agrees on one direction, 0 to 1; correlation -1 to 1;
    clustering the fluctuation of the details' magnitude at coarser octaves, relative to its mean.
    """

    def of(name: str) -> Tensor:
        return averages[f"{name}_{octave}"]

    features = {
        f"detail_{octave}": (of("magnitude") + SMALL_DENSITY).log(),
        f"asymmetry_{octave}": _signed_sqrt(of("signed_square")),
        f"stain_correlation_{octave}": of("product") / (of("product_size") + SMALL_ENERGY),
    }
    if octave < FINE_OCTAVES:
        features[f"anisotropy_{octave}"] = of("aligned") / (of("energy") + SMALL_ENERGY)
        clustering = [
            (averages[f"fluctuation_{octave}_{coarser}"] + SMALL_DENSITY).log()
            - (averages[f"halved_{octave}_{coarser}"] + SMALL_DENSITY).log()
            for coarser in coarser_octaves(octave)
        ]
        features[f"clustering_{octave}"] = torch.cat(clustering, dim=-1)
    return features


def _blobs(averages: Averages, radius: int) -> dict[str, Tensor]:
    """How many blobs there are, how strong, how dark, in how much eosin, how varied, and how many others are near."""
    density = averages[f"blobs_{radius}"]
    parts = [averages[f"{name}_at_blobs_{radius}"] for name in ("response", "stains")]
    at_blobs = torch.cat(parts, dim=-1) / (density + ONE_BLOB)
    presence = density / (density + ONE_BLOB)  # the variance needs both means without their fading
    variation = (presence * at_blobs[..., 3:] - at_blobs[..., 1:2].square()).clamp(min=0).sqrt()
    return {
        f"blob_density_{radius}": density.sqrt(),
        f"at_blobs_{radius}": at_blobs[..., :3],
        f"blob_variation_{radius}": variation,
        f"blob_neighbours_{radius}": (averages[f"near_blobs_{radius}"] / (density + ONE_BLOB)).sqrt(),
    }


def _signed_sqrt(values: Tensor) -> Tensor:
    return values.sign() * values.abs().sqrt()
