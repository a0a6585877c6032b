"""The encoder that needs no weights: statistics of stain, texture and nuclei of an H&E crop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MIN_SIDE_PX = 32
CROPS_AT_ONCE = 16
"""Crops that a CPU computes together: with more, memory is slower than arithmetic."""
STAIN_VECTORS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of red, green and blue of haematoxylin, eosin and a residual (DAB): Ruifrok and Johnston 2001."""
CENTRE_SHARE = 0.2
"""Standard deviation of the centre's Gaussian window, of the crop's shorter side (our choice)."""
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
TISSUE_CLASSES = ((0.0, 0.05), (0.3, 0.3), (0.8, 0.3), (0.2, 0.8))
"""Haematoxylin and eosin density of lumen, stroma, nuclei and strongly eosinophilic tissue (our choice)."""
CLASS_VARIANCE = 0.06
"""How far around those densities a pixel still belongs to a class."""

SMALL_DENSITY = 1e-3
"""Mean differences of optical density below this are noise: one grey level at half brightness is 0.008."""
SMALL_ENERGY = 1e-4
"""Products of differences below this have no direction and no correlation: the square of about one grey level."""
ONE_BLOB = 1e-4
"""About one blob in a crop of 224 px, as a share of pixels at half resolution: means over fewer fade to 0."""


class TextureEncoder(torch.nn.Module):
    """Describe H&E crops by fixed statistics of stain, texture and nuclei.

    No weights and no randomness. Only slices, sums and elementwise functions in float32 are used, no convolutions or
    matrix products, so that neither TF32 nor autocasting makes a GPU's results differ from a CPU's.

    Every statistic is an average over the whole crop, and once more over a Gaussian window around its centre, where the
    cell is. Flipping a crop or turning it by 90° changes nothing where the sides are multiples of 32 px, as 224 is;
    elsewhere the last row and column are repeated before halving, and hardly anything changes.

    - Stain: haematoxylin, eosin and residual optical density (Ruifrok and Johnston 2001), mean and deviation.
    - Texture at octaves: energy and asymmetry of the details (Laplacian pyramid, Burt and Adelson 1983), their
      correlation between stains, the anisotropy of the structure tensor (Bigün and Granlund 1987), and the
      fluctuation of the details' magnitude at coarser octaves (a second order of scattering, Bruna and Mallat 2013).
    - Nuclei: local maxima of differences of Gaussians of haematoxylin (Lindeberg 1998) at four sizes: how many, how
      strong, how dark, how varied in darkness, in how much eosin, and how many others are near.
    - Architecture: how often lumen, stroma, nuclei and eosinophilic tissue lie side by side, at two distances (a soft
      form of the co-occurrences of Haralick et al. 1973).

    Attributes
    ----------
    dim
        Number of features.

    Examples
    --------
    >>> import torch
    >>> from stdistill.encoders._texture import TextureEncoder
    >>> encoder = TextureEncoder()
    >>> encoder(torch.ones(2, 3, 224, 224)).shape == (2, encoder.dim)
    True
    """

    unmixing: Tensor

    def __init__(self) -> None:
        super().__init__()
        vectors = functional.normalize(torch.tensor(STAIN_VECTORS, dtype=torch.float64), dim=1)
        self.register_buffer("unmixing", torch.linalg.inv(vectors).float(), persistent=False)
        self.dim = self(torch.zeros(1, 3, MIN_SIDE_PX, MIN_SIDE_PX)).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Encode crops.

        Parameters
        ----------
        images
            RGB in [0, 1], (b, 3, h, w), at least 32 × 32 px.

        Returns
        -------
        Features (b, dim) in float32.

        Raises
        ------
        ValueError
            When the shape is another.
        """
        parts = torch.split(images, CROPS_AT_ONCE) if images.device.type == "cpu" else (images,)
        return torch.cat([torch.cat([v.flatten(1) for v in self.describe(part).values()], dim=1) for part in parts])

    def describe(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features by name.

        Parameters
        ----------
        images
            As :meth:`forward` takes them.

        Returns
        -------
        Each (b, 2, k): over the whole crop and around its centre, for k stains, scales or classes.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_SIDE_PX:
            msg = (
                f"The images have the shape {tuple(images.shape)}; expected (b, 3, h, w): RGB, "
                f"with sides of at least {MIN_SIDE_PX} px."
            )
            raise ValueError(msg)
        stains = self.separate_stains(images)
        half = _halve(stains)
        features = _stain_moments(half)
        features |= _texture(stains)
        features |= _blobs(half)
        features |= _architecture(half)
        return features

    def separate_stains(self, images: Tensor) -> Tensor:
        """Split RGB (b, 3, h, w) in [0, 1] into optical densities of haematoxylin, eosin and residual (b, 3, h, w).

        Black counts as the darkest grey of 8 bits, so that its density is finite.
        """
        densities = -images.float().clamp(1 / 255, 1).log()
        return (densities[:, :, None] * self.unmixing[:, :, None, None]).sum(1)


def _stain_moments(stains: Tensor) -> dict[str, Tensor]:
    deviations = stains - stains.mean((-2, -1), keepdim=True)
    return {"stain_mean": _average(stains), "stain_deviation": _average(deviations.square()).sqrt()}


def _texture(stains: Tensor) -> dict[str, Tensor]:
    """Energy, asymmetry, correlation, anisotropy and clustering of the details, octave by octave."""
    features = {}
    level = stains
    for octave in range(N_OCTAVES):
        smooth = _smooth(level, times=2)
        details = level - smooth
        magnitudes = details.abs()
        mean_magnitudes = _average(magnitudes)
        features[f"detail_{octave}"] = (mean_magnitudes + SMALL_DENSITY).log()
        features[f"asymmetry_{octave}"] = _signed_sqrt(_average(details * magnitudes))
        features[f"stain_correlation_{octave}"] = _stain_correlation(details)
        if octave < FINE_OCTAVES:
            features[f"anisotropy_{octave}"] = _anisotropy(level[:, :2])
            n_coarser = min(COARSER_OCTAVES, N_OCTAVES - 1 - octave)
            features[f"clustering_{octave}"] = _clustering(magnitudes[:, :2], n_coarser)
        level = _halve(smooth)
    return features


def _stain_correlation(details: Tensor) -> Tensor:
    """Correlate the details of each stain with those of the next: -1 to 1."""
    products = details * details.roll(1, dims=1)
    return _average(products) / (_average(products.abs()) + SMALL_ENERGY)


def _anisotropy(level: Tensor) -> Tensor:
    """Share of the gradients' energy that agrees on one direction within about 8 × 8 pixels: 0 to 1."""
    dx, dy = _gradient(level)
    tensor = torch.cat([dx.square() - dy.square(), 2 * dx * dy, dx.square() + dy.square()], dim=1)
    cosine, sine, energy = _smooth(_halve(tensor)).chunk(3, dim=1)
    return _average(torch.hypot(cosine, sine)) / (_average(energy) + SMALL_ENERGY)


def _clustering(magnitudes: Tensor, n_coarser: int) -> Tensor:
    """Fluctuation of the details' magnitude at coarser octaves, relative to its mean."""
    fluctuations = []
    for _ in range(n_coarser):
        magnitudes = _halve(magnitudes)
        fluctuation = _average((magnitudes - _smooth(magnitudes, times=2)).abs())
        fluctuations.append((fluctuation + SMALL_DENSITY).log() - (_average(magnitudes) + SMALL_DENSITY).log())
    return torch.cat(fluctuations, dim=-1)


def _blobs(stains: Tensor) -> dict[str, Tensor]:
    """Local maxima of differences of Gaussians of haematoxylin, at each size."""
    features = {}
    smooth = _smooth(stains[:, :1])
    low, high = BLOB_RESPONSES
    for radius, spacing in BLOB_SPACINGS.items():
        smoother = _smooth(smooth, spacing=spacing)
        response = smooth - smoother
        blobs = (response >= _local_maximum(response)) * ((response - low) / (high - low)).clamp(0, 1)
        density = _average(blobs)
        maps = torch.cat([response, stains[:, :2], stains[:, :1].square()], dim=1)
        at_blobs = _average(blobs * maps) / (density + ONE_BLOB)
        presence = density / (density + ONE_BLOB)  # the variance needs both means without their fading
        variation = (presence * at_blobs[..., 3:] - at_blobs[..., 1:2].square()).clamp(min=0).sqrt()
        near = _smooth(_smooth(_smooth(blobs, spacing=2), spacing=4), spacing=8)
        features[f"blob_density_{radius}"] = density.sqrt()
        features[f"at_blobs_{radius}"] = at_blobs[..., :3]
        features[f"blob_variation_{radius}"] = variation
        features[f"blob_neighbours_{radius}"] = (_average(blobs * near) / (density + ONE_BLOB)).sqrt()
        smooth = smoother
    return features


def _architecture(stains: Tensor) -> dict[str, Tensor]:
    """Shares of the tissue classes and of their pairs side by side."""
    centres = torch.tensor(TISSUE_CLASSES, dtype=stains.dtype, device=stains.device)
    distances = (stains[:, None, :2] - centres[:, :, None, None]).square().sum(2)
    classes = torch.softmax(-distances / CLASS_VARIANCE, dim=1)
    features = {"class_share": _average(classes).sqrt()}
    one, other = torch.triu_indices(len(TISSUE_CLASSES), len(TISSUE_CLASSES), device=stains.device)
    for octave in range(1, 3):
        classes = _halve(classes)
        pairs = classes[:, one] * _smooth(classes, times=2)[:, other]
        features[f"class_pairs_{octave}"] = (_average(pairs) + SMALL_DENSITY).sqrt()
    return features


def _average(maps: Tensor) -> Tensor:
    """Average maps (b, c, h, w) over the whole and around the centre: (b, 2, c)."""
    height, width = maps.shape[-2:]
    deviation = CENTRE_SHARE * min(height, width)
    rows, columns = (_gaussian(n, deviation, maps.device) for n in (height, width))
    around_centre = ((maps * columns).sum(-1) * rows).sum(-1)
    return torch.stack([maps.mean((-2, -1)), around_centre], dim=1)


def _gaussian(n: int, deviation: float, device: torch.device) -> Tensor:
    places = torch.arange(n, device=device) - (n - 1) / 2
    weights = (-(places / deviation).square() / 2).exp()
    return weights / weights.sum()


def _smooth(maps: Tensor, times: int = 1, spacing: int = 1) -> Tensor:
    """Filter with (1, 2, 1) / 4 along both axes so many times, its taps `spacing` pixels apart (à trous)."""
    border = times * spacing
    maps = functional.pad(maps, (border,) * 4, mode="replicate")
    for _ in range(2 * times):  # (1, 2, 1) is (1, 1) twice
        maps = maps[..., spacing:] + maps[..., :-spacing]
        maps = maps[..., spacing:, :] + maps[..., :-spacing, :]
    return maps * 0.0625**times


def _local_maximum(maps: Tensor) -> Tensor:
    """Take the largest of 3 × 3 pixels."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    for _ in range(2):
        maps = torch.maximum(maps[..., 1:], maps[..., :-1])
        maps = torch.maximum(maps[..., 1:, :], maps[..., :-1, :])
    return maps


def _gradient(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences within blocks of 2 × 2 pixels, at half the resolution."""
    maps = _even(maps)
    above, below = maps[..., ::2, :], maps[..., 1::2, :]
    rows = above + below
    columns = below - above
    return (rows[..., 1::2] - rows[..., ::2]) / 4, (columns[..., 1::2] + columns[..., ::2]) / 4


def _halve(maps: Tensor) -> Tensor:
    """Average blocks of 2 × 2 pixels."""
    maps = _even(maps)
    rows = maps[..., ::2, :] + maps[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _even(maps: Tensor) -> Tensor:
    """Repeat the last row or column where their number is odd."""
    height, width = maps.shape[-2:]
    if height % 2 or width % 2:
        maps = functional.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
    return maps


def _signed_sqrt(values: Tensor) -> Tensor:
    return values.sign() * values.abs().sqrt()
