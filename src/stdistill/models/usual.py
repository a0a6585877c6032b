"""What neighbourhoods were usual in a training, and how unusual others are."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._measures.feature_gaussian import FeatureGaussian

PREFIX = "usual_means."
"""Of its tensors among the weights of a model."""
FORMER_PREFIX = "usual."
"""Of what described the features of single cells, in models of before: nothing is compared with it."""
NEARLY_ALL = 0.98
"""Of what neighbourhoods of the training differ by; the rest may be noise (our choice)."""
PERCENTS = (50.0, 90.0, 99.0, 99.9)


class UsualFeatures(NamedTuple):
    """A Gaussian of what a student learned from, and how far that lay from it which it had not seen.

    Of neighbourhoods, which are what a student sees, by the mean of their features: what stain, scanner, scale, focus
    or another tissue do to all cells stands out from what cells differ by.
    """

    gaussian: FeatureGaussian
    quantiles: npt.NDArray[np.float32]
    """(4,) squared distances of what was held out: the median, and the 90, 99 and 99.9 % points."""

    @classmethod
    def fit(cls, means: npt.NDArray[Any], held_out: npt.NDArray[Any]) -> Self:
        """Describe means (n, d), and what is usual by others (m, d), which were not learned from."""
        gaussian = FeatureGaussian.fit(means)
        distances = gaussian.squared_distances(held_out)
        return cls(gaussian, np.percentile(distances, PERCENTS).astype(np.float32))

    def ratios(self, means: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """How unusual each of (n, d) means is: its distance over the median of those held out, or NaN."""
        distances = self.gaussian.squared_distances(means)
        ratios: npt.NDArray[np.float32] = np.sqrt(distances / self.quantiles[0])
        return ratios

    def known_variation(self, means: npt.NDArray[np.float32]) -> float:
        """Which share of what (n, d) means of a slide differ by is what those of the training did."""
        return self.gaussian.share_along(means, NEARLY_ALL)

    @property
    def rare(self) -> float:
        """The ratio that one of a hundred held out is above."""
        return float(np.sqrt(self.quantiles[2] / self.quantiles[0]))

    def tensors(self) -> dict[str, Tensor]:
        """As they are saved among the weights."""
        parts = {**self.gaussian._asdict(), "quantiles": self.quantiles}
        return {f"{PREFIX}{name}": torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}

    @classmethod
    def from_tensors(cls, weights: dict[str, Tensor]) -> Self | None:
        """Take them from the weights of a model, if it has any."""
        parts = {name.removeprefix(PREFIX): part.numpy() for name, part in weights.items() if name.startswith(PREFIX)}
        if not parts:
            return None
        return cls(quantiles=parts.pop("quantiles"), gaussian=FeatureGaussian(**parts))
