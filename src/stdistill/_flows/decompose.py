"""Cell types of a slide from its H&E: from the bundle or the table to abundances, models, scores and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData

from stdistill import pl, pp, tl
from stdistill._runs.folder import CHECKPOINTS, Run
from stdistill._runs.prepare import Machine, Source, read_slide, split
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._support.checks import check_key
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.graph import NEIGHBORS, has_graph
from stdistill.encoders._encoder import UNKNOWN_REVISION
from stdistill.encoders._registry import resolve
from stdistill.models.composition.arguments import Method

RIDGE = "ridge_abundance"
"""``.obsm``: what ridge regression says, beside the networks."""
CROSS_VALIDATION = "cross_validation.csv"


class Asked(NamedTuple):
    """What is to be learned, from what, and how."""

    target: str
    features: Sequence[str]
    """Keys of ``.obsm``."""
    group: str | None
    method: Method
    use_neighbors: bool
    max_epochs: int | None
    seed: int


def read_bundle(run: Run, source: Source, encoders: Sequence[str], machine: Machine) -> tuple[SpatialData, list[str]]:
    """Read a Xenium slide, and compute the features of each encoder; return their keys, too."""
    slide = read_slide(run, source)
    split(run, slide)
    found = [resolve(name) for name in encoders]
    keys = [schema.HE_FEATURES if len(found) == 1 else f"{schema.HE_FEATURES}_{each[0].name}" for each in found]
    run.check_input(describe_slide(slide.tables[schema.TABLE], counts=False))
    for key, each in zip(keys, found, strict=True):
        names = "+".join(f"{one.name} {one.revision or UNKNOWN_REVISION}" for one in each)
        run.check_input({f"encoder of {key}": names})
        store = None if run.kept is None else run.kept / "features" / key
        embed = partial(pp.embed_he, slide, encoder=each, key_added=key, store=store, device=machine.device)
        run.step(key, partial(embed, devices=machine.devices if store else 1))
    return slide, keys


def read_table(path: Path, features: Sequence[str]) -> AnnData:
    """Read a table that has the features."""
    try:
        cells = ad.read_h5ad(path)
    except (OSError, KeyError) as error:
        msg = f"{path} is no h5ad of an AnnData: {error}"
        raise ValueError(msg) from error
    for key in features:
        check_key(key, cells.obsm.keys(), "features in .obsm", argument="--features")
    return cells


def decompose_slide(run: Run, data: AnnData | SpatialData, asked: Asked, machine: Machine) -> pd.DataFrame:
    """Fit the model and ridge regression, write all to the folder of the run, and return the scores.

    With a group these are those of the groups that were left out, else those of the rows that were not fitted on.
    """
    cells = get_table(data, schema.TABLE)
    if not has_graph(cells):
        run.step(NEIGHBORS, lambda: pp.neighborhoods(cells))
    key = run.step(schema.ABUNDANCE, lambda: _find_target(cells, asked.target))
    run.check_input({**describe_slide(cells, counts=False), **describe_inputs(cells, [*asked.features, key])})
    left_out = None if asked.group is None else _leave_out(run, cells, key, asked.group, asked, machine)
    if asked.method != "ridge":
        _fit(run, cells, schema.HE_ABUNDANCE, key, asked, machine)
    _fit(run, cells, RIDGE, key, asked._replace(method="ridge"), machine)
    fitted = [added for added in (schema.HE_ABUNDANCE, RIDGE) if added in cells.obsm]
    scores = tl.abundance_scores(cells, keys=fitted, reference_key=key) if left_out is None else left_out
    if run.folder is not None:
        _write(data, run.folder, scores, key, fitted)
    return scores


def _find_target(cells: AnnData, target: str) -> str:
    """Return the key of the abundances; make them of cell types, or of a frame, which stays as it is."""
    if target in cells.obsm and not isinstance(cells.obsm[target], pd.DataFrame):
        return target
    if target in cells.obsm:
        pp.abundances(cells, obsm_key=target)
    else:
        what = "cell types in .obs or abundances in .obsm"
        check_key(target, [*cells.obs.columns, *cells.obsm.keys()], what, argument="--target")
        pp.abundances(cells, cell_type_key=target)
    return schema.ABUNDANCE


def _leave_out(run: Run, cells: AnnData, key: str, group: str, asked: Asked, machine: Machine) -> pd.DataFrame:
    """Cross-validate, on a table of its own: the maps of the left-out groups are not kept."""
    rows = AnnData(obs=cells.obs.copy(), obsm=dict(cells.obsm), obsp=dict(cells.obsp), uns=dict(cells.uns))
    path = None if run.kept is None else run.kept / CROSS_VALIDATION

    def make() -> pd.DataFrame:
        scores: pd.DataFrame = tl.cross_validate(
            rows,
            group_key=group,
            target_key=key,
            use_rep=asked.features,
            method=asked.method,
            use_neighbors=asked.use_neighbors,
            max_epochs=asked.max_epochs,
            seed=asked.seed,
            accelerator=machine.accelerator,
            checkpoint_dir=None if run.kept is None else run.kept / CHECKPOINTS / "cross_validation",
        )
        if run.folder is not None:
            with replacing(run.folder / CROSS_VALIDATION) as new:
                scores.to_csv(new, index=False)
        return scores

    def load() -> pd.DataFrame:
        return pd.read_csv(str(path))

    return run.step("cross_validation", make, load if path is not None and path.is_file() else None)


def _fit(run: Run, cells: AnnData, added: str, key: str, asked: Asked, machine: Machine) -> None:
    """Fit one model, and keep it in a folder of its name."""
    folder = None if run.folder is None else run.folder / added

    def fit_and_save(checkpoint_dir: Path | None) -> None:
        model = tl.decompose(
            cells,
            target_key=key,
            use_rep=asked.features,
            key_added=added,
            group_key=asked.group,
            method=asked.method,
            use_neighbors=asked.use_neighbors,
            max_epochs=asked.max_epochs,
            seed=asked.seed,
            accelerator=machine.accelerator,
            devices=machine.devices,
            checkpoint_dir=checkpoint_dir,
        )
        if folder is not None:
            model.save(folder, overwrite=True)

    run.write_step(cells, added, fit_and_save, makes=folder)


def _write(data: AnnData | SpatialData, folder: Path, scores: pd.DataFrame, key: str, fitted: Sequence[str]) -> None:
    """Write the table, the scores and the figures."""
    cells = get_table(data, schema.TABLE)
    with replacing(folder / "scores.csv") as new:
        scores.to_csv(new, index=False)
    with replacing(folder / "abundance.png") as new:
        pl.abundance(data, keys=[key, *fitted], save=new)
    with replacing(folder / "abundance_scores.png") as new:
        pl.abundance_scores(scores.query("group == 'all'") if "group" in scores else scores, save=new)
    with replacing(folder / "colocalization.png") as new:
        pl.colocalization([tl.colocalization(cells, key=one) for one in (key, fitted[0])], save=new)
    with replacing(folder / "cells.h5ad") as new:
        cells.write_h5ad(new)
