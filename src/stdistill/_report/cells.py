"""Where the cells are and what they were found to be, for the page to read when it is clicked."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np

from stdistill._report.store import Store
from stdistill._support.arrays import Floats, Pixels

BIN_PX = 2048
"""Side of the square whose cells are in one file, in pixels of the finest H&E: about 1 mm, a few thousand cells."""
PARTS = 16
"""Parts of a pixel that places are rounded to: `BIN_PX` times this is less than 65,536."""


def write_cells(pixels: Floats, codes: Sequence[Pixels], store: Store) -> list[str]:
    """Write the cells square by square, as scripts: a page that was opened by double click reads nothing else.

    A script calls ``stdistillCells(name, data)`` with base64 of the bytes of all x, then of all y (16 bits, from the
    corner of the square, in sixteenths of a pixel), then of the codes of each layer (8 bits).

    Parameters
    ----------
    pixels
        Centres (n, 2) in pixels of the finest H&E of the report.
    codes
        For each layer those of these cells.
    store
        Takes the scripts.

    Returns
    -------
    The names of the squares that have cells, ``"{column}_{row}"``.
    """
    places = np.floor(pixels / BIN_PX).astype(np.int64)
    inside = (places >= 0).all(axis=1)
    order = np.flatnonzero(inside)
    order = order[np.lexsort((places[order, 0], places[order, 1]))]
    changes = np.flatnonzero(np.diff(places[order], axis=0).any(axis=1)) + 1
    names = []
    for rows in np.split(order, changes):
        if not len(rows):
            continue
        column, row = places[rows[0]].tolist()
        inner = np.floor((pixels[rows] - (column * BIN_PX, row * BIN_PX)) * PARTS).astype("<u2")
        parts = [inner[:, 0].tobytes(), inner[:, 1].tobytes(), *(code[rows].tobytes() for code in codes)]
        name = f"{column}_{row}"
        text = base64.b64encode(b"".join(parts)).decode()
        store.write(f"cells/{name}.js", f"stdistillCells({json.dumps(name)},{json.dumps(text)})\n".encode())
        names.append(name)
    return names
