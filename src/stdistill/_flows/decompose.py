"""Cell types of a slide from its H&E: from the bundle or the table to abundances, models, scores and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData

from stdistill import pl, pp, tl
from stdistill._runs.folder import CELLS_FILE, Run
from stdistill._runs.prepare import Machine, Source, name_encoders, read_slide, split
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._support.checks import check_key
from stdistill._support.files import replacing
from stdistill._support.reading import NO_H5AD, reading
from stdistill._table import schema
from stdistill._table.checks import get_table
from stdistill._table.graph import NEIGHBORS, has_graph
from stdistill._table.provenance.results import fitted_cells
from stdistill.encoders._registry import resolve
from stdistill.models.composition.arguments import Method
from stdistill.tl._cross_validate import ALL_GROUPS

RIDGE = "ridge_abundance"
"""``.obsm``: what ridge regression says, beside the networks."""
CROSS_VALIDATION = "cross_validation.csv"
LEFT_OUT = "cv"
"""Prefix of the keys of what is told of groups that were left out."""


class Asked(NamedTuple):
    """What is to be learned, from what, and how."""

    target: str
    features: Sequence[str]
    """Keys of ``.obsm``."""
    group: str | None
    library: str | None
    """Column of ``.obs`` of the slides, of a table of several."""
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
        run.check_input({f"encoder of {key}": name_encoders(each)})
        store = None if run.kept is None else run.kept / "features" / key
        embed = partial(pp.embed_he, slide, encoder=each, key_added=key, store=store, device=machine.device)
        run.step(key, partial(embed, devices=machine.devices if store else 1))
    return slide, keys


def read_table(path: Path, features: Sequence[str]) -> AnnData:
    """Read a table that has the features."""
    with reading(path, NO_H5AD):
        cells = ad.read_h5ad(path)
    for key in features:
        check_key(key, cells.obsm.keys(), "features in .obsm", argument="--features")
    return cells


def decompose_slide(run: Run, data: AnnData | SpatialData, asked: Asked, machine: Machine) -> pd.DataFrame:
    """Fit the model and ridge regression, write all to the folder of the run, and return the scores.

    With a group these are those of the groups that were left out, else those of the rows that were not fitted on.
    """
    cells = get_table(data, schema.TABLE)
    if not has_graph(cells) and (asked.use_neighbors or asked.target not in cells.obsm):
        run.step(NEIGHBORS, lambda: pp.neighborhoods(cells, library_key=asked.library))
    key = run.step(schema.ABUNDANCE, lambda: _find_target(cells, asked.target))
    run.check_input({**describe_slide(cells, counts=False), **describe_inputs(cells, [*asked.features, key])})
    left_out = None if asked.group is None else _leave_out(run, cells, key, asked, machine)
    if asked.method != "ridge":
        _fit(run, cells, schema.HE_ABUNDANCE, key, asked, machine)
    _fit(run, cells, RIDGE, key, asked._replace(method="ridge"), machine)
    fitted = [added for added in (schema.HE_ABUNDANCE, RIDGE) if added in cells.obsm]
    scores = left_out
    if scores is None:
        scores = tl.abundance_scores(cells, keys=fitted, reference_key=key, library_key=asked.library)
    if run.folder is not None:
        with replacing(run.folder / "scores.csv") as new:
            scores.to_csv(new, index=False)
        if left_out is None:
            _draw(_unseen(cells, fitted[0]), run.folder, scores, [key, *fitted], asked)
        else:
            maps = [f"{LEFT_OUT}_{method}" for method in dict.fromkeys([asked.method, "ridge"])]
            _draw(cells, run.folder, scores[scores["group"] == ALL_GROUPS], [key, *maps], asked)
        with replacing(run.folder / CELLS_FILE) as new:
            cells.write_h5ad(new)
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


def _arguments(key: str, asked: Asked, machine: Machine) -> dict[str, Any]:
    """Return what is fitted, and how, in the words of :func:`stdistill.tl.decompose`."""
    return {
        "target_key": key,
        "use_rep": asked.features,
        "group_key": asked.group,
        "library_key": asked.library,
        "method": asked.method,
        "use_neighbors": asked.use_neighbors,
        "max_epochs": asked.max_epochs,
        "seed": asked.seed,
        "accelerator": machine.accelerator,
        "devices": machine.devices,
    }


def _leave_out(run: Run, cells: AnnData, key: str, asked: Asked, machine: Machine) -> pd.DataFrame:
    """Cross-validate, and keep scores and maps."""
    kept: list[pd.DataFrame] = []
    path = None if run.kept is None else run.kept / CROSS_VALIDATION

    def validate(checkpoint_dir: Path | None) -> None:
        how = _arguments(key, asked, machine)
        kept.append(tl.cross_validate(cells, key_added=LEFT_OUT, checkpoint_dir=checkpoint_dir, **how))
        if run.folder is not None:
            with replacing(run.folder / CROSS_VALIDATION) as new:
                kept[0].to_csv(new, index=False)

    run.write_step(cells, LEFT_OUT, validate, makes=path)
    if kept:
        return kept[0]
    names = {"method": str, "group": str, "type": str}
    return pd.read_csv(str(path), dtype=names, keep_default_na=False, na_values=[""], float_precision="round_trip")


def _fit(run: Run, cells: AnnData, added: str, key: str, asked: Asked, machine: Machine) -> None:
    """Fit one model, and keep it in a folder of its name."""
    folder = None if run.folder is None else run.folder / added

    def fit_and_save(checkpoint_dir: Path | None) -> None:
        how = _arguments(key, asked, machine)
        model = tl.decompose(cells, key_added=added, checkpoint_dir=checkpoint_dir, **how)
        if folder is not None:
            model.save(folder, overwrite=True)

    run.write_step(cells, added, fit_and_save, makes=folder)


def _unseen(cells: AnnData, key: str) -> AnnData:
    """Choose the rows that were not fitted on, where there are some: the others flatter."""
    unseen = ~fitted_cells(cells, key)
    return cells[unseen] if unseen.any() else cells


def _draw(cells: AnnData, folder: Path, scores: pd.DataFrame, keys: Sequence[str], asked: Asked) -> None:
    """Draw the truth, which is the first of the keys, and what was predicted; of several slides one is mapped."""
    one = cells
    if asked.library is not None:
        one = cells[cells.obs[asked.library] == cells.obs[asked.library].iloc[0]]
    with replacing(folder / "abundance.png") as new:
        pl.abundance(one, keys=keys, save=new)
    with replacing(folder / "abundance_scores.png") as new:
        pl.abundance_scores(scores, save=new)
    maps = [tl.colocalization(cells, key=key, library_key=asked.library) for key in keys[:2]]
    with replacing(folder / "colocalization.png") as new:
        pl.colocalization(maps, save=new)
