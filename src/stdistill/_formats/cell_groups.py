"""Cell types from 10x's ``cell_groups.csv`` (cell_id, group, color)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._support.warn import warn


def find_cell_groups(folder: Path, cell_groups: str | Path | None) -> Path | None:
    """Return the file that was named, else the one ``*cell_groups.csv`` of the folder, if any."""
    if cell_groups is not None:
        if not Path(cell_groups).is_file():
            msg = f"There is no file of cell groups {cell_groups}."
            raise FileNotFoundError(msg)
        return Path(cell_groups)
    found = sorted(folder.glob("*cell_groups.csv"))
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


def read_cell_groups(path: Path, cell_ids: pd.Series) -> CellGroups:
    """Read the groups of the cells with these ids."""
    groups = pd.read_csv(path, dtype=str)
    if not {"cell_id", "group"} <= set(groups.columns):
        msg = f"{path.name} has the columns {list(groups.columns)}; expected cell_id, group and perhaps color."
        raise ValueError(msg)
    groups = groups.drop_duplicates("cell_id").set_index("cell_id")
    n_known = int(cell_ids.isin(groups.index).sum())
    if n_known == 0:
        msg = (
            f"None of the {len(groups)} cells in {path.name} (such as {groups.index[:2].tolist()}) is on this "
            f"slide (such as {cell_ids.iloc[:2].tolist()}): the file belongs to another one."
        )
        raise ValueError(msg)
    n_foreign = len(groups) - n_known
    if n_foreign:
        warn(f"{n_foreign} cells in {path.name} are not on this slide and are ignored.")
    labels = pd.Categorical(groups["group"].reindex(cell_ids).to_numpy())
    colors = None
    if "color" in groups:
        by_group = groups.groupby("group")["color"].first().reindex(labels.categories)
        colors = by_group.to_numpy() if by_group.notna().all() else None
    return CellGroups(labels, colors, n_known)
