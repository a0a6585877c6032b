"""The encoder that needs no weights: statistics of stain, texture and nuclei of an H&E crop."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from stdistill.encoders._texture.crops import CropAverages
from stdistill.encoders._texture.filters import halve
from stdistill.encoders._texture.maps import N_OCTAVES, Map, add_architecture, add_blobs, add_octave
from stdistill.encoders._texture.pooling import Crops
from stdistill.encoders._texture.statistics import features_of
from stdistill.encoders._texture.windows import GRID_PX, window_averages

MIN_SIDE_PX = 32
CROPS_AT_ONCE = 16
"""Crops that a CPU computes together: with more, memory is slower than arithmetic."""
STAIN_VECTORS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of red, green and blue of haematoxylin, eosin and a residual (DAB): Ruifrok and Johnston 2001."""


class TextureEncoder(torch.nn.Module):
    """Describe H&E crops by fixed statistics of stain, texture and nuclei.

    No weights and no randomness. Only slices, sums and elementwise functions in float32 are used, no convolutions or
    matrix products, so that neither TF32 nor autocasting makes a GPU's results differ from a CPU's. Where maps of a
    window are averaged over its crops, there are products, in float64 on a GPU.

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
    grid_px
        What :meth:`encode_window` counts on: windows begin and end at multiples of this.

    Examples
    --------
    >>> import torch
    >>> from stdistill.encoders._texture import TextureEncoder
    >>> encoder = TextureEncoder()
    >>> encoder(torch.ones(2, 3, 224, 224)).shape == (2, encoder.dim)
    True
    """

    unmixing: Tensor
    grid_px = GRID_PX

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
        half = halve(stains)
        averages = CropAverages()
        deviations = half - half.mean((-2, -1), keepdim=True)
        averages.add(Map("stain", half, 2, 0))
        averages.add(Map("stain_variance", deviations.square(), 2, 0))
        for octave in range(N_OCTAVES):
            stains, _ = add_octave(averages.add, stains, octave)
        add_blobs(averages.add, half)
        add_architecture(averages.add, half)
        return features_of(averages)

    def encode_window(self, image: Tensor, origins: Tensor, side_px: int) -> Tensor:
        """Encode the crops of a window together, every pixel of which is looked at once.

        The features are nearly those of the crops one by one, and as these they show nothing of what lies beyond the
        crop. There, filters repeat the pixels at its edge; here, maps are averaged as far from its edge as their
        filters see.

        Parameters
        ----------
        image
            RGB in [0, 1], (3, h, w), with sides that are multiples of `grid_px`, and a corner at a multiple of it on
            the slide, if other windows are to give the same.
        origins
            Upper left corners (n, 2) of the crops, as (x, y), in pixels of the window.
        side_px
            Of each crop, at least 160.

        Returns
        -------
        Features (n, dim) in float32.
        """
        crops = Crops(origins.double().cpu(), side_px)
        kind = image.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            features = features_of(window_averages(image.float(), crops, self.separate_stains))
        return torch.cat([values.flatten(1) for values in features.values()], dim=1)

    def separate_stains(self, images: Tensor) -> Tensor:
        """Split RGB (b, 3, h, w) in [0, 1] into optical densities of haematoxylin, eosin and residual (b, 3, h, w).

        Black counts as the darkest grey of 8 bits, so that its density is finite.
        """
        densities = -images.float().clamp(1 / 255, 1).log()
        red, green, blue = (densities[:, band, None] * self.unmixing[band, :, None, None] for band in range(3))
        return red + green + blue
