"""Crops for training the network that sees nuclei: cut, turned, stained anew, and spoilt as slides are.

Everything is drawn from the generator that is handed in. All numbers are our choice, made by eye.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
import numpy.typing as npt
import torch
from nuclei_data import Field
from scipy import ndimage
from torch.nn import functional

from stdistill._nuclei.density import NUCLEUS_PX, optical_density

CROP_PX = 128
HAEMATOXYLIN, EOSIN, BLOOD = (0.66, 0.69, 0.30), (0.14, 0.91, 0.38), (0.07, 0.88, 0.66)
INKS = ((1.6, 0.7, 1.2), (1.8, 1.3, 0.5), (1.5, 1.5, 1.5), (0.2, 1.4, 1.6), (0.9, 1.3, 1.8))
"""Densities of green, blue, black, red and brown."""

Image = npt.NDArray[np.float32]
Rng = np.random.Generator


class Source:
    """A field, ready to be cut: RGB, foreground and centrality in one stack (5, h, w) of 8 bits."""

    def __init__(self, field: Field) -> None:
        self.is_real = field.group != "simulated"
        self.diameter_px = field.diameter_px
        labels = field.labels
        inner = labels > 0
        for axis in (0, 1):  # touching nuclei are apart by the pixels on their borders
            differs = np.diff(labels, axis=axis) != 0
            pad = [(0, 0), (0, 0)]
            for pad[axis] in ((1, 0), (0, 1)):
                inner &= ~np.pad(differs, pad)
        distance = ndimage.distance_transform_edt(inner) + 0.5 * (labels > 0)
        largest = ndimage.maximum(distance, labels, np.arange(labels.max() + 1))
        centrality = np.where(labels > 0, distance / np.maximum(largest, 0.5)[labels], 0)
        maps = [255 * (labels > 0), np.rint(255 * centrality)]
        self.stack = np.concatenate([np.moveaxis(field.pixels, -1, 0), np.array(maps)]).astype(np.uint8)
        centres = ndimage.center_of_mass(labels > 0, labels, np.unique(labels[labels > 0]))
        self.centres = np.array(centres).reshape(-1, 2)


def cut(source: Source, rng: Rng) -> Image:
    """Cut a crop (5, 128, 128) at a random place, scale and angle."""
    zoom = NUCLEUS_PX / source.diameter_px * np.exp(np.clip(rng.normal(0, 0.25), -0.6, 0.6))
    around = int(CROP_PX * 1.45)  # what a turned crop needs
    side = int(np.ceil(around / zoom))
    height, width = source.stack.shape[1:]
    if rng.random() < 0.2 or not len(source.centres):
        centre = rng.uniform(0, (height, width))
    else:
        centre = source.centres[rng.integers(len(source.centres))] + rng.normal(0, 0.2 * side, 2)
    top, left = (centre - side / 2).astype(int)
    # A small field is mirrored at its edges.
    rows, columns = (_mirror(np.arange(start, start + side), size) for start, size in ((top, height), (left, width)))
    window = torch.from_numpy(source.stack.take(rows, axis=1).take(columns, axis=2)).float()[None] / 255
    window = functional.interpolate(window, size=(around, around), mode="bilinear", antialias=True)
    if rng.random() < 0.5:
        angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.08))
        cosine, sine, share = np.cos(angle), np.sin(angle), CROP_PX / around
        matrix = share * torch.tensor([[cosine * stretch, -sine, 0], [sine * stretch, cosine, 0]], dtype=torch.float32)
        grid = functional.affine_grid(matrix[None], [1, 5, CROP_PX, CROP_PX], align_corners=False)
        crop = functional.grid_sample(window, grid, padding_mode="reflection", align_corners=False)[0].numpy()
    else:
        start = (around - CROP_PX) // 2
        crop = window[0, :, start : start + CROP_PX, start : start + CROP_PX].numpy()
    crop = crop[:, :: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return np.ascontiguousarray(crop.swapaxes(1, 2) if rng.random() < 0.5 else crop)


def _mirror(indices: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    folded = indices % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def augment(crop: Image, is_real: bool, rng: Rng) -> tuple[Image, Image]:
    """Return optical density (3, h, w) and targets (2, h, w) of a crop that was stained anew and spoilt."""
    density = optical_density(torch.from_numpy(255 * crop[:3])).numpy()
    targets = crop[3:].copy()
    if rng.random() < (0.4 if is_real else 0.15):
        density = _paint(density, targets[0], rng)
    density = _vary_stain(density, rng)
    for spoil, probability in ((_bleed, 0.12), (_mark, 0.1), (_fold, 0.08), (_flake, 0.25)):
        if rng.random() < probability:
            density, targets = spoil(density, targets, rng)
    light = _photograph(np.exp(-density), rng)
    return optical_density(torch.from_numpy(255 * light)).numpy(), targets


def _paint(density: Image, foreground: Image, rng: Rng) -> Image:
    """Take what is dark for haematoxylin, and add eosin around it."""
    amount = density.mean(axis=0)
    haematoxylin = np.maximum(amount - np.percentile(amount, 10), 0) * 1.6 * np.exp(rng.normal(0, 0.2))
    eosin = _clouds(rng) * rng.uniform(0.2, 1.1)
    if rng.random() < 0.5:  # fibres
        eosin = eosin * (0.6 + 0.8 * _clouds(rng, stretch=rng.uniform(3, 10), finest=2))
    cytoplasm = np.clip(3 * ndimage.gaussian_filter(foreground, rng.uniform(3, 8)), 0, 1)
    eosin = eosin * (1 - rng.uniform(0, 0.9) * foreground) + rng.uniform(-0.2, 0.5) * cytoplasm
    haematoxylin = haematoxylin + rng.uniform(0, 0.25) * cytoplasm * (1 - foreground)
    painted = _colour(HAEMATOXYLIN, rng) * haematoxylin + _colour(EOSIN, rng) * np.maximum(eosin, 0)
    return painted.astype(np.float32)


def _colour(vector: tuple[float, ...], rng: Rng) -> Image:
    varied = np.maximum(np.array(vector) + rng.normal(0, 0.06, 3), 0.02)
    return (varied / np.linalg.norm(varied))[:, None, None].astype(np.float32)


def _vary_stain(density: Image, rng: Rng) -> Image:
    """Vary strength, hue and the tint of the slide."""
    mix = np.eye(3) * np.exp(rng.normal(0, 0.12, 3)) + rng.normal(0, 0.05, (3, 3))
    strength = np.exp(rng.normal(0, 0.25))
    tint = rng.uniform(0, 0.25, 3) * rng.random() if rng.random() < 0.5 else np.zeros(3)
    varied = strength * np.einsum("ij,jhw->ihw", mix, density) + tint[:, None, None]
    return np.maximum(varied, 0).astype(np.float32)


def _clouds(rng: Rng, *, stretch: float = 1.0, finest: int = 4) -> Image:
    """Draw smooth noise in [0, 1] of several octaves, longer by `stretch` along a random direction."""
    side = CROP_PX * 3 // 2  # what a turned crop needs
    total = torch.zeros(1, 1, side, side)
    for spacing in (finest, 2 * finest, 4 * finest, 8 * finest):
        shape = (max(side // spacing, 2), max(int(side / spacing / stretch), 2))
        coarse = torch.from_numpy(rng.normal(size=(1, 1, *shape)).astype(np.float32))
        total += spacing**0.5 * functional.interpolate(coarse, size=(side, side), mode="bicubic")
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle) / 1.5, np.sin(angle) / 1.5
    matrix = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], dtype=torch.float32)
    grid = functional.affine_grid(matrix, [1, 1, CROP_PX, CROP_PX], align_corners=False)
    field = functional.grid_sample(total, grid, align_corners=False)[0, 0].numpy()
    low, high = np.percentile(field, (2, 98))
    return np.clip((field - low) / (high - low + 1e-6), 0, 1).astype(np.float32)


def _bleed(density: Image, targets: Image, rng: Rng) -> tuple[Image, Image]:
    """Add red blood cells behind the nuclei: as large as nuclei, but red."""
    rows, columns = np.mgrid[:CROP_PX, :CROP_PX]
    cover = np.zeros((CROP_PX, CROP_PX), dtype=np.float32)
    size = NUCLEUS_PX / 2 * np.exp(rng.normal(0, 0.2))
    home = rng.uniform(0, CROP_PX, 2)
    for y, x in home + rng.normal(0, rng.uniform(10, 50), (rng.integers(3, 30), 2)):
        radius = size * rng.uniform(0.8, 1.15)
        disc = 1 / (1 + np.exp(np.hypot(rows - y, columns - x) - radius))
        cover = np.maximum(cover, disc * rng.uniform(0.7, 1))
    cover *= 1 - targets[0]
    blood = _colour(BLOOD, rng) * rng.uniform(0.4, 1.6)
    return (density * (1 - cover) + blood * cover).astype(np.float32), targets


def _mark(density: Image, targets: Image, rng: Rng) -> tuple[Image, Image]:
    """Cover a part with ink or pigment, under which no nuclei are known."""
    clouds = _clouds(rng, finest=int(rng.integers(2, 9)))
    cover = 1 / (1 + np.exp(-(clouds - rng.uniform(0.6, 0.9)) / 0.03))
    ink = np.array(INKS[rng.integers(len(INKS))])[:, None, None] * rng.uniform(0.4, 1.5)
    marked = density * (1 - cover) + (0.3 * density + ink * (0.7 + 0.6 * _clouds(rng, finest=2))) * cover
    return marked.astype(np.float32), targets * (cover < 0.5)


def _fold(density: Image, targets: Image, rng: Rng) -> tuple[Image, Image]:
    """Lay the tissue upon itself along a band."""
    clouds = _clouds(rng, finest=16)
    band = np.exp(-(((clouds - rng.uniform(0.3, 0.7)) / rng.uniform(0.05, 0.2)) ** 2))
    other = ndimage.gaussian_filter(density[:, ::-1, ::-1], (0, 2, 2))
    return (density + band * (0.3 * density + rng.uniform(0.5, 1.2) * other)).astype(np.float32), targets


def _flake(density: Image, targets: Image, rng: Rng) -> tuple[Image, Image]:
    """Tear a part of the tissue into dark strands and streaked slabs without nuclei, as keratin and fibres are."""
    region = _clouds(rng, finest=16) > rng.uniform(0, 0.8)
    stretch = rng.uniform(1, 10)
    clouds = _clouds(rng, stretch=stretch, finest=int(rng.integers(3, 12)))
    if rng.random() < 0.5:
        slopes = np.hypot(*np.gradient(clouds)) + 0.01
        edges = [np.abs(clouds - height) / slopes - rng.uniform(0.5, 4) for height in rng.uniform(0.1, 0.9, 8)]
        strands = 1 / (1 + np.exp(np.clip(3 * np.min(edges[: rng.integers(1, 9)], axis=0), -30, 30)))
    else:
        strands = np.ones_like(clouds)
    strands = strands * (_clouds(rng, finest=8) > rng.uniform(-0.5, 0.5))  # some are broken into flakes
    gaps = rng.choice((0.05, 0.8))  # how much of the tissue between the strands is left: hardly any, or most
    share = rng.uniform(0.2, 1)
    colour = share * _colour(HAEMATOXYLIN, rng) + (1 - share) * _colour(EOSIN, rng)
    streaks = 1 - rng.uniform(0, 0.8) * _clouds(rng, stretch=stretch, finest=2)
    torn = gaps * density * (1 - strands) + rng.uniform(0.4, 2.4) * colour * streaks * strands
    kept = ~region
    return np.where(region, torn, density).astype(np.float32), targets * (kept | (gaps > 0.5) & (strands < 0.3))


def _photograph(light: Image, rng: Rng) -> Image:
    """Blur or sharpen, vary exposure, add noise, compress."""
    if rng.random() < 0.4:
        light = ndimage.gaussian_filter(light, (0, *[rng.uniform(0.2, 1.6)] * 2))
    elif rng.random() < 0.3:
        light = light + rng.uniform(0.3, 1.5) * (light - ndimage.gaussian_filter(light, (0, 1.2, 1.2)))
    light = np.clip(light, 0, 1) ** np.exp(rng.normal(0, 0.12)) * rng.uniform(0.88, 1.03)
    if rng.random() < 0.5:
        light = light + rng.normal(0, rng.uniform(0.003, 0.03), light.shape)
    pixels = np.rint(255 * np.clip(light, 0, 1)).astype(np.uint8)
    if rng.random() < 0.35:
        stored = imagecodecs.jpeg8_encode(
            np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), level=int(rng.integers(30, 95))
        )
        pixels = np.moveaxis(imagecodecs.jpeg8_decode(stored), -1, 0)
    return pixels.astype(np.float32) / 255
