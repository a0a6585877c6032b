"""What happens to tables between two steps, and which keys it touches, under the names of `functions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from anndata import AnnData

import stdistill as sd
from agreeing.prepared import ALIGNMENT, CROP, NETWORK, Prepared

EVERYTHING = "*"


class Damage(NamedTuple):
    """Something that makes keys disagree."""

    touches: str
    do: Callable[[Prepared], Any]
    anew: str = ""
    """What was made anew by its own step, as functions take it."""


def order(table: AnnData) -> Any:
    return np.random.default_rng(0).permutation(table.n_obs)


def reorder_obs(table: AnnData) -> None:
    table.obs = table.obs.iloc[order(table)]


def reorder(table: AnnData, key: str) -> None:
    table.obsm[key] = table.obsm[key][order(table)]


def reorder_columns(table: AnnData, *beginnings: str) -> None:
    """Put columns in another order beside the others, as an assignment of ``.to_numpy()`` does."""
    for column in [name for name in table.obs if name.startswith(beginnings)]:
        table.obs[column] = table.obs[column].iloc[order(table)].array


def edit_labels(table: AnnData, key: str) -> None:
    """Give every fifth cell that has a label another one."""
    column = table.obs[key]
    codes = column.cat.codes.to_numpy().copy()
    rows = np.flatnonzero(codes >= 0)[::5]
    codes[rows] = (codes[rows] + 1) % len(column.cat.categories)
    table.obs[key] = pd.Categorical.from_codes(codes, dtype=column.dtype)


def scale(table: AnnData, key: str, factor: float) -> None:
    table.obsm[key] = (table.obsm[key] * factor).astype(table.obsm[key].dtype)


def mirror(table: AnnData) -> None:
    centers = table.obsm["spatial"].copy()
    centers[:, 0] = centers[:, 0].max() + centers[:, 0].min() - centers[:, 0]
    table.obsm["spatial"] = centers


def put_by_hand(table: AnnData, key: str) -> None:
    """Put other features of the same width under a key, as from another program."""
    shape, kind = table.obsm[key].shape, table.obsm[key].dtype
    table.obsm[key] = np.random.default_rng(1).normal(size=shape).astype(kind)


def other_split(on: Prepared) -> None:
    sd.pp.split_strips(on.slide, **CROP, test_strip=2)


def split_by_hand(on: Prepared) -> None:
    """Deal out cells at random, as scikit-learn does."""
    drawn = np.random.default_rng(0).choice(["train", "test"], on.cells.n_obs, p=[0.7, 0.3])
    on.cells.obs["split"] = pd.Categorical(drawn)


def other_crops(on: Prepared) -> None:
    sd.pp.embed_he(on.slide, encoder="texture", crop_px=48, mpp=0.3)


def other_latent(on: Prepared) -> None:
    sd.pp.embed_expression(on.slide, max_epochs=1, seed=1)


def other_tile_features(on: Prepared) -> None:
    sd.pp.embed_tiles(on.slide, encoder=sd.encoders.from_module(Shades(), mean=[0.5] * 3, std=[0.5] * 3))


class Shades(torch.nn.Module):
    """Another encoder: the mean and the spread of each colour."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.cat([crops.mean(dim=(2, 3)), crops.std(dim=(2, 3))], dim=1)


def other_student(on: Prepared) -> None:
    on.made["student"] = sd.tl.distill(on.slide, k=3, **{**NETWORK, "seed": 1})


def log_transform(table: AnnData) -> None:
    table.X.data = np.log1p(table.X.data)


def other_models(on: Prepared, *steps: Callable[[Prepared], Any]) -> None:
    """Take models that were fitted to a copy of the table after some steps."""
    other = on.copy()
    for step in steps:
        step(other)
    on.made["student"] = sd.tl.distill(other.slide, teacher_key="cell_type", **NETWORK)
    on.made["composition"] = sd.tl.decompose(other.slide, method="ridge")
    on.made["alignment"] = sd.tl.align(other.slide, **{**ALIGNMENT, "seed": 1})


def student_of_another_radius(on: Prepared) -> None:
    other = on.copy()
    sd.pp.neighborhoods(other.slide, n_neighbors=8)
    on.made["student"] = sd.tl.distill(other.slide, teacher_key="cell_type", **NETWORK)


def wider_buffer(on: Prepared) -> None:
    sd.pp.split_strips(on.slide, crop_px=48, mpp=0.3)
    sd.pp.neighborhoods(on.slide, n_neighbors=15)


def keep(on: Prepared, rows: Any) -> None:
    on.put(table=on.cells[rows].copy())


def add_slide(on: Prepared, **how: Any) -> None:
    """Concatenate with another slide in the same frame."""
    other = on.cells.copy()
    rng = np.random.default_rng(2)
    other.obsm["X_he"] = other.obsm["X_he"][rng.permutation(other.n_obs)]
    other.obsm["spatial"] = other.obsm["spatial"] + rng.normal(0, 1, (other.n_obs, 2))
    joined = ad.concat([on.cells, other], index_unique="-", pairwise=True, **how)
    joined.uns["spatialdata_attrs"] = on.cells.uns["spatialdata_attrs"]
    on.made["cell"] = f"{on.made['cell']}-0"
    on.put(table=joined)


def forget_records(on: Prepared) -> None:
    """Keep values alone, as who exports columns and arrays does."""
    for table in (on.cells, on.tiles):
        table.uns.pop("stdistill")
        table.obs = table.obs.drop(
            columns=[name for name in table.obs if name.endswith(("_mark", "_model", "_fitted"))]
        )


DAMAGES: dict[str, Damage] = {
    # 1. rows in another order
    "rows of .obs": Damage(EVERYTHING, lambda on: reorder_obs(on.cells)),
    "rows of .obs of tiles": Damage("tiles:*", lambda on: reorder_obs(on.tiles)),
    **{
        f"rows of {key}": Damage(key, lambda on, key=key: reorder(on.cells, key))
        for key in ("spatial", "X_he", "X_scVI", "abundance", "he_abundance")
    },
    **{
        f"rows of {key} of tiles": Damage(f"tiles:{key}", lambda on, key=key: reorder(on.tiles, key))
        for key in ("spatial", "X_he_micro", "X_aligned_he", "X_aligned_expression")
    },
    "rows of counts": Damage("X", lambda on: setattr(on.cells, "X", on.cells.X[order(on.cells)])),
    **{
        f"rows of {key}": Damage(f"{key}*", lambda on, key=key: reorder_columns(on.cells, key))
        for key in ("teacher_", "student_", "he_leiden_")
    },
    **{
        f"rows of {key}": Damage(key, lambda on, key=key: reorder_columns(on.cells, key))
        for key in ("teacher_niche", "student_niche", "student_confidence", "cell_type", "split", "tile")
    },
    # 2. other features than those that results stand on
    "features of other crops": Damage("X_he", other_crops, "X_he"),
    "features by hand": Damage("X_he", lambda on: put_by_hand(on.cells, "X_he")),
    "latent again": Damage("X_scVI", other_latent, "X_scVI"),
    "latent by hand": Damage("X_scVI", lambda on: put_by_hand(on.cells, "X_scVI")),
    "features of tiles again": Damage("tiles:X_he_*", other_tile_features, "tiles:X_he_*"),
    "features of tiles by hand": Damage("tiles:X_he_*", lambda on: put_by_hand(on.tiles, "X_he_micro")),
    # 3. another graph
    "graph of another radius": Damage("graph", lambda on: sd.pp.neighborhoods(on.slide, n_neighbors=8), "graph"),
    "graph without split": Damage(
        "graph", lambda on: sd.pp.neighborhoods(on.slide, n_neighbors=15, split_key=None), "graph"
    ),
    # 4. another split
    "split again": Damage("split", other_split, "split"),
    "split and graph again": Damage(
        "split graph", lambda on: (other_split(on), sd.pp.neighborhoods(on.slide, n_neighbors=15)), "split+graph"
    ),
    "split by hand": Damage("split", split_by_hand),
    # 5. other centres
    "mm": Damage("spatial", lambda on: scale(on.cells, "spatial", 1e-3)),
    "pixels": Damage("spatial", lambda on: scale(on.cells, "spatial", 1 / 0.2738)),
    "mirrored": Damage("spatial", lambda on: mirror(on.cells)),
    "tiles in pixels": Damage("tiles:spatial", lambda on: scale(on.tiles, "spatial", 1 / 0.2738)),
    # 6. results again, after what stands on them
    "teacher again": Damage("teacher_*", lambda on: sd.tl.nolan(on.slide, k=3, **{**NETWORK, "seed": 1}), "teacher_*"),
    "teacher of fewer niches": Damage("teacher_*", lambda on: sd.tl.nolan(on.slide, k=2, **NETWORK), "teacher_*"),
    "student again": Damage("student_*", other_student, "student_*"),
    "clusters again": Damage("he_leiden_*", lambda on: sd.tl.leiden(on.slide, k=4, n_neighbors=8), "he_leiden_*"),
    "abundances of another radius": Damage(
        "abundance", lambda on: sd.pp.abundances(on.slide, cell_type_key="cell_type", radius_um=12), "abundance"
    ),
    "alignment again": Damage(
        "tiles:X_aligned_*", lambda on: sd.tl.align(on.slide, **{**ALIGNMENT, "seed": 1}), "tiles:X_aligned_*"
    ),
    # 7. other cells
    "every second cell": Damage(EVERYTHING, lambda on: keep(on, slice(None, None, 2))),
    "a part of the slide": Damage(EVERYTHING, lambda on: keep(on, on.cells.obsm["spatial"][:, 1] < 150)),
    "two slides": Damage(EVERYTHING, lambda on: add_slide(on)),
    "two slides with records": Damage(EVERYTHING, lambda on: add_slide(on, uns_merge="first")),
    # 8. values edited
    "labels of teacher edited": Damage("teacher_niche", lambda on: edit_labels(on.cells, "teacher_niche")),
    "labels of student edited": Damage("student_niche", lambda on: edit_labels(on.cells, "student_niche")),
    "logits edited": Damage("student_logit_*", lambda on: on.cells.obs.update(on.cells.obs[["student_logit_0"]] + 9)),
    "cell types edited": Damage("cell_type", lambda on: edit_labels(on.cells, "cell_type")),
    "features scaled": Damage("X_he", lambda on: scale(on.cells, "X_he", 2)),
    "latent scaled": Damage("X_scVI", lambda on: scale(on.cells, "X_scVI", 2)),
    "abundances scaled": Damage("abundance", lambda on: scale(on.cells, "abundance", 0.5)),
    "counts logarithmic": Damage("X", lambda on: log_transform(on.cells)),
    "counts of tiles logarithmic": Damage("tiles:X", lambda on: log_transform(on.tiles)),
    "embeddings of tiles scaled": Damage("tiles:X_aligned_he", lambda on: scale(on.tiles, "X_aligned_he", 3)),
    # 9. another model than that of the features
    "another model": Damage("model", other_models, "model"),
    "model of other features": Damage(
        "model", lambda on: other_models(on, other_crops, wider_buffer, other_tile_features)
    ),
    "model of another radius": Damage("model", student_of_another_radius),
    # 10. a table from someone else
    "no records": Damage(EVERYTHING, forget_records),
}
