"""Files for other programs: QuPath, Xenium Explorer."""

from __future__ import annotations

from stdistill.io._to_geojson import to_geojson
from stdistill.io._to_xenium_explorer import to_xenium_explorer

__all__ = ["to_geojson", "to_xenium_explorer"]
