"""H&E and expression of slides in one space: from the bundles to tiles, models, scores and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anndata as ad
import pandas as pd
from anndata import AnnData

from stdistill import pl, pp, tl
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Source, name_encoders, read_slide, split
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._support.files import replacing
from stdistill._table import schema
from stdistill._table.checks import get_split
from stdistill._table.fitting.alignment import CELLS
from stdistill.encoders._registry import resolve
from stdistill.models import AlignmentModel

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.encoders import Encoder
    from stdistill.models.alignment.arguments import Edges, Scale


class Asked(NamedTuple):
    """What tiles are, what is seen in them, and how they are aligned."""

    encoder: str
    tile_px: int
    mpp: float
    min_cells: int
    scales: Sequence[Scale]
    edges: Edges
    expression_epochs: int | None
    max_epochs: int | None
    seed: int


class _Slide(NamedTuple):
    """One of the slides of a run."""

    data: SpatialData
    suffix: str
    """Of the names of its steps and files: none of an only slide."""

    @property
    def cells(self) -> AnnData:
        """Its table of cells."""
        return self.data.tables[schema.TABLE]

    @property
    def tiles(self) -> AnnData:
        """Its table of tiles, when they are laid."""
        return self.data.tables[schema.TILES]


def align_slides(
    run: Run, sources: Sequence[Source], asked: Asked, machine: Machine
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Align the tiles of all slides, write all to the folder of the run, and return the recall and the probe."""
    if run.kept is None:
        msg = "An alignment is kept in a folder: name one for the run."
        raise ValueError(msg)
    suffixes = [""] if len(sources) == 1 else [f"_{number}" for number in range(len(sources))]
    slides = [_read(run, *each, asked) for each in zip(sources, suffixes, strict=True)]
    _check_tested(slides)
    encoders = resolve(asked.encoder)
    # Known and checked before anything is computed: the stores of other features would be replaced.
    run.check_input({"encoder": name_encoders(encoders)})
    for one in slides:
        run.check_input(_suffixed(one, describe_slide(one.cells, counts=True)))
    expression = run.kept / schema.EXPRESSION_LATENT
    run.step(schema.EXPRESSION_LATENT, lambda: _embed_expression(slides, expression, asked, machine))
    for one in slides:
        _embed_tiles(run, one, encoders, run.kept / f"features{one.suffix}", machine)
    model = _align(run, slides, run.kept, asked, machine)
    recall = tl.retrieval([one.data for one in slides], seed=asked.seed)
    probe = tl.expression_probe([one.data for one in slides])
    if run.folder is not None:
        _write(slides, run.folder, model, {"retrieval.csv": recall, "expression_probe.csv": probe})
    return recall, probe


def _read(run: Run, source: Source, suffix: str, asked: Asked) -> _Slide:
    """Read a slide, hold out a strip of it, and lay its tiles."""
    slide = read_slide(run, source, step=f"{schema.TABLE}{suffix}")
    split(run, slide, step=f"{schema.SPLIT}{suffix}")
    lay = partial(pp.tiles, slide, tile_px=asked.tile_px, mpp=asked.mpp, min_cells=asked.min_cells)
    run.step(f"{schema.TILES}{suffix}", lay)
    return _Slide(slide, suffix)


def _check_tested(slides: Sequence[_Slide]) -> None:
    """Raise before anything is fitted when no tile would be left to measure it by."""
    splits = [get_split(one.tiles, schema.SPLIT) for one in slides]
    if not any(split is not None and (split == schema.TEST).any() for split in splits):
        n_tiles = sum(one.tiles.n_obs for one in slides)
        msg = (
            f"None of the {n_tiles} tiles lies in the strip that is held out for testing. Lay smaller tiles "
            "(--tile-px, --mpp), ask for fewer cells in each (--min-cells), or give larger slides."
        )
        raise ValueError(msg)


def _suffixed(one: _Slide, facts: dict[str, object]) -> dict[str, object]:
    """Name what a slide is told by as of this slide."""
    return {f"{name}{one.suffix}": fact for name, fact in facts.items()}


def _embed_expression(slides: Sequence[_Slide], folder: Path, asked: Asked, machine: Machine) -> None:
    """Train one scVI on the training cells of all slides, unless it is there, and apply it to each of them."""
    tables = [one.cells for one in slides]
    if not folder.exists():
        joined = tables[0] if len(tables) == 1 else _concatenate(tables)
        pp.embed_expression(
            joined,
            library_key="slide" if len(tables) > 1 else None,
            max_epochs=asked.expression_epochs,
            seed=asked.seed,
            accelerator=machine.accelerator,
            devices=1,
            save=folder,
        )
    for table in tables:
        pp.embed_expression(table, model=folder)


def _concatenate(tables: Sequence[AnnData]) -> AnnData:
    """Put the tables together, with the genes that all of them have."""
    joined = ad.concat(dict(enumerate(tables)), join="inner", label="slide", index_unique="-")
    if not joined.n_vars:
        msg = f"The slides have no gene in common; they have {[table.n_vars for table in tables]} genes."
        raise ValueError(msg)
    joined.obs["slide"] = joined.obs["slide"].astype(str)
    return joined


def _embed_tiles(run: Run, one: _Slide, encoders: Sequence[Encoder], store: Path, machine: Machine) -> None:
    """Compute the features of a slide's tiles; the step goes on from the store by itself."""
    embed = partial(pp.embed_tiles, one.data, encoder=encoders, store=store)
    run.step(f"{schema.HE_FEATURES}{one.suffix}", partial(embed, device=machine.device, devices=machine.devices))
    facts = describe_inputs(one.cells, [schema.EXPRESSION_LATENT])
    features = describe_inputs(one.tiles, [f"{schema.HE_FEATURES}_{scale}" for scale in schema.SCALES])
    run.check_input(_suffixed(one, {**facts, **{f"{name} of tiles": fact for name, fact in features.items()}}))


def _align(run: Run, slides: Sequence[_Slide], kept: Path, asked: Asked, machine: Machine) -> AlignmentModel:
    """Fit the alignment, and keep it with what it writes to the tables."""
    folder = kept / schema.ALIGNED
    results = {
        f"{schema.ALIGNED}_{name}{one.suffix}": (table, key)
        for one in slides
        for table, key, name in ((one.tiles, schema.ALIGNED, schema.TILES), (one.cells, CELLS, "cells"))
    }
    fitted: list[AlignmentModel] = []

    def fit_and_save(checkpoint_dir: Path | None) -> None:
        model = tl.align(
            [one.data for one in slides],
            scales=asked.scales,
            edges=asked.edges,
            max_epochs=asked.max_epochs,
            seed=asked.seed,
            accelerator=machine.accelerator,
            devices=machine.devices,
            checkpoint_dir=checkpoint_dir,
        )
        if run.folder is not None:
            model.save(folder, overwrite=True)
        fitted.append(model)

    run.write_tables(schema.ALIGNED, results, fit_and_save, makes=folder)
    return fitted[0] if fitted else AlignmentModel.load(folder)


def _write(slides: Sequence[_Slide], folder: Path, model: AlignmentModel, scores: dict[str, pd.DataFrame]) -> None:
    """Write scores, figures and tables."""
    for name, frame in scores.items():
        with replacing(folder / name) as new:
            frame.to_csv(new, index=False)
    with replacing(folder / "training.png") as new:
        pl.training(model, save=new)
    with replacing(folder / "retrieval.png") as new:
        pl.retrieval([one.data for one in slides], save=new)
    for one in slides:
        with replacing(folder / f"tiles{one.suffix}.png") as new:
            pl.tiles(one.data, save=new)
        for name, table in (("tiles", one.tiles), ("cells", one.cells)):
            with replacing(folder / f"{name}{one.suffix}.h5ad") as new:
                table.write_h5ad(new)
