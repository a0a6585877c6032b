"""Which neighbours decide a cell's niche."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._runs.given_model import load_model
from stdistill._support.arrays import Floats, Mask, Rows
from stdistill._support.checks import check_integer, check_key
from stdistill._table import schema
from stdistill._table.checks import find_rows, get_table
from stdistill._table.fitting.inputs import NicheInputs, check_features, niche_inputs
from stdistill._table.fitting.like_model import check_card, check_radius, name_features
from stdistill._table.graph import graph_key
from stdistill._table.provenance.whole import warn_of_other_cells

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import ModelCard, NicheModel
    from stdistill.models.explanation.attribution import Method
    from stdistill.models.explanation.explain import ExplainedCell
    from stdistill.models.explanation.result import Explanation
    from stdistill.models.niche.batches import Neighborhoods


def explain(
    data: AnnData | SpatialData,
    model: NicheModel | str | Path,
    *,
    cells: Sequence[str],
    method: Method = "integrated_gradients",
    n_samples: int | None = None,
    label_key: str | None = None,
    use_rep: str | None = None,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    seed: int = 0,
    device: str = "auto",
    table_key: str = schema.TABLE,
) -> Explanation:
    """Say which cells around a cell decide in which niche a model sees it.

    Each cell that the model reads, the explained one among them, gets a number: what it adds to the log-odds of the
    niche, that is, to the logarithm of the niche's probability over that of all others. Attention says no such thing.
    Whether the numbers can be believed is tried on the model itself: if it is shown the neighbourhood without the cells
    that add most, its niche must go sooner than without as many random ones.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with the features that the model reads and with neighbourhoods, as
        :func:`stdistill.tl.predict` leaves them.
    model
        A student or a teacher: what :func:`stdistill.tl.distill` or :func:`stdistill.tl.nolan` returned, the folder of
        a saved one, or one on the Hugging Face hub, ``"hf:owner/name"``.
    cells
        Names of the cells to explain, in ``.obs_names``.
    method
        ``"integrated_gradients"``: what the features of each cell add, on the way from average cells of the training in
        the same places. ``"leave_one_out"``: how much less sure the model is without each cell, when all others are
        there. ``"shapley"``: how much surer it gets when each cell comes, on average over random orders in which they
        come; many times as slow. The last two take cells away from what attention reads, as if there were none in their
        places, and so see also what it means that there is a cell at all.
    n_samples
        Steps of ``"integrated_gradients"``, by default 20, which are doubled for each cell, up to 640, until its
        attributions sum to the whole but for 2 % (or 0.02); orders of ``"shapley"``, by default 25.
    label_key
        Column of ``.obs``, such as the cell types, to put beside each neighbour.
    use_rep
        Key of ``.obsm`` of the features; by default that of the training.
    split_key, library_key, device, table_key
        As of :func:`stdistill.tl.predict`.
    seed
        Of random orders. What is drawn for a cell depends on its place in the table and on no other cell.

    Returns
    -------
    An :class:`~stdistill.results.Explanation`; nothing is written to the table. It has the frames

    ``neighbors``
        One row for each cell that was read of each explained one, itself among them: ``cell``, ``neighbor``, ``niche``
        (of `cell`), ``attribution`` in log-odds, the largest first, ``distance_um``, and ``label``.
    ``cells``
        One row for each explained cell: ``niche``, ``log_odds`` of it, the ``baseline`` that attributions start from,
        ``completeness_error``: by how much their sum is beyond what lies between the two; ``n_neighbors``; mean heights
        of the deletion curve, ``deletion_area``, and of those of random orders, ``random_area``; and ``beaten``, the
        share of these that are clearly higher, by .001.
    ``deletion``
        The curves: ``cell``, the share of the cells that is ``removed``, ``probability`` of the niche, and ``random``.

    and says how they were made: ``method``, ``radius_um``, ``label_key``, ``model``.

    Raises
    ------
    KeyError
        When the table, a cell, the features, the neighbourhoods or a column is not there, or `method` is another one.
    TypeError
        When the features are no dense floating point array, or `cells` is a single name.
    ValueError
        When the model is no niche model, or has one niche; a cell gets no prediction: it is in the buffer or has no
        features; the features or the neighbourhoods are not those of the model; or there are no cells.

    Notes
    -----
    Methods as captum has them (Kokhlikyan et al. 2020): feature ablation, Shapley values by sampled orders (Castro,
    Gómez & Tejada 2009) and integrated gradients (Sundararajan, Taly & Yan 2017); each cell is one group. The deletion
    curve is that of Petsiuk, Das & Saenko 2018, in 10 steps and against 5 random orders. Log-odds are of the calibrated
    probability, `student_confidence` of the niche that :func:`stdistill.tl.predict` writes. That cells are masked out
    of attention, and the default method, are our choice: see *What decides a niche* in the documentation.

    Attributions of ``"shapley"`` sum to ``log_odds`` less ``baseline``, those of ``"integrated_gradients"`` but for the
    steps. Those of ``"leave_one_out"`` do not: where neighbours say the same, the niche does not need any one of them.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    >>> adata.obs["region"] = np.where(adata.obsm["spatial"][:, 0] < 150, "left", "right")
    >>> student = sd.tl.distill(adata, teacher_key="region", max_epochs=2, progress_bar=False)
    >>> found = sd.tl.explain(adata, student, cells=["7", "11"])
    >>> found.neighbors.columns.tolist()
    ['cell', 'neighbor', 'niche', 'attribution', 'distance_um']
    >>> deciding = found.neighbors.groupby("cell", observed=True).head(5)
    """
    from stdistill._training.devices import torch_device
    from stdistill.models.explanation.attribution import METHODS
    from stdistill.models.explanation.explain import explain_cells
    from stdistill.models.explanation.result import Explanation

    check_key(method, METHODS, "a method", argument="method")
    check_integer(seed, "seed", minimum=0)
    if n_samples is not None:
        check_integer(n_samples, "n_samples", minimum=1)
    loaded = _load(model)
    table = get_table(data, table_key)
    rows = _find_cells(table, cells)
    if label_key is not None:
        check_key(label_key, table.obs.columns, "a column of .obs", argument="label_key")
    labels = None if label_key is None else table.obs[label_key]
    (rep,) = name_features([loaded.card], use_rep)
    check_features([table], rep)
    check_card(table, rep, loaded.card)
    graph_key(table)
    inputs = niche_inputs([table], use_rep=rep, split_key=split_key, library_key=library_key)
    check_radius(inputs.radius_um, loaded.radius_um)
    if loaded.card.standardize == "slide":
        warn_of_other_cells([table], rep, library_key)
    neighborhoods = _around(inputs, rows, loaded.card)
    _check_predicted(table, rows, inputs.eligible & neighborhoods.known)
    explained = explain_cells(
        loaded, neighborhoods, rows, method=method, n_samples=n_samples, seed=seed, device=torch_device(device)
    )
    names = _Names(table.obs_names, loaded.card.niches, inputs.centers, labels)
    neighbors, found, deletion = _tidy(list(explained), rows, names)
    return Explanation(neighbors, found, deletion, method, loaded.radius_um, label_key, loaded.sha256[:16])


class _Names(NamedTuple):
    """What is known of cells and niches beside their numbers."""

    cells: pd.Index
    niches: list[str]
    centers: Floats
    labels: pd.Series | None


def _load(model: NicheModel | str | Path) -> NicheModel:
    """Return a niche model that tells niches apart, or load it."""
    from stdistill.models import NicheModel

    loaded = load_model(model)
    if not isinstance(loaded, NicheModel):
        msg = f"The model is of the kind {loaded.kind!r}; niche models, students and teachers, can be explained."
        raise ValueError(msg)
    if loaded.card.k < 2:
        msg = "The model has a single niche, in which all cells are: there is nothing to explain."
        raise ValueError(msg)
    return loaded


def _find_cells(table: AnnData, cells: Sequence[str]) -> Rows:
    """Return the rows of the cells, each once."""
    if not len(cells):
        msg = "cells is empty: name the cells to explain, as .obs_names has them."
        raise ValueError(msg)
    return np.array(list(dict.fromkeys(find_rows(table, cells))))


def _around(inputs: NicheInputs, rows: Rows, card: ModelCard) -> Neighborhoods:
    """Make the neighbourhoods of some cells; the features of others are not read, unless they say what these mean."""
    if card.standardize == "slide":
        return inputs.neighborhoods(card.max_tokens, standardize="slide")
    from stdistill.models.features import known_rows
    from stdistill.models.niche.batches import Neighborhoods

    parts = (inputs.indices[inputs.indptr[row] : inputs.indptr[row + 1]] for row in rows)
    read = np.unique(np.concatenate([rows, *parts]))
    known = np.zeros(len(inputs.features), dtype=bool)
    known[read] = known_rows(inputs.features[read])
    graph = (inputs.features, inputs.indptr, inputs.indices, inputs.centers, inputs.radius_um)
    return Neighborhoods(*graph, known=known, max_tokens=card.max_tokens)


def _check_predicted(table: AnnData, rows: Rows, predicted: Mask) -> None:
    """Raise unless the model predicts each of the cells."""
    without = table.obs_names[rows[~predicted[rows]]]
    if len(without):
        msg = (
            f"{len(without)} of the cells have no niche to explain, such as {without[0]!r}: they are in the buffer of "
            "the split, or have no features."
        )
        raise ValueError(msg)


def _tidy(
    explained: Sequence[ExplainedCell], rows: Rows, names: _Names
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Put what was found of each cell into frames, under its name: neighbours, cells, and deletion curves."""
    from stdistill.models.explanation.deletion import area, beaten, removed_shares

    cell_names = names.cells[rows]
    niche = pd.Categorical.from_codes([each.niche for each in explained], categories=pd.Index(names.niches))
    owner = np.repeat(np.arange(len(rows)), [len(each.tokens) for each in explained])
    token = np.concatenate([each.tokens for each in explained])
    neighbors = pd.DataFrame(
        {
            "cell": cell_names[owner],
            "neighbor": names.cells[token],
            "niche": niche[owner],
            "attribution": np.concatenate([each.attribution for each in explained]),
            "distance_um": np.linalg.norm(names.centers[token] - names.centers[rows[owner]], axis=1),
        }
    )
    if names.labels is not None:
        neighbors["label"] = names.labels.array[token]
    order = np.lexsort((-neighbors["attribution"], owner))
    curves = np.stack([each.deletion.curve for each in explained])
    at_random = np.stack([each.deletion.random for each in explained])
    log_odds, baseline = (np.array([getattr(each, what) for each in explained]) for what in ("log_odds", "baseline"))
    sums = np.array([each.attribution.sum() for each in explained])
    cells = pd.DataFrame(
        {
            "niche": niche,
            "log_odds": log_odds,
            "baseline": baseline,
            "completeness_error": sums - (log_odds - baseline),
            "n_neighbors": [len(each.tokens) - 1 for each in explained],
            "deletion_area": area(curves),
            "random_area": area(at_random).mean(axis=1),
            "beaten": beaten(curves, at_random),
        },
        index=pd.Index(cell_names, name="cell"),
    )
    shares = removed_shares()
    deletion = pd.DataFrame(
        {
            "cell": np.repeat(cell_names, len(shares)),
            "removed": np.tile(shares, len(rows)),
            "probability": curves.ravel(),
            "random": at_random.mean(axis=1).ravel(),
        }
    )
    return neighbors.iloc[order].reset_index(drop=True), cells, deletion
