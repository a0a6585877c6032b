"""What is known of the slide that a table is of: one record, written by whatever reads slides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from anndata import AnnData

from stdistill._support.arrays import Floats
from stdistill._table.records import read_record, write_record

STEP = "slide"


@dataclass(frozen=True)
class SlideRecord:
    """A slide, and where its cells lie on its H&E; `None` for what is not known or not there."""

    source: str
    """What it was read from, such as ``"xenium"``."""
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

    @property
    def has_image(self) -> bool:
        """Whether it says where the cells lie on an H&E."""
        return self.um_to_px is not None


def write_slide_record(adata: AnnData, record: SlideRecord) -> None:
    """Write the record to the table."""
    entries: dict[str, Any] = asdict(record)
    if record.shape is not None:
        entries["shape"] = np.array(record.shape)
    write_record(adata, STEP, **entries)


def read_slide_record(adata: AnnData) -> SlideRecord | None:
    """Return the record of the table's slide, also as `read_xenium` wrote it before there was one."""
    found = read_record(adata, STEP)
    if not found:
        found = read_record(adata, "read_xenium")
        if not found:
            return None
        found |= {"source": "xenium", "um_to_px": found.get("um_to_he"), "shape": found.get("he_shape")}
    known: dict[str, Any] = {name: found.get(name) for name in SlideRecord.__dataclass_fields__}
    if known["um_to_px"] is not None:
        known["um_to_px"] = np.asarray(known["um_to_px"], dtype=np.float64)
    if known["shape"] is not None:
        known["shape"] = (int(known["shape"][0]), int(known["shape"][1]))
    for name in ("mpp", "pixel_size", "share_on_image", "share_on_tissue"):
        known[name] = None if known[name] is None else float(known[name])
    return SlideRecord(**known)
