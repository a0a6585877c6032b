"""A slide on which everything was run once, and what was returned on the way."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData

import stdistill as sd
from stdistill._table.checks import share_elements

NETWORK: dict[str, Any] = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 1, "batch_size": 64}
NETWORK |= {"progress_bar": False, "accelerator": "cpu"}
ALIGNMENT: dict[str, Any] = {"max_epochs": 1, "width": 8, "hidden": 8, "n_dims": 4, "progress_bar": False}
CROP: dict[str, Any] = {"crop_px": 32, "mpp": 0.3}


@dataclass
class Prepared:
    """A slide with cells and tiles; models and frames go by a name."""

    slide: SpatialData
    folder: Path
    """For what is written to files."""
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> AnnData:
        return self.slide["table"]

    @property
    def tiles(self) -> AnnData:
        return self.slide["tiles"]

    def copy(self) -> Prepared:
        """Return one with tables of its own, which a damage may spoil; images, shapes and models are shared."""
        slide = share_elements(self.slide, table=self.cells.copy(), tiles=self.tiles.copy())
        slide.attrs = deepcopy(self.slide.attrs)
        return replace(self, slide=slide, made=dict(self.made))

    def put(self, **tables: AnnData) -> None:
        """Put tables in the place of those that there are."""
        self.slide = share_elements(self.slide, **tables)


def prepare(bundle: Path, folder: Path) -> Prepared:
    """Run everything that writes to a table, as the tutorials do."""
    slide = sd.pp.read_xenium(bundle)
    cells = slide["table"]
    sd.pp.split_strips(slide, **CROP)
    sd.pp.neighborhoods(slide, n_neighbors=15)
    sd.pp.embed_he(slide, encoder="texture", **CROP)
    sd.pp.quality(slide)
    sd.pp.embed_expression(slide, max_epochs=1)
    sd.pp.abundances(slide, cell_type_key="cell_type")
    made: dict[str, Any] = {
        "teacher": sd.tl.nolan(slide, k=3, **NETWORK),
        "student": sd.tl.distill(slide, k=3, **NETWORK),
        "composition": sd.tl.decompose(slide, method="ridge"),
    }
    sd.tl.leiden(slide, k=3, n_neighbors=8)
    sd.tl.kmeans_niches(slide, k=3)
    sd.tl.choose_k(slide, ks=(2, 3), n_runs=2, **{name: NETWORK[name] for name in NETWORK if name != "progress_bar"})
    sd.tl.verdict(slide, made["student"])
    sd.pp.tiles(slide, tile_px=128, min_cells=1)
    sd.pp.embed_tiles(slide, encoder="texture")
    made["alignment"] = sd.tl.align(slide, **ALIGNMENT)
    sd.tl.retrieval(slide, n_bootstrap=9)
    made["cell"] = cells.obs_names[(cells.obs["split"] == "test").to_numpy()][0]
    made["niche"] = cells.obs["student_niche"].cat.categories[0]
    made["tile"] = slide["tiles"].obs_names[0]
    made["explanation"] = sd.tl.explain(slide, made["student"], cells=[made["cell"]], n_samples=4)
    made["profile"] = sd.tl.niche_profile(slide, niche_key="student_niche", n_markers=3)
    cells.obs["block"] = pd.Categorical((cells.obsm["spatial"][:, 0] > cells.obsm["spatial"][:, 0].mean()).astype(str))
    return Prepared(slide, folder, made)
