"""The names under which results are written; ``docs/outputs.md`` is their documentation."""

from __future__ import annotations

SPATIAL = "spatial"
"""``.obsm``: cell centres (x, y) in µm."""

SPLIT = "split"
"""``.obs``: `TRAIN`, `TEST` or `BUFFER`."""
TRAIN = "train"
TEST = "test"
BUFFER = "buffer"

RECORD = "stdistill"
"""``.uns``: how each step was run, ``.uns["stdistill"][step]``."""

TABLE = "table"
HE_IMAGE = "he"
CELL_TYPE = "cell_type"
