"""What an evaluation is asked for, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stdistill._runs.tables import format_tables
from stdistill._table.annotations import PolygonsUnit


class Asked(NamedTuple):
    """What is measured."""

    ks: Sequence[int]
    cell_type_key: str | None = None
    label_key: str | None = None
    polygons: str | Path | None = None
    polygons_unit: PolygonsUnit = "px"

    @property
    def has_annotations(self) -> bool:
        """Whether there is something for the probe."""
        return self.label_key is not None or self.polygons is not None

    @property
    def annotations(self) -> dict[str, Any]:
        """The arguments of the probe that say where they are."""
        return {"label_key": self.label_key, "polygons": self.polygons, "polygons_unit": self.polygons_unit}


@dataclass(frozen=True)
class Evaluation:
    """What :func:`stdistill.tl.evaluate` returns; as text it is the tables in the shape of the paper's."""

    agreement: pd.DataFrame
    """ARI, gain and NMI with the teacher; one row per method and number of niches, as in all of them."""
    steps: pd.DataFrame
    """What was done: ``step``, ``seconds``, ``ended``."""
    composition_jsd: pd.DataFrame | None = None
    """Divergence of cell-type compositions from the teacher's; `None` without cell types."""
    pathology_probe: pd.DataFrame | None = None
    """Macro-F1 of annotations predicted from niches; `None` without annotations."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The measures there are, by name."""
        names = ("agreement", "composition_jsd", "pathology_probe")
        return {name: table for name in names if (table := getattr(self, name)) is not None}

    def __str__(self) -> str:
        return format_tables(self.agreement, self.composition_jsd, self.pathology_probe)
