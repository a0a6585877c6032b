"""A pathologist's coarse annotation, as QuPath exports it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from skimage.measure import find_contours

from stdistill.datasets._simulation.painting.frames import Alignment
from stdistill.datasets._simulation.tissue.section import Section

_COLORS = {
    "Tumor": [200, 0, 0],
    "Stroma": [150, 200, 150],
    "Lymphoid aggregate": [80, 60, 180],
    "Inflamed stroma": [160, 90, 160],
    "Benign glands": [230, 160, 60],
    "Muscle": [190, 110, 90],
    "Adipose tissue": [240, 230, 120],
    "Necrosis": [50, 50, 50],
    "Squamous epithelium": [100, 170, 220],
}
"""RGB of each region."""
_RASTER = 400
"""Regions are traced on a raster of one to two times as many pixels along its longer side, or fewer."""
_BORDER_UM = 20.0
"""Nobody follows a border more closely."""
_SMALLEST_UM2 = 4000.0
"""Smaller regions are not worth an outline."""


def write_pathology(path: Path, section: Section, alignment: Alignment) -> None:
    """Write one annotation a region, in pixels of the H&E."""
    tissue = section.tissue
    names = sorted(set(section.niches.regions))
    code_of_niche = np.array([names.index(name) for name in section.niches.regions])
    thin = max(1, max(tissue.outline.shape) // _RASTER)
    code = code_of_niche[tissue.niche()[::thin, ::thin]]
    inside = tissue.outline[::thin, ::thin] > section.outline_level
    step = tissue.step_um * thin
    features: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        share = ndimage.gaussian_filter(((code == index) & inside).astype(np.float32), _BORDER_UM / step)
        for polygon in _polygons(np.pad(share, 1)):
            # The padding shifts indices by one, and the samples are centres of pixels of the full raster.
            in_um = shapely.transform(polygon, lambda points: (points - 1) * step + tissue.step_um / 2)
            if in_um.area < _SMALLEST_UM2:
                continue
            outline = shapely.transform(in_um.simplify(2.0), lambda points: np.round(alignment.from_um(points), 1))
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {outline.wkt}")),
                    "geometry": shapely.geometry.mapping(outline),
                    "properties": {
                        "objectType": "annotation",
                        "classification": {"name": name, "color": _COLORS[name]},
                    },
                }
            )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _polygons(share: npt.NDArray[np.float32]) -> list[shapely.Polygon]:
    """Return the polygons (column, row), with their holes, in which the share is above one half."""
    rings = [shapely.LinearRing(contour[:, ::-1]) for contour in find_contours(share, 0.5) if len(contour) > 3]
    return list(shapely.get_parts(shapely.build_area(shapely.GeometryCollection(rings))))
