"""The steps that all runs share: a slide is read, described and prepared, and models are fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anndata import AnnData

from stdistill._runs.folder import Run
from stdistill._runs.results import describe_inputs, describe_slide
from stdistill._slide.plan import CROP_PX
from stdistill._table import schema
from stdistill._table.checks import get_split, get_table
from stdistill._table.graph import NEIGHBORS
from stdistill._table.records import read_record
from stdistill.encoders._encoder import UNKNOWN_REVISION
from stdistill.encoders._registry import resolve
from stdistill.pp import embed_expression, embed_he, neighborhoods, read_xenium, split_strips

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.encoders import Encoder
    from stdistill.models.saved import SavedModel


PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""What Lightning calls the arithmetic of the encoders."""


class Training(NamedTuple):
    """How to train: `None` for what each function does by default."""

    expression_epochs: int | None = None
    teacher_epochs: int | None = None
    student_epochs: int | None = None
    seed: int = 0
    size: str | None = None
    """Of the niche networks."""
    batch_size: int | None = None
    """Cells per step of the niche models."""
    precision: str | None = None
    """Of the niche models, one of `PRECISIONS`."""

    @property
    def parameters(self) -> dict[str, Any]:
        """By which a run is told from others: of the last three those that were chosen."""
        chosen = {name: getattr(self, name) for name in ("size", "batch_size", "precision")}
        kept = {name: value for name, value in self._asdict().items() if name not in chosen}
        return kept | {name: value for name, value in chosen.items() if value is not None}


class Machine(NamedTuple):
    """Where to compute, which changes no result but by rounding."""

    device: str | None = None
    """``"cpu"``, ``"cuda"`` or ``"mps"``; `None`: the fastest there is."""
    devices: int = 1

    @property
    def accelerator(self) -> str:
        """The device in Lightning's words."""
        return self.device or "auto"


class Source(NamedTuple):
    """A slide on disk; `None` for what is found in the bundle."""

    bundle: Path
    he_image: Path | None = None
    he_alignment: Path | None = None
    cell_types: Path | None = None


def name_encoders(encoders: Sequence[Encoder]) -> str:
    """Name encoders with their revisions, by which runs are told apart."""
    return "+".join(f"{one.name} {one.revision or UNKNOWN_REVISION}" for one in encoders)


def read_slide(run: Run, source: Source, *, step: str = schema.TABLE) -> SpatialData:
    """Read a slide with its H&E."""
    return run.step(step, lambda: _read(source))


def split(run: Run, data: AnnData | SpatialData, table_key: str = schema.TABLE, *, step: str = schema.SPLIT) -> None:
    """Hold out a strip for testing, unless there is a split; crops of the features that are there stay disjoint."""
    cells = get_table(data, table_key)
    if get_split(cells, schema.SPLIT) is not None:
        return
    embedded = read_record(cells, "embed_he")
    crop_px = int(embedded.get("seen_px", embedded.get("crop_px", CROP_PX)))
    mpp = None if embedded.get("native", True) else float(embedded["mpp"])
    try:
        run.step(step, lambda: split_strips(data, crop_px=crop_px, mpp=mpp, table_key=table_key))
    except ValueError as error:
        msg = f"There is no split in .obs, and none can be made. {error} Make one with sd.pp.split_strips."
        raise ValueError(msg) from error


def prepare(
    run: Run,
    data: AnnData | SpatialData,
    training: Training,
    *,
    machine: Machine,
    encoder: str = "auto",
    n_augmented: int = 0,
    table_key: str = schema.TABLE,
) -> AnnData:
    """Make what niche models are fitted to, unless it is there: H&E features, neighbourhoods, expression latent."""
    cells = get_table(data, table_key)
    run.check_input(describe_slide(cells, counts=schema.EXPRESSION_LATENT not in cells.obsm))
    if schema.HE_FEATURES not in cells.obsm:
        # Known and checked before anything is computed: the store of other features would be replaced.
        encoders = resolve(encoder)
        run.check_input({"encoder": name_encoders(encoders)})
        store = None if run.kept is None else run.kept / "features"  # from which the step goes on by itself
        run.step(
            schema.HE_FEATURES,
            lambda: embed_he(
                data,
                encoder=encoders,
                n_augmented=n_augmented,
                device=machine.device,
                devices=machine.devices if store else 1,
                store=store,
                table_key=table_key,
            ),
        )
    if NEIGHBORS not in cells.uns:
        run.step(NEIGHBORS, lambda: neighborhoods(cells))
    if schema.EXPRESSION_LATENT not in cells.obsm:
        run.write_step(
            cells,
            schema.EXPRESSION_LATENT,
            lambda _: embed_expression(
                cells,
                max_epochs=training.expression_epochs,
                seed=training.seed,
                accelerator=machine.accelerator,
                devices=1,
            ),
        )
    run.check_input(describe_inputs(cells))
    return cells


def fit_model(
    run: Run,
    cells: AnnData,
    key_added: str,
    fit: Callable[..., SavedModel],
    *,
    training: Training,
    machine: Machine,
    **arguments: Any,
) -> None:
    """Fit a niche model with `fit`, a function such as :func:`stdistill.tl.nolan`, and keep it."""
    chosen = {
        "size": training.size,
        "batch_size": training.batch_size,
        "precision": None if training.precision is None else PRECISIONS[training.precision],
    }
    arguments |= {name: value for name, value in chosen.items() if value is not None}
    arguments |= {"seed": training.seed, "accelerator": machine.accelerator, "devices": machine.devices}

    def fit_and_save(checkpoint_dir: Path | None) -> None:
        model = fit(cells, key_added=key_added, checkpoint_dir=checkpoint_dir, **arguments)
        if run.folder is not None:
            model.save(run.folder / key_added, overwrite=True)

    run.write_step(cells, key_added, fit_and_save, makes=None if run.folder is None else run.folder / key_added)


def _read(source: Source) -> SpatialData:
    slide = read_xenium(
        source.bundle, he_image=source.he_image, he_alignment=source.he_alignment, cell_groups=source.cell_types
    )
    if schema.HE_IMAGE not in slide.images:
        msg = f"There is no H&E in {source.bundle}: name it with --he-image, and its alignment with --he-alignment."
        raise FileNotFoundError(msg)
    return slide
