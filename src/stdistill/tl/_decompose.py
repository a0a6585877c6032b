"""Abundances of cell types from H&E features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from stdistill._runs.composition import check_keys, name_reps, prepare
from stdistill._support.arguments import takes
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.abundances import abundances_fingerprint
from stdistill._table.fitting.composition import (
    CompositionInputs,
    Taught,
    number_groups,
    write_composition,
)
from stdistill._table.fitting.inputs import get_tables
from stdistill._table.fitting.origin import Origin, images_of_training
from stdistill._table.marks.cells import mark_cells
from stdistill._table.provenance.results import add_inherited
from stdistill._training.arguments import TrainingArguments
from stdistill.models.composition.arguments import (
    COMPOSITION_DEFAULTS,
    CompositionArguments,
    FittingArguments,
    check_fitting,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models import CompositionModel
    from stdistill.models.composition.fit import FittedComposition

logger = logging.getLogger("stdistill")

RECORDED = (
    "mae_weight",
    "pearson_weight",
    "pearson_axis",
    "patience",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "seed",
)
"""Arguments of networks that the card and the record keep."""


@takes(CompositionArguments, TrainingArguments, defaults=COMPOSITION_DEFAULTS)
def decompose(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    target_key: str = schema.ABUNDANCE,
    use_rep: str | Sequence[str] = schema.HE_FEATURES,
    key_added: str = schema.HE_ABUNDANCE,
    group_key: str | None = None,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
    **arguments: Unpack[FittingArguments],
) -> CompositionModel:
    """Learn to tell from H&E features how much of each cell type is in a place.

    A place is a row of the table: a spot, or a cell with its neighbourhood. The abundances to learn are written by
    :func:`stdistill.pp.abundances`. A few networks, each trained on all rows for as long as was best for another group
    when that was held out, and a ridge regression are averaged. Always look at ``method="ridge"`` alone beside them,
    and at :func:`stdistill.tl.cross_validate`.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with features and abundances; or a list of them, one per slide.
    target_key
        Key of ``.obsm`` of the abundances; a row with a NaN is not trained on.
    use_rep
        Key of ``.obsm`` of the features, or several, of one encoder each: they are put side by side. A row with a NaN
        in one of them has no features.
    key_added
        Key of ``.obsm`` of what is written.
    group_key
        Column of ``.obs`` of the groups that are held out in turn, such as patients; by default the slides, and blocks
        of tissue where there is one.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; cells of the buffer get no
        prediction, and those of the test are not trained on. Without, or with `None`, all rows are trained on.
    library_key
        Column of ``.obs`` that names each row's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    table_key
        Name of the table of a SpatialData.
    **arguments

    Returns
    -------
    The model. Written to the table:

    ``.obsm[key_added]``
        (n, types) float32, 0 or more: the mean over the networks; NaN for rows without a prediction.
    ``.obsm["{key_added}_std"]``
        (n, types) float32, their standard deviation, where there are several.
    ``.obs["{key_added}_fitted"]``
        Boolean, the rows that the model was fitted on.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the model.
    ``.obs["{key_added}_mark"]``
        A number for each row, by which rows that were moved or edited are told.
    ``.uns["stdistill"]["decompose"]``
        The parameters, ``types``, ``training_mean`` (of each type), ``n_training_cells``, ``n_epochs`` of each network
        or the ``penalty`` of the regression, and fingerprints of ``features``, ``graph`` and model (``model_sha256``).

    Raises
    ------
    KeyError
        When the table, features, abundances or a column is not there.
    ValueError
        When the tables have other types, encoders or radii, or abundances of other sources, abundances are negative or
        infinite or (for ``output="softmax"``) do not sum to 1, there is nothing to learn or to hold out, or a number is
        out of range.
    TypeError
        When features or abundances are no dense array of numbers.

    Notes
    -----
    Features, network and loss: Sun, Zhu and Qiu 2025, sections 2.1 and 2.2. The paper states neither the width, nor the
    weights and the axis of the loss, nor the optimiser, nor when to stop: all of that is our choice, as are the scale
    of the targets, that groups are held out, that all rows are learned from in the end, averaging, the regression, and
    the neighbourhood. Training lasts for epochs that see 100,000 rows together, at least 5 and at most 200, unless it
    stops before.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((200, 1)), obsm={"spatial": rng.uniform(0, 900, (200, 2))})
    >>> types = pd.DataFrame(rng.random((200, 2)), columns=["B cell", "T cell"], index=adata.obs_names)
    >>> adata.obsm["types"] = types
    >>> adata.obsm["X_he"] = np.c_[types, rng.normal(size=(200, 4))].astype("float16")
    >>> sd.pp.abundances(adata, obsm_key="types")
    >>> adata.obs["section"] = np.repeat(["a", "b"], 100)
    >>> model = sd.tl.decompose(adata, group_key="section", max_epochs=2, progress_bar=False)
    >>> adata.obsm["he_abundance"].shape
    (200, 2)
    """
    check_fitting(arguments)
    check_name(key_added, "key_added")
    reps = name_reps(use_rep)
    tables = get_tables(data, table_key)
    check_keys(tables, [key_added], target_key, reps)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    inputs, taught, origins = prepare(tables, target_key, reps, arguments, **keys)
    training = inputs.training & inputs.rows.known & taught.known
    if not training.any():
        msg = (
            f"No row can be trained on: {inputs.training.sum()} are training rows, of which "
            f"{(inputs.training & inputs.rows.known).sum()} have features and "
            f"{(inputs.training & taught.known).sum()} abundances."
        )
        raise ValueError(msg)
    groupings = [inputs.libraries] if group_key is None else [number_groups(tables, group_key)[0], inputs.libraries]
    from stdistill.models.composition.fit import fit_composition

    rows = inputs.seen(arguments["standardize"])
    fitted = fit_composition(
        rows, taught.values, training, groupings, lambda: inputs.tissue(reps, target_key), arguments
    )
    trained = [
        np.logical_or.reduce([add_inherited(table, rows, rep) for rep in reps])
        for table, rows in zip(tables, inputs.divide(training), strict=True)
    ]
    model = build_model(fitted, inputs, taught, reps, origins, arguments, target_key=target_key, trained=trained)
    places = np.flatnonzero(inputs.eligible)
    mean, spread = model.predict(inputs.rows, places=places, slides=inputs.libraries, device=arguments["accelerator"])
    parts = zip(tables, inputs.divide(mean), inputs.divide(spread), trained, strict=True)
    for table, own_mean, own_spread, cells in parts:
        write_composition(
            table,
            "decompose",
            key_added,
            own_mean,
            own_spread,
            model,
            use_rep=reps,
            fitted=cells,
            group_key=group_key,
            standardize=model.card.standardize,
            target=abundances_fingerprint(table, target_key),
            **model.card.network,
            **model.card.training,
            **keys,
        )
    logger.info('Trained on %d rows; wrote .obsm["%s"]: %d types.', training.sum(), key_added, len(taught.types))
    return model


def build_model(
    fitted: FittedComposition,
    inputs: CompositionInputs,
    taught: Taught,
    reps: Sequence[str],
    origins: Sequence[Origin],
    arguments: FittingArguments,
    *,
    target_key: str,
    trained: Sequence[Any],
) -> CompositionModel:
    """Give what was fitted its card, and let it remember its rows."""
    from stdistill.models import CompositionCard, CompositionModel
    from stdistill.models.feature_card import FeatureCard

    features = [
        FeatureCard(rep, part.shape[1], **origin).entries()
        for rep, part, origin in zip(reps, inputs.rows.features, origins, strict=True)
    ]
    method = arguments["method"]
    recorded = RECORDED if method == "mlp" else ("seed",)
    kept = {name: value for name, value in arguments.items() if name in recorded}
    card = CompositionCard(
        method=method,
        types=taught.types,
        features=features,
        radius_um=inputs.radius_um,
        network=fitted.size,
        n_members=len(fitted.members),
        target_key=target_key,
        training_mean=fitted.members[0].target_mean.tolist(),
        images=images_of_training(inputs.tables, reps, trained),
        standardize=arguments["standardize"],
        training={**kept, **fitted.training},
        versions={package: version(package) for package in ("stdistill", "torch", "lightning")},
    )
    marks = mark_cells(inputs.rows.features[0], inputs.centers)
    model = CompositionModel(fitted.members, card, fitted.history, np.unique(marks[np.concatenate(trained)]))
    model.known_sha256 = model.sha256
    return model
