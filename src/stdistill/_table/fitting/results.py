"""What :func:`stdistill.tl.nolan` and :func:`stdistill.tl.distill` have in common, before and after the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._table.checks import check_integer, check_name, check_positive
from stdistill._table.fitting.inputs import NicheInputs
from stdistill._table.fitting.origin import Origin
from stdistill._table.niches import write_niches
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from stdistill.models import NicheModel
    from stdistill.models.niche.fitting import Fitted

logger = logging.getLogger("stdistill")

KINDS = {"nolan": "self-distillation", "distill": "distillation"}


class Naming(NamedTuple):
    """Under which names a model reads and writes."""

    step: str
    """``"nolan"`` or ``"distill"``."""
    key_added: str
    use_rep: str
    niches: Sequence[str]
    colors: Sequence[str]


def check_training(*, k: int, key_added: str, batch_size: int, learning_rate: float, max_steps: int, seed: int) -> None:
    """Raise when an argument that both have is out of range."""
    check_integer(k, "k", minimum=1)
    check_name(key_added, "key_added")
    check_integer(batch_size, "batch_size", minimum=1)
    check_positive(learning_rate, "learning_rate")
    check_integer(max_steps, "max_steps", minimum=-1)
    if max_steps == 0:
        msg = "Expected max_steps to be at least 1, or -1 for no limit, found 0."
        raise ValueError(msg)
    check_integer(seed, "seed", minimum=0, maximum=2**32 - 1)  # also scikit-learn's


def check_counts(**counts: int | None) -> None:
    """Raise unless each of the numbers that is given is at least one."""
    for name, value in counts.items():
        if value is not None:
            check_integer(value, name, minimum=1)


def default_epochs(n_training_cells: int, cells_seen: int, bounds: tuple[int, int]) -> int:
    """Epochs that see `cells_seen` cells together, within bounds."""
    return int(np.clip(round(cells_seen / n_training_cells), *bounds))


def write_model(
    fitted: Fitted,
    inputs: NicheInputs,
    naming: Naming,
    *,
    training: npt.NDArray[np.bool_],
    network: dict[str, Any],
    max_tokens: int | None,
    teacher: str | None = None,
    origin: Origin,
    parameters: dict[str, Any],
    keys: dict[str, Any],
) -> tuple[NicheModel, npt.NDArray[np.integer[Any]]]:
    """Give the network its card, and write what it says of all cells of the tables.

    Parameters
    ----------
    fitted, inputs, naming
        The trained network, the cells and the names.
    training
        (n,), the cells that it was trained on.
    network, max_tokens, teacher, origin
        Entries of the card.
    parameters
        Of the training, for the card and the record.
    keys
        Columns of ``.obs`` that the cells were divided by, for the record.

    Returns
    -------
    The model, and the number of training cells in each niche (k,).
    """
    from stdistill.models import NicheModel
    from stdistill.models.niche.card import ModelCard

    k = len(naming.niches)
    record = {**parameters, **fitted.training}
    card = ModelCard(
        kind=KINDS[naming.step],
        k=k,
        feature_key=naming.use_rep,
        n_features=inputs.features.shape[1],
        radius_um=inputs.radius_um,
        niches=list(naming.niches),
        colors=list(naming.colors),
        network=network,
        max_tokens=max_tokens,
        teacher=teacher,
        temperature=fitted.temperature,
        training=record,
        versions={package: version(package) for package in ("stdistill", "torch", "lightning")},
        **origin,
    )
    model = NicheModel(fitted.network, card, fitted.history)
    logits = model.predict(
        inputs.features, inputs.indptr, inputs.indices, inputs.centers, cells=np.flatnonzero(inputs.eligible)
    )
    sizes = np.bincount(logits[training].argmax(axis=1), minlength=k)
    for table, part in zip(inputs.tables, inputs.divide(logits), strict=True):
        write_niches(table, naming.key_added, part, niches=card.niches, colors=card.colors)
        write_record(
            table,
            naming.step,
            k=k,
            use_rep=naming.use_rep,
            key_added=naming.key_added,
            teacher_key=teacher,
            radius_um=inputs.radius_um,
            temperature=fitted.temperature,
            occupied_niches=int((sizes > 0).sum()),
            **network,
            **record,
            **keys,
        )
    logger.info(
        'Trained on %d cells; wrote .obs["%s_niche"], its logits and its confidence.',
        fitted.training["n_training_cells"],
        naming.key_added,
    )
    return model, sizes
