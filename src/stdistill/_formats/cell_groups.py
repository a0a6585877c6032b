"""Cell types from 10x's ``cell_groups.csv`` (cell_id, group, color)."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from anndata import AnnData

from stdistill._support.warn import warn
from stdistill._table import schema

logger = logging.getLogger("stdistill")


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


def write_cell_groups(adata: AnnData, path: Path) -> None:
    """Write the groups to ``.obs["cell_type"]`` and, where there are colours, ``.uns["cell_type_colors"]``.

    Cells that the file leaves out, as 10x's own files do, get no label.
    """
    groups = pd.read_csv(path, dtype=str)
    if not {"cell_id", "group"} <= set(groups.columns):
        msg = f"{path.name} has the columns {list(groups.columns)}; expected cell_id, group and perhaps color."
        raise ValueError(msg)
    groups = groups.drop_duplicates("cell_id").set_index("cell_id")
    ids = adata.obs["cell_id"].astype(str)
    n_known = int(ids.isin(groups.index).sum())
    if n_known == 0:
        msg = (
            f"None of the {len(groups)} cells in {path.name} (such as {groups.index[:2].tolist()}) is on this "
            f"slide (such as {ids.iloc[:2].tolist()}): the file belongs to another one."
        )
        raise ValueError(msg)
    n_foreign = len(groups) - n_known
    if n_foreign:
        warn(f"{n_foreign} cells in {path.name} are not on this slide and are ignored.")
    labels = pd.Categorical(groups["group"].reindex(ids).to_numpy())
    adata.obs[schema.CELL_TYPE] = labels
    if "color" in groups:
        colors = groups.groupby("group")["color"].first().reindex(labels.categories)
        if colors.notna().all():
            adata.uns[f"{schema.CELL_TYPE}_colors"] = colors.to_numpy()
    logger.info(
        'Wrote .obs["%s"]: %d groups, %d of %d cells labelled.',
        schema.CELL_TYPE,
        len(labels.categories),
        n_known,
        adata.n_obs,
    )
