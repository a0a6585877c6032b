"""What differs between the versions of the Xenium Onboard Analysis (XOA)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The layout of an output bundle."""

    software: str
    """As in ``experiment.xenium``."""
    major_version: int
    """Of the format of ``experiment.xenium`` and ``cells.zarr.zip``."""
    string_ids: bool = True
    """Whether cells are called ``aaaaficg-1``, or 1, 2, …"""
    has_seg_mask_value: bool = False
    """Whether ``cells.zarr.zip`` lists the labels."""
    has_polygon_sets: bool = False
    """Since then a cell may have no nucleus or several, and boundaries have a ``label_id``."""
    dapi: tuple[str, ...] = ("morphology_mip.ome.tif", "morphology_focus.ome.tif")
    """Files of the DAPI image, the one in focus last."""
    n_vertices: int = 24
    """Of a polygon in the tables of boundaries."""


_ONE_FOCUS = ("morphology_focus/morphology_focus_0000.ome.tif",)
LAYOUTS = {
    "1.0.2": Layout("xenium-1.0.2", 2, string_ids=False, n_vertices=12),
    "1.7.6": Layout("xenium-1.7.6.0", 4, has_seg_mask_value=True, n_vertices=12),
    "2.0.0": Layout("xenium-2.0.0.10", 5, has_polygon_sets=True, dapi=_ONE_FOCUS),
    "3.0.0": Layout("xenium-3.0.0.15", 5, has_polygon_sets=True, dapi=_ONE_FOCUS),
    "4.0.0": Layout("xenium-4.0.0.10", 6, has_polygon_sets=True, dapi=("morphology_focus/ch0000_dapi.ome.tif",)),
}
"""By XOA version."""
