"""10x's ``cell_groups.csv`` (cell_id, group, color), from which Xenium Explorer colours cells: read and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._formats.text import read_csv
from stdistill._formats.xenium import SPECS
from stdistill._support.files import replacing
from stdistill._support.reading import check_is_file, find_visible
from stdistill._support.warn import warn

MISSING = "file of cell groups"
NOT_GROUPS = "is no table of cell groups (cell_id, group and perhaps color)"
NO_COLORS = ("NA", "nan")
LEFT_OUT = 0.1
"""10x's own files leave out cells of few transcripts; those of another slide, whose ids are 1, 2, …, many more."""
ENDING = "cell_groups.csv"
HEADER = "cell_id,group,color"
"""Of files that are written here, and of 10x's own."""
SPELLINGS = {"cell id": "cell_id", "colour": "color"}


def find_cell_groups(folder: Path, cell_groups: str | Path | None) -> Path | None:
    """Return the file that was named, else the one ``*cell_groups.csv`` of the folder, if any."""
    if cell_groups is not None:
        path = Path(cell_groups).expanduser()
        check_is_file(path, MISSING)
        return path
    found = find_visible(folder, f"*{ENDING}")
    if len(found) > 1:
        msg = f"{folder} holds {[p.name for p in found]}: name the one to read with cell_groups=."
        raise ValueError(msg)
    return found[0] if found else None


class CellGroups(NamedTuple):
    """The groups of the cells of a slide."""

    labels: pd.Categorical[str]
    """One for each cell, missing where the file leaves it out, as 10x's own files do some."""
    colors: npt.NDArray[np.object_] | None
    """Of the categories; `None` where the file has none, or not for all."""
    n_known: int
    """Cells that the file names."""


def read_cell_groups(path: Path, cell_ids: pd.Index) -> CellGroups:
    """Read the groups of the cells with these ids."""
    # A group may be called NA: no text is none, and no word is.
    groups = read_csv(path, NOT_GROUPS, missing=MISSING, dtype=str, keep_default_na=False, na_values=[""])
    groups = groups.rename(columns=lambda name: SPELLINGS.get(name.lower(), name.lower()))
    if {"x", "y"} <= set(groups.columns) and "cell_id" not in groups:
        msg = (
            f"{path.name} holds the outline of a selection in Xenium Explorer, in µm (columns {list(groups.columns)}), "
            'and not the groups of cells. sd.tl.pathology_probe takes it as polygons=, with polygons_unit="um".'
        )
        raise ValueError(msg)
    if not {"cell_id", "group"} <= set(groups.columns):
        msg = (
            f"{path.name} has the columns {list(groups.columns)}; expected cell_id, group and perhaps color. Rename "
            "them in its first line."
        )
        raise ValueError(msg)
    different = groups.dropna(subset="group").drop_duplicates(["cell_id", "group"])
    n_several = different.loc[different["cell_id"].duplicated(), "cell_id"].nunique()
    if n_several:
        warn(
            f"{n_several} cells in {path.name} are in several groups, and the first that the file names counts. Leave "
            "one row for each cell."
        )
    groups = groups.drop_duplicates("cell_id").set_index("cell_id")
    n_known = int(cell_ids.isin(groups.index).sum())
    if n_known == 0:
        msg = (
            f"None of the {len(groups)} cells in {path.name} (such as {groups.index[:2].tolist()}) is on this "
            f"slide (such as {cell_ids[:2].tolist()}): the file belongs to another one."
        )
        raise ValueError(msg)
    n_foreign = len(groups) - n_known
    if n_foreign:
        warn(f"{n_foreign} cells in {path.name} are not on this slide and are ignored.")
    n_without = len(cell_ids) - n_known
    if n_without > LEFT_OUT * len(cell_ids):
        warn(
            f"{n_without} of the {len(cell_ids)} cells of this slide are not in {path.name}, and have no group. Unless "
            "they were left out on purpose, it is of another slide, or of cells that were segmented otherwise: ids may "
            "be the same, and groups are those of other cells then."
        )
    labels = pd.Categorical(groups["group"].reindex(cell_ids).to_numpy())
    colors = None
    if "color" in groups:
        groups["color"] = groups["color"].mask(groups["color"].isin(NO_COLORS))
        by_group = groups.groupby("group")["color"].first().reindex(labels.categories)
        colors = by_group.to_numpy() if by_group.notna().all() else None
    return CellGroups(labels, colors, n_known)


def write_cell_groups(
    path: Path,
    cell_ids: npt.NDArray[np.object_],
    codes: npt.NDArray[np.intp],
    names: Sequence[str],
    colors: Sequence[str],
) -> int:
    """Write the groups of cells and return their number; cells without one (code -1) are left out.

    Parameters
    ----------
    path
        The CSV.
    cell_ids
        (n,) ids.
    codes
        (n,) numbers of their groups.
    names, colors
        Of the groups; colours as ``#RRGGBB``.

    Raises
    ------
    FileExistsError
        When a file is there that is of other columns, or it is a bundle's own.
    """
    _check_not_of_others(path)
    known = codes >= 0
    rows = {"cell_id": cell_ids[known], "group": np.array(names)[codes[known]], "color": np.array(colors)[codes[known]]}
    with replacing(path) as new:
        pd.DataFrame(rows).to_csv(new, index=False, encoding="utf-8", lineterminator="\n")
    return int(known.sum())


def _check_not_of_others(path: Path) -> None:
    """Raise when a file would be lost that was not written here, or be taken for the cell types of a bundle."""
    if path.name.lower().endswith(ENDING) and (path.parent / SPECS).is_file():
        msg = (
            f"{path} is where the Xenium bundle has its own cell types: they would be lost, and sd.pp.read_xenium "
            "would read these groups in their place. Name a file in another folder."
        )
        raise FileExistsError(msg)
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        header = file.readline(len(HEADER) + 2)
    if header.rstrip(b"\r\n") != HEADER.encode():
        msg = (
            f"{path} exists already, and stdistill did not write it: its first line is not {HEADER}. It would be lost: "
            "name another file, or delete this one."
        )
        raise FileExistsError(msg)
