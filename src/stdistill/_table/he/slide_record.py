"""What is known of a slide: one record, of the table of its cells or, where there is none yet, of the SpatialData."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from stdistill._support.arrays import Floats
from stdistill._table.records import read_record, read_slide_step, write_record, write_slide_step

if TYPE_CHECKING:
    from spatialdata import SpatialData

STEP = "slide"
GIVEN = "mpp="
"""Source of µm per pixel that the user gave."""
ARRAYS = {"um_to_px", "shape", "bounds"}
"""Entries that are arrays in a table."""


@dataclass(frozen=True)
class SlideRecord:
    """A slide, and where its cells lie on its H&E; `None` for what is not known or not there."""

    source: str
    """What it was read from, such as ``"xenium"`` or, with an H&E alone, the format of its file."""
    n_cells: int | None = None
    """Cells of the table when it was read."""
    image_key: str | None = None
    """Name of the H&E."""
    mpp: float | None = None
    """Its µm per pixel."""
    um_to_px: Floats | None = None
    """Affine map (3 × 3) of cell centres in µm to its pixels."""
    shape: tuple[int, int] | None = None
    """Its height and width in pixels."""
    pixel_size: float | None = None
    """µm per pixel of the morphology image of a Xenium slide."""
    share_on_image: float | None = None
    """Of the cells."""
    share_on_tissue: float | None = None
    """Of the cells on the image."""
    path: str | None = None
    """The file of the H&E."""
    digest: str | None = None
    """Tells that file from others."""
    scene: int | str | None = None
    """Which of several images in the file it is."""
    mpp_source: str | None = None
    """Where its µm per pixel are from."""
    bounds: tuple[int, int, int, int] | None = None
    """Left, top, width and height in pixels of what was scanned, where the file states it."""

    @property
    def has_image(self) -> bool:
        """Whether it says where the cells lie on an H&E."""
        return self.um_to_px is not None


def write_slide_record(data: AnnData | SpatialData, record: SlideRecord) -> None:
    """Write the record to ``.uns["stdistill"]`` of a table, or to ``.attrs["stdistill"]`` of a SpatialData."""
    entries = {name: value for name, value in asdict(record).items() if value is not None}
    for name in ARRAYS & entries.keys():
        entries[name] = np.asarray(entries[name])
    if isinstance(data, AnnData):
        write_record(data, STEP, **entries)
        return
    write_slide_step(data, STEP, **entries)


def read_slide_record(data: AnnData | SpatialData) -> SlideRecord | None:
    """Return the record of a slide, also as `read_xenium` wrote it before there was one."""
    if not isinstance(data, AnnData):
        return _parse(read_slide_step(data, STEP))
    found = read_record(data, STEP)
    if not found and (found := read_record(data, "read_xenium")):
        found |= {"source": "xenium", "um_to_px": found.get("um_to_he"), "shape": found.get("he_shape")}
    return _parse(found)


def _parse(found: dict[str, Any]) -> SlideRecord | None:
    if not found:
        return None
    known: dict[str, Any] = {name: found.get(name) for name in SlideRecord.__dataclass_fields__}
    if known["um_to_px"] is not None:
        known["um_to_px"] = np.asarray(known["um_to_px"], dtype=np.float64)
    for name in ("shape", "bounds"):
        known[name] = None if known[name] is None else tuple(int(one) for one in known[name])
    for name in ("mpp", "pixel_size", "share_on_image", "share_on_tissue"):
        known[name] = None if known[name] is None else float(known[name])
    if known["scene"] is not None and not isinstance(known["scene"], str):
        known["scene"] = int(known["scene"])
    return SlideRecord(**known)
