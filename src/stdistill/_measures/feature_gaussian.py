"""How unusual features are: their distance from those of a training, by a Gaussian that fits into a saved model."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from stdistill._measures.principal_components import CHUNK, mean_and_covariance, principal_axes

N_COMPONENTS = 128
FARTHEST = 10.0
"""Features count as no further than this from their mean, in standard deviations (our choice)."""
LEAST_SPREAD = 1e-3
"""Features of a smaller part of the median standard deviation count as constant (our choice)."""
SMALLEST = 1e-3
"""No direction varies less than this, when each feature varies by 1: distances along such ones would be noise."""


class FeatureGaussian(NamedTuple):
    """A Gaussian of standardised features, exact along its main axes and round around them.

    Probabilistic principal components (Tipping and Bishop 1999, section 3.2). With 128 axes of 1,536 features it takes
    0.4 MB where the covariance takes 9.4.
    """

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float16]
    """(d, n_components)."""
    variances: npt.NDArray[np.float32]
    """(n_components,), along the axes."""
    rest: npt.NDArray[np.float32]
    """(1,), mean variance along any other direction."""

    @classmethod
    def fit(cls, features: npt.NDArray[Any], *, n_components: int = N_COMPONENTS) -> Self:
        """Describe (n, d) features, read chunk by chunk."""
        mean, covariance = mean_and_covariance(features, np.arange(len(features)))
        std = np.sqrt(np.maximum(np.diag(covariance), 0))
        varies = std > LEAST_SPREAD * np.median(std[std > 0]) if std.any() else np.zeros(len(std), dtype=bool)
        std[~varies] = np.inf  # what never varied cannot say how much is unusual
        axes, variances = principal_axes(covariance / np.outer(std, std))
        n = min(n_components, len(mean))
        rest = variances[n:].mean() if n < len(mean) else 1.0
        return cls(
            mean.astype(np.float32),
            std.astype(np.float32),
            axes[:, :n].astype(np.float16),
            np.maximum(variances[:n], SMALLEST).astype(np.float32),
            np.array([max(rest, SMALLEST)], dtype=np.float32),
        )

    def share_along(self, features: npt.NDArray[Any], share: float) -> float:
        """Which share of what (n, d) features vary by is along the fewest axes that hold `share` of it in the training.

        They vary about their own mean; where they do not, nothing of it is.
        """
        total = float(self.variances.sum() + self.rest[0] * (len(self.mean) - len(self.variances)))
        n_axes = 1 + int(np.searchsorted(np.cumsum(self.variances), share * total))
        apart = np.clip((features - features.mean(axis=0)) / self.std, -FARTHEST, FARTHEST)
        along = apart @ self.axes[:, :n_axes].astype(np.float32)
        every = float(apart.var(axis=0).sum())
        return min(1.0, float(along.var(axis=0).sum()) / every) if every else 0.0  # axes are rounded

    def squared_distances(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Squared Mahalanobis distances (n,) of (n, d) features from the mean."""
        found = np.empty(len(features), dtype=np.float32)
        axes = self.axes.astype(np.float32)
        for start in range(0, len(features), CHUNK):
            chunk = features[start : start + CHUNK].astype(np.float32)
            chunk = np.clip((chunk - self.mean) / self.std, -FARTHEST, FARTHEST)
            along = (chunk @ axes) ** 2
            around = np.maximum((chunk**2).sum(axis=1) - along.sum(axis=1), 0)
            found[start : start + CHUNK] = (along / self.variances).sum(axis=1) + around / self.rest
        return found
