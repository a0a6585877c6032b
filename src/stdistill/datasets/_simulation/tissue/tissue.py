"""The lie of the tissue: outline, niche domains, fibre flow and stroma, on one coarse raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from stdistill.datasets._simulation.biology.niches import TEXTURE_FIELDS, Niches
from stdistill.datasets._simulation.tissue.noise import FloatImage, random_field

EOSIN, FIBRE, COARSENESS, GRAIN, LOOSE, HAZE, NEST_LEVEL, ALONG, ACROSS = range(9)
"""Channels of :attr:`Tissue.fields`."""

_MAX_RASTER = 1400
"""Pixels along the longer side of the raster, so that memory stays bounded on large slides."""
_MIN_STEP_UM = 4.0


@dataclass(frozen=True)
class Tissue:
    """A section of tissue; rasters start at the origin of the slide and have ``step_um`` between pixels."""

    width_um: float
    height_um: float
    step_um: float
    fields: FloatImage
    """Rows, columns, channels: stroma texture, level above which nests grow, coordinates along and across fibres."""
    domains: npt.NDArray[np.uint8]
    """Rows, columns, niches: cumulative probability of the niches, 255 for certainty."""
    fibre_angle: FloatImage
    """Radians from the x axis."""
    outline: FloatImage
    """Tissue lies where this is above a level, which is set by the number of cells."""

    def niche(self) -> npt.NDArray[np.uint8]:
        """Return the most probable niche of every raster pixel."""
        single = np.diff(self.domains, axis=2, prepend=np.uint8(0))
        return np.asarray(single.argmax(axis=2), np.uint8)


def draw_tissue(rng: np.random.Generator, niches: Niches, area_um2: float) -> Tissue:
    """Draw a section that covers a slide of the given area."""
    aspect = float(np.exp(0.2 * rng.standard_normal()))
    width, height = np.sqrt(area_um2 * aspect), np.sqrt(area_um2 / aspect)
    step = max(_MIN_STEP_UM, max(width, height) / _MAX_RASTER)
    shape = (int(np.ceil(height / step)) + 1, int(np.ceil(width / step)) + 1)
    y, x = np.meshgrid((np.arange(shape[0]) + 0.5) * step, (np.arange(shape[1]) + 0.5) * step, indexing="ij")
    extent = float(min(width, height))
    probability = _niche_probability(rng, niches, (x / width, y / height), step, extent)
    along, across, angle = _fibre_coordinates(rng, x, y, step)
    texture = [np.tensordot(niches.structure[name], probability, 1) for name in TEXTURE_FIELDS]
    # Nests are where a noise of unit variance exceeds this level.
    nest_level = np.tensordot(-ndtri(np.clip(niches.structure["nests"], 1e-4, 0.999)), probability, 1)
    domains = np.cumsum(probability, axis=0)
    return Tissue(
        width_um=float(width),
        height_um=float(height),
        step_um=float(step),
        fields=np.stack([*texture, nest_level, along, across], axis=2).astype(np.float32),
        domains=np.ascontiguousarray(np.rint(np.moveaxis(domains, 0, 2) * 255).astype(np.uint8)),
        fibre_angle=angle.astype(np.float32),
        outline=_outline(rng, (x / width, y / height), step, extent),
    )


def _niche_probability(
    rng: np.random.Generator,
    niches: Niches,
    relative: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    step: float,
    extent: float,
) -> FloatImage:
    """Softmax of one random field a niche: sharp borders where the temperature is low, gradients where it is high."""
    shape = relative[0].shape
    n_niches = len(niches.names)
    # Domains are a few 0.1 mm wide, less where the whole section is smaller than a few of them.
    wavelength = min(1000.0, extent / 2) / step
    scores = np.empty((n_niches, *shape), np.float32)
    # Some organs are layered, others are not: a preferred depth for each niche along one bent axis.
    layering = max(0.0, rng.normal(0.3, 0.8))
    axis = rng.uniform(0, 2 * np.pi)
    depth = relative[0] * np.cos(axis) + relative[1] * np.sin(axis)
    depth = (depth - depth.mean()) / depth.std() + 0.35 * random_field(rng, shape, wavelength * 0.7)
    for niche in range(n_niches):
        size = np.sqrt(niches.size[niche])
        scores[niche] = random_field(rng, shape, wavelength * size, roughness=0.2)
        scores[niche] -= layering * np.abs(depth - rng.normal())
    _match_shares(scores, niches.share)
    temperature = 0.02 + 0.22 * np.clip(random_field(rng, shape, wavelength * 0.8), 0, None)
    scores -= scores.max(axis=0)
    np.exp(scores / temperature, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def _match_shares(scores: FloatImage, share: npt.NDArray[np.float64]) -> None:
    """Shift every niche's score, in place, until its domain covers about its share of the area."""
    thinned = scores[:, :: max(1, scores.shape[1] // 150), :: max(1, scores.shape[2] // 150)]
    flat = thinned.reshape(len(share), -1).copy()
    offset = np.zeros(len(share), np.float32)
    for _ in range(60):
        won = np.bincount((flat + offset[:, None]).argmax(axis=0), minlength=len(share)) / flat.shape[1]
        offset += (0.25 * np.log(share / np.maximum(won, 0.1 * share))).astype(np.float32)
    scores += offset[:, None, None]


def _fibre_coordinates(
    rng: np.random.Generator, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], step: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Bend a straight coordinate system into wavy fibres; the second coordinate is constant along a fibre."""
    theta = rng.uniform(0, np.pi)
    along, across = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
    for wavelength, amplitude in ((900.0, 160.0), (260.0, 16.0)):
        along = along + amplitude * random_field(rng, x.shape, wavelength / step)
        across = across + amplitude * random_field(rng, x.shape, wavelength / step)
    grad_y, grad_x = np.gradient(across, step)
    return along, across, np.arctan2(-grad_x, grad_y)


def _outline(
    rng: np.random.Generator,
    relative: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    step: float,
    extent: float,
) -> FloatImage:
    """Return a hill in units of slide widths, its contours are ragged outlines of the section."""
    power = rng.uniform(2.0, 5.0)
    distance = sum(np.abs(2.1 * r - 1.05) ** power for r in relative) ** (1 / power)
    shape = relative[0].shape
    bumps = 0.16 * random_field(rng, shape, extent / 1.5 / step) + 0.035 * random_field(
        rng, shape, min(250.0, extent / 4) / step, roughness=0.15
    )
    # Nothing reaches the edge of the slide, where an outline would be cut straight.
    near_edge = sum(np.maximum(np.abs(2 * r - 1) - 0.7, 0) ** 2 for r in relative)
    return np.asarray(bumps - distance - 12 * near_edge, np.float32)
