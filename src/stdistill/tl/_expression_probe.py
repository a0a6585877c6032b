"""How much of the expression of tiles their H&E tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from stdistill._measures.abundances.scores import score
from stdistill._measures.alignment.expression import log_expression, most_variable
from stdistill._measures.alignment.probe import fit_hest_ridge, fit_ridge
from stdistill._support.arrays import Float64s, Floats, Integers, Mask, Rows
from stdistill._support.checks import as_names, check_choice, check_integer, check_key, some
from stdistill._table import schema
from stdistill._table.checks import as_slides
from stdistill._table.fitting.aligned import (
    aligned_key,
    alignments,
    check_one_alignment,
    feature_keys,
    feature_prefixes,
    held_out_tiles,
    read_counts,
    read_features,
    training_tiles,
)
from stdistill._table.tiles import get_tiles

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

Protocol = Literal["cv", "hest"]
TRAINING_MEAN = "training mean"


def expression_probe(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    keys: str | Sequence[str] | None = None,
    genes: int | Sequence[str] = 50,
    protocol: Protocol = "cv",
    tiles_key: str = schema.TILES,
) -> pd.DataFrame:
    """Measure how well expression of tiles is told by a linear regression on what represents them.

    A regression is fitted to the training tiles, and scored on the tiles to test on.

    Parameters
    ----------
    data
        SpatialData with tiles over cells, or their table; or a list of them, one per slide.
    keys
        What represents tiles: keys of ``.obsm``, or the `key_added` of :func:`stdistill.pp.embed_tiles`, which stands
        for all its scales together. By default all that is there: frozen features, each scale and together, and the
        embeddings of the H&E by :func:`stdistill.tl.align`.
    genes
        Names of genes, or how many: those that vary most over the training tiles.
    protocol
        ``"cv"``: a ridge regression with an intercept, to expression that is scaled to the median total of the training
        tiles, log(1 + x), with the penalty that predicts left-out training tiles best. ``"hest"``: the protocol of the
        benchmark of HEST, to set figures beside published ones.
    tiles_key
        Name of the table of tiles.

    Returns
    -------
    One row per key and gene, and one with the gene ``"all"``, the mean over genes; the key ``"training mean"`` says the
    mean of the training everywhere:

    ``key``, ``gene``
    ``pcc``
        Pearson's correlation over the tiles of a slide, the mean over slides; NaN where a gene, or what is said of it,
        is the same in all tiles.
    ``mse``
        Mean squared error over tiles, in units of the protocol's expression. Of ``"hest"`` it means nothing.
    ``n_tiles``, ``n_undefined``
        Tiles that were scored; slides (and genes) in which expression varies and what is said of it does not.

    Nothing is written. Tiles with a NaN under any of the keys are left out.

    Raises
    ------
    KeyError
        When tiles, keys or genes are not there.
    TypeError
        When what is under a key are no numbers.
    ValueError
        When there are no training tiles, or none to test on; when tiles that are for testing had a part in fitting an
        alignment; when tiles have no genes, or an argument is out of range.

    See Also
    --------
    retrieval : how well tiles find their partner.

    Notes
    -----
    Training and test are the groups of ``.obs["split"]``; without a split, the tiles that an alignment was fitted on
    and those that it was not. ``"hest"``: Jaume et al. 2024 (HEST-1k): at most 256 principal components of standardised
    features, ridge with α = 100 / (components × genes) **without an intercept**, to log(1 + counts), whatever the depth
    of a tile. Predictions lie around 0, not around the level of a gene, so that the squared error is that level; and
    with few tiles this penalty is so small that it overfits. See :doc:`/concepts/alignment`.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> causes = rng.normal(size=(200, 2))
    >>> counts = rng.poisson(np.exp(3 + causes @ rng.normal(size=(2, 9)))).astype(np.float32)
    >>> tiles = ad.AnnData(counts, uns={"stdistill": {"tiles": {"n_tiles": 200}}})
    >>> tiles.obs["split"] = np.repeat(["train", "test"], 100)
    >>> tiles.obsm["X_he_macro"] = causes @ rng.normal(size=(2, 20)) + 0.1 * rng.normal(size=(200, 20))
    >>> found = sd.tl.expression_probe(tiles, genes=5)
    >>> found[found["gene"] == "all"].set_index("key")["pcc"].round(1).to_dict()
    {'X_he_macro': 0.8, 'training mean': nan}
    """
    check_choice(protocol, "protocol", get_args(Protocol))
    tables = [get_tiles(slide, tiles_key) for slide in as_slides(data)]
    chosen = _choose_keys(tables, keys)
    counts, names = read_counts(tables)
    fitted_by = _alignments_of(tables, [key for some in chosen.values() for key in some])
    training, tested = _divide(tables, fitted_by)
    inputs = {name: read_features(tables, some) for name, some in chosen.items()}
    known = np.all([np.isfinite(values).all(axis=1) for values in inputs.values()], axis=0)
    if lost := int(((training | tested) & ~known).sum()):
        logger.info("%d tiles have a NaN under one of the keys and are left out.", lost)
    fitting, testing = np.flatnonzero(training & known), np.flatnonzero(tested & known)
    _check_groups(training, tested, fitting, testing)
    expression = log_expression(counts, fitting)
    columns = _choose_genes(genes, names, expression, fitting)
    targets = expression if protocol == "cv" else counts.astype(np.float64).log1p()
    targets = targets[:, columns].toarray()
    libraries = np.repeat(np.arange(len(tables)), [table.n_obs for table in tables])[testing]
    scored = [names[column] for column in columns]
    frames = []
    for name, predicted in _predict(inputs, targets, fitting, testing, protocol):
        frame = _score(predicted, targets[testing], libraries, scored)
        frame.insert(0, "key", name)
        frames.append(frame)
        logger.info("%s: PCC %.3f over %d genes and %d tiles.", name, frame["pcc"].iloc[-1], len(scored), len(testing))
    return pd.concat(frames, ignore_index=True)


def _choose_keys(tables: Sequence[AnnData], keys: str | Sequence[str] | None) -> dict[str, list[str]]:
    """Return the keys of ``.obsm`` that each representation consists of."""
    if keys is None:
        found: dict[str, list[str]] = {}
        for prefix in feature_prefixes(tables):
            scales = feature_keys(tables, prefix)
            found |= {key: [key] for key in scales}
            if len(scales) > 1:
                found[prefix] = scales
        shared = [aligned_key(name, "he") for name in alignments(tables[0])]
        found |= {key: [key] for key in shared if all(key in table.obsm for table in tables)}
        if not found:
            msg = (
                "There is nothing to predict expression from: the tables have no features of tiles in common. Compute "
                "them with sd.pp.embed_tiles, or name keys of .obsm with keys=."
            )
            raise KeyError(msg)
        return found
    chosen = as_names(keys, "keys", "what represents tiles")
    together = {key: feature_keys(tables, key) for key in chosen}
    for table in tables:
        for key in chosen:
            if not together[key] or key in table.obsm:
                hint = "Features of tiles come from sd.pp.embed_tiles, embeddings from sd.tl.align and sd.tl.predict."
                check_key(key, table.obsm.keys(), "features of tiles in .obsm", argument="keys", hint=hint)
    return {key: [key] if key in tables[0].obsm else together[key] for key in chosen}


def _alignments_of(tables: Sequence[AnnData], keys: Sequence[str]) -> list[str]:
    """Name the alignments that some keys are embeddings of, which must be of one model each."""
    of_keys = [name for name in alignments(tables[0]) if any(key.startswith(aligned_key(name, "he")) for key in keys)]
    for name in of_keys:
        check_one_alignment(tables, name)
    return of_keys


def _divide(tables: Sequence[AnnData], fitted_by: Sequence[str]) -> tuple[Mask, Mask]:
    """Return the tiles to fit to and those to test on, of all tables."""
    by = [fitted_by if schema.SPLIT in table.obs else alignments(table) for table in tables]
    training = np.concatenate([training_tiles(table, names) for table, names in zip(tables, by, strict=True)])
    held_out = np.concatenate([held_out_tiles(table, names) for table, names in zip(tables, by, strict=True)])
    return training, held_out & ~training


def _check_groups(training: Mask, tested: Mask, fitting: Rows, testing: Rows) -> None:
    for what, group, rows in (("training tiles", training, fitting), ("tiles to test on", tested, testing)):
        if len(rows) < 2:
            msg = (
                f"There are {group.sum()} {what}, {len(rows)} of them without a NaN; it takes two at least. Hold some "
                "out with sd.pp.split_strips, before sd.pp.tiles, or give several slides of which an alignment was "
                "fitted on some."
            )
            raise ValueError(msg)


def _choose_genes(genes: int | Sequence[str], names: Sequence[str], expression: csr_matrix, fitting: Rows) -> Rows:
    """Return the columns of the genes to score."""
    if isinstance(genes, str):
        msg = f"genes must be a number or a list of names, found {genes!r}."
        raise TypeError(msg)
    if not isinstance(genes, Sequence | np.ndarray | pd.Index):
        check_integer(genes, "genes", minimum=1)
        columns = most_variable(expression, fitting, genes)
        if not len(columns):
            msg = "No gene varies over the training tiles: there is nothing to predict."
            raise ValueError(msg)
        return columns
    wanted = list(dict.fromkeys(map(str, genes)))
    missing = [gene for gene in wanted if gene not in names]
    if missing or not wanted:
        there = some(map(repr, names))
        msg = f"{len(missing)} of the {len(wanted)} genes are not in the tables: {missing[:5]}; there are {there}."
        raise KeyError(msg)
    return pd.Index(names).get_indexer(pd.Index(wanted))


def _predict(
    inputs: dict[str, Floats], targets: Float64s, fitting: Rows, testing: Rows, protocol: Protocol
) -> Iterator[tuple[str, Float64s]]:
    """Fit each representation, and yield what it says of the tiles to test on; at last the mean of the training."""
    fit = fit_ridge if protocol == "cv" else fit_hest_ridge
    for name, values in inputs.items():
        yield name, fit(values[fitting], targets[fitting])(values[testing])
    yield TRAINING_MEAN, np.tile(targets[fitting].mean(axis=0), (len(testing), 1))


def _score(predicted: Float64s, truth: Float64s, libraries: Integers, genes: Sequence[str]) -> pd.DataFrame:
    """Make one row per gene, and one for all."""
    frame = score(predicted, truth, libraries).frame(genes).rename(columns={"type": "gene", "cc": "pcc"})
    errors = ((predicted - truth) ** 2).mean(axis=0)
    frame["mse"] = [*errors, errors.mean()]
    frame["n_tiles"] = len(truth)
    return frame[["gene", "pcc", "mse", "n_tiles", "n_undefined"]]
