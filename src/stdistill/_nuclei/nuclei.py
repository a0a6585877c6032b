"""Nuclei as polygons with their measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import shapely
from skimage.color import hed_from_rgb

from stdistill._nuclei.outlines import trace_outlines
from stdistill._support.arrays import Float64s


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of an image, or of a part of it, in pixels of the image from its upper left corner."""

    polygons: npt.NDArray[np.object_]
    """Outlines (n), :class:`shapely.Polygon`."""
    centroids: Float64s
    """Centres of area (n, 2): x, y."""
    area_um2: Float64s
    eccentricity: Float64s
    """Of the ellipse with the same second moments: 0 for a disc, near 1 for a spindle."""
    solidity: Float64s
    """Area over that of the convex hull."""
    haematoxylin: Float64s
    """Mean optical density (natural logarithm) of haematoxylin, after Ruifrok and Johnston 2001."""

    def __len__(self) -> int:
        return len(self.polygons)

    def __getitem__(self, kept: npt.NDArray[np.bool_]) -> Nuclei:
        return Nuclei(*(getattr(self, field.name)[kept] for field in fields(self)))

    def placed(self, scale: float, left: float, top: float) -> Nuclei:
        """Return the same nuclei in an image whose pixels are smaller by `scale`, with the corner at `left`, `top`."""
        corner = np.array([left, top])
        return Nuclei(
            shapely.transform(self.polygons, lambda points: points * scale + corner),
            self.centroids * scale + corner,
            self.area_um2,
            self.eccentricity,
            self.solidity,
            self.haematoxylin,
        )


def join_nuclei(parts: Sequence[Nuclei]) -> Nuclei:
    """Join nuclei of several parts of an image into one table, in the order given."""
    parts = parts or [measure_nuclei(np.zeros((1, 1), np.int32), np.zeros((3, 1, 1), np.float32), mpp=1.0)]
    return Nuclei(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Nuclei)))


def measure_nuclei(labels: npt.NDArray[np.int32], density: npt.NDArray[np.float32], *, mpp: float) -> Nuclei:
    """Outline and measure labelled nuclei.

    Parameters
    ----------
    labels
        Label image (h, w): 1 … n, 0 elsewhere; all pixels of a label are connected by their sides.
    density
        Optical density of red, green and blue (3, h, w).
    mpp
        µm per pixel.
    """
    rows, columns = np.nonzero(labels)
    at = labels[rows, columns] - 1
    n = int(labels.max(initial=0))
    areas = np.bincount(at, minlength=n)

    def mean(values: npt.NDArray[np.generic]) -> Float64s:
        means: Float64s = np.bincount(at, values, n) / areas
        return means

    centroids = np.stack([mean(columns), mean(rows)], axis=1) + 0.5
    right, down = columns + 0.5 - centroids[at, 0], rows + 0.5 - centroids[at, 1]
    # A pixel is a square, not a point: its own variance is 1/12.
    xx, yy, xy = mean(right**2) + 1 / 12, mean(down**2) + 1 / 12, mean(right * down)
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    polygons = trace_outlines(labels)
    outlined = shapely.area(polygons)
    return Nuclei(
        polygons=polygons,
        centroids=centroids,
        area_um2=outlined * mpp**2,
        eccentricity=np.sqrt(1 - (middle - spread) / (middle + spread)),
        solidity=outlined / shapely.area(shapely.convex_hull(polygons)),
        haematoxylin=mean(hed_from_rgb[:, 0] @ density[:, rows, columns]),
    )
