"""What a niche model that was fitted writes to its tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats, Mask
from stdistill._support.checks import check_integer, check_name
from stdistill._support.warn import warn
from stdistill._table.checks import find_split_key
from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.origin import Origin, images_of, images_of_training
from stdistill._table.fitting.targets import Targets
from stdistill._table.fitting.trust import (
    FEWEST,
    calibrate,
    describe_features,
    measure_agreement,
    measure_calibration,
    measure_ood,
)
from stdistill._table.libraries import find_library_key
from stdistill._table.marks.cells import mark_cells
from stdistill._table.niches import write_niches
from stdistill._table.provenance.results import add_inherited, stands_on
from stdistill._table.records import read_record, write_record

if TYPE_CHECKING:
    from anndata import AnnData

    from stdistill._training.arguments import Standardization
    from stdistill.models import NicheModel
    from stdistill.models.niche.arguments import NicheArguments
    from stdistill.models.niche.fitting import Fitted

logger = logging.getLogger("stdistill")

RECORDED = ("size", "batch_size", "learning_rate", "weight_decay", "max_epochs", "seed")
"""Arguments that the card and the record keep; the others follow from them or change no result."""
KINDS = {"nolan": "self-distillation", "distill": "distillation"}


class Naming(NamedTuple):
    """Under which names a model reads and writes."""

    step: str
    """Of the function, such as ``"nolan"``."""
    key_added: str
    use_rep: str
    niches: Sequence[str]
    colors: Sequence[str]


def check_niches(k: int, key_added: str) -> None:
    """Raise when the number of niches or the name of what is written is out of range."""
    check_integer(k, "k", minimum=1)
    check_name(key_added, "key_added")


def check_ks(ks: Iterable[int]) -> tuple[int, ...]:
    """Return the numbers of niches, each once, or raise unless there are some of at least 2."""
    if isinstance(ks, str) or not isinstance(ks, Iterable):
        msg = f"ks must be several integers, found {ks!r} ({type(ks).__name__}). Example: ks=(10, 20)."
        raise TypeError(msg)
    numbers = list(ks)
    for k in numbers:
        check_integer(k, "ks", minimum=2)
    if not numbers:
        msg = "ks is empty: name the numbers of niches, for example ks=(10, 20)."
        raise ValueError(msg)
    return tuple(dict.fromkeys(map(int, numbers)))


def write_model(
    fitted: Fitted,
    inputs: NicheInputs,
    naming: Naming,
    *,
    training: npt.NDArray[np.bool_],
    size: dict[str, Any],
    arguments: NicheArguments,
    origin: Origin,
    split_key: str | None,
    library_key: str | None,
    teacher: str | None = None,
    targets: Targets | None = None,
    standardize: Standardization = "training",
    **settings: Any,
) -> tuple[NicheModel, npt.NDArray[np.integer[Any]]]:
    """Give the network its card, and write what it says of all cells of the tables.

    Parameters
    ----------
    fitted, inputs, naming
        The trained network, the cells and the names.
    training
        (n,), the cells that it was trained on.
    size, arguments
        Arguments of the network, and those that it was trained by.
    origin
        Where its features come from.
    split_key, library_key
        Columns of ``.obs`` that the cells were divided by, as users give them, for the record.
    teacher, targets
        What a student was taught by: its key, and what it says of each cell.
    standardize
        By what cells its features were brought to one mean and spread.
    settings
        Of the objective.

    Returns
    -------
    The model, and the number of training cells in each niche (k,).
    """
    from stdistill.models import NicheModel
    from stdistill.models.niche.card import ModelCard

    k = len(naming.niches)
    parameters = {name: value for name, value in arguments.items() if name in RECORDED}
    record = {**settings, **parameters, **fitted.training}
    trained_on = inputs.divide(training)
    card = ModelCard(
        kind=KINDS[naming.step],
        k=k,
        feature_key=naming.use_rep,
        n_features=inputs.features.shape[1],
        radius_um=inputs.radius_um,
        niches=list(naming.niches),
        colors=list(naming.colors),
        network=size,
        standardize=standardize,
        max_tokens=arguments["max_tokens"],
        teacher=teacher,
        temperature=fitted.temperature,
        n_neighbors=float(np.diff(inputs.indptr)[training].mean()),
        quality=_quality_of(inputs.tables, naming.use_rep) if targets is not None else None,
        images=images_of_training(inputs.tables, [naming.use_rep], trained_on),
        n_slides=len(np.unique(inputs.libraries[training])),
        training=record,
        versions={package: version(package) for package in ("stdistill", "torch", "lightning")},
        **origin,
    )
    model = NicheModel(fitted.network, card, fitted.history)
    logits = _predict_together(model, inputs, arguments)
    if targets is not None:
        record |= _let_judge(model, fitted, inputs, logits, targets, training, arguments["seed"])
    ood = None
    if model.usual is not None:
        seen = inputs.neighborhoods(max_tokens=None, standardize=standardize)
        ood = inputs.divide(measure_ood(model.usual, inputs, seen))
    fitted_cells = [
        add_inherited(table, cells, naming.use_rep, teacher)
        for table, cells in zip(inputs.tables, trained_on, strict=True)
    ]
    model.seen = np.unique(mark_cells(inputs.features, inputs.centers)[np.concatenate(fitted_cells)])
    sizes = np.bincount(logits[training].argmax(axis=1), minlength=k)
    model.card = replace(model.card, sizes=sizes.tolist())
    model.known_sha256 = sha256 = model.sha256
    write_predicted(
        inputs,
        naming,
        logits,
        model=sha256,
        training=training,
        fitted=fitted_cells,
        confidence_temperature=model.card.confidence_temperature,
        ood=ood,
        teacher=teacher,
        split_key=split_key,
        library_key=library_key,
        temperature=fitted.temperature,
        standardize=standardize,
        **size,
        **record,
    )
    logger.info(
        'Trained on %d cells; wrote .obs["%s_niche"], its logits and its confidence.',
        fitted.training["n_training_cells"],
        naming.key_added,
    )
    return model, sizes


def write_predicted(
    inputs: NicheInputs,
    naming: Naming,
    logits: npt.NDArray[np.float32],
    *,
    model: str,
    training: Mask,
    fitted: Sequence[Mask],
    teacher: str | None,
    split_key: str | None,
    library_key: str | None,
    confidence_temperature: float = 1.0,
    ood: Sequence[npt.NDArray[np.float32] | None] | None = None,
    **settings: Any,
) -> None:
    """Write what a model of niches, whatever its kind, says of all cells, and the record of its step.

    Parameters
    ----------
    inputs, naming
        The cells, and the names.
    logits
        (n, k), NaN without a prediction.
    model
        Fingerprint of the model.
    training
        (n,), the cells that it was fitted on.
    fitted
        Of each table the cells that it, or what it stands on, was fitted on.
    teacher, split_key, library_key
        As of :func:`write_model`.
    confidence_temperature
        What logits are divided by for the confidence.
    ood
        Of each table how unusual the features of each cell are, where that is known.
    settings
        For the record.
    """
    sizes = np.bincount(logits[training].argmax(axis=1), minlength=len(naming.niches))
    unusual = [None] * len(inputs.tables) if ood is None else ood
    for table, part, cells, of_table in zip(inputs.tables, inputs.divide(logits), fitted, unusual, strict=True):
        found = stands_on(table, naming.use_rep, graph=True, teacher_key=teacher)
        fingerprint = write_niches(
            table,
            naming.key_added,
            part,
            niches=naming.niches,
            colors=naming.colors,
            fitted=cells,
            model=model,
            temperature=confidence_temperature,
            ood=of_table,
        )
        write_record(
            table,
            naming.step,
            k=len(naming.niches),
            use_rep=naming.use_rep,
            key_added=naming.key_added,
            model_sha256=model,
            fingerprint=fingerprint,
            n_cells=table.n_obs,
            **found,
            teacher_key=teacher,
            radius_um=inputs.radius_um,
            occupied_niches=int((sizes > 0).sum()),
            **settings,
            split_key=find_split_key(table, split_key),
            library_key=find_library_key(table, library_key),
        )


def _quality_of(tables: Sequence[AnnData], use_rep: str) -> list[dict[str, Any]] | None:
    """Return what other slides are compared with of the quality of these, as JSON can hold it."""
    found = [(record, images_of(table, use_rep)) for table in tables if (record := read_record(table, "quality"))]
    records = [record for record, images in found if not images or record.get("images", images[0]) in images]
    if len(records) < len(found):
        warn(
            f"The quality that is recorded is of another image than .obsm[{use_rep!r}] in {len(found) - len(records)} "
            f"of {len(tables)} tables: other slides are not compared with it. Run sd.pp.quality again before training."
        )
    kept: list[dict[str, Any]] = [
        {name: np.asarray(record[name]).tolist() for name in ("mpp", "focus_limit", "stain_vectors") if name in record}
        for record in records
    ]
    return kept or None


def _let_judge(
    model: NicheModel,
    fitted: Fitted,
    inputs: NicheInputs,
    logits: Floats,
    targets: Targets,
    training: Mask,
    seed: int,
) -> dict[str, float]:
    """Give a student what its confidence and its slides are judged by; return what the test cells say of it."""
    truth = targets.labels
    calibration = calibrate(logits, truth, fitted.held_out)
    test = inputs.test & ~np.isnan(logits[:, 0])
    agreement = measure_agreement(logits, truth, test & targets.known, fitted.held_out)
    model.card = replace(model.card, calibration=calibration, agreement=agreement)
    known, unseen = (training, test) if test.sum() >= FEWEST else _hold_out(inputs, training, seed)
    how = model.card.standardize
    neighborhoods = inputs.neighborhoods(max_tokens=None, with_augmented=True, standardize=how)
    parts = inputs.neighborhoods_of_parts(neighborhoods.known) if how == "slide" else []
    model.usual = describe_features(neighborhoods, np.flatnonzero(known), np.flatnonzero(unseen), seed, parts)
    return measure_calibration(logits, truth, test & targets.known, model.card.confidence_temperature)


def _hold_out(inputs: NicheInputs, training: Mask, seed: int) -> tuple[Mask, Mask]:
    """Divide training cells into some to describe features by, and some that say what is usual; the student saw both.

    What is usual are distances of features in a Gaussian, which does not know what the student learned.
    """
    from stdistill._training.holdout import hold_out_blocks

    graph = inputs.indptr, inputs.indices
    return hold_out_blocks(inputs.centers, inputs.libraries, *graph, training, radius_um=inputs.radius_um, seed=seed)


def _predict_together(model: NicheModel, inputs: NicheInputs, arguments: NicheArguments) -> Floats:
    """Predict where the model was trained; of several processes each predicts a part, and gets all of it."""
    from stdistill._support.ranks import is_first_process
    from stdistill._training.devices import from_all_ranks, n_devices, share_of_rank

    cells = np.flatnonzero(inputs.eligible)
    together = n_devices(arguments["devices"]) * arguments["num_nodes"] > 1
    mine = share_of_rank(cells) if together else cells
    logits: Floats = model.predict(
        inputs.features,
        inputs.indptr,
        inputs.indices,
        inputs.centers,
        cells=mine,
        slides=inputs.libraries,
        device=arguments["accelerator"],
        progress_bar=arguments["progress_bar"] and is_first_process(),
    )
    if together:
        for rows, part in from_all_ranks((mine, logits[mine])):
            logits[rows] = part
    return logits
