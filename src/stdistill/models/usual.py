"""What features were usual in a training, and how unusual others are."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stdistill._measures.feature_gaussian import FeatureGaussian
from stdistill._support.arrays import Integers

PREFIX = "usual."
"""Of its tensors among the weights of a model."""
PERCENTS = (50.0, 90.0, 99.0, 99.9)


class UsualFeatures(NamedTuple):
    """A Gaussian of the features that a student learned from, and how far those lay from it that it had not seen."""

    gaussian: FeatureGaussian
    quantiles: npt.NDArray[np.float32]
    """(4,) squared distances of held-out cells: the median, and the 90, 99 and 99.9 % points."""

    @classmethod
    def fit(cls, features: npt.NDArray[Any], fitted: Integers, held_out: Integers, *, seed: int) -> Self:
        """Describe (n, d) features by some rows, and what is usual by others, which were not learned from."""
        gaussian = FeatureGaussian.fit(features, fitted, seed=seed)
        distances = gaussian.squared_distances(features, held_out)
        return cls(gaussian, np.percentile(distances, PERCENTS).astype(np.float32))

    def ratios(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """How unusual each row of (n, d) features is: its distance over the median of the held-out cells, or NaN."""
        distances = self.gaussian.squared_distances(features, np.arange(len(features)))
        ratios: npt.NDArray[np.float32] = np.sqrt(distances / self.quantiles[0])
        return ratios

    @property
    def rare(self) -> float:
        """The ratio that one held-out cell of a hundred is above."""
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
