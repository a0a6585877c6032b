"""How well tiles find their partner across H&E and expression."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from stdistill._measures.alignment.recall import Recall, partner_ranks, recall_of
from stdistill._support.arrays import Floats, Mask, Rows
from stdistill._support.checks import check_choice, check_integer, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import as_slides
from stdistill._table.fitting.aligned import (
    SIDES,
    aligned_features,
    aligned_mark,
    aligned_scales,
    check_one_alignment,
    check_widths,
    feature_keys,
    fitted_tiles,
    held_out_tiles,
    rank_column,
    read_aligned,
    read_counts,
    read_features,
    warn_of_other_tile_features,
)
from stdistill._table.records import write_record
from stdistill._table.tiles import get_tiles

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

Pool = Literal["slide", "all"]
FEWEST_TILES = 150
"""With fewer in the pool, the first 5 % are a handful of places, and chance alone moves recall by several percent."""
LEAST_TRAINING = 10
"""Baselines of fewer tiles say nothing."""


class _Views(NamedTuple):
    """H&E and expression of the tiles of all slides, one after the other, as a method sees them."""

    he: Floats
    expression: Floats


def retrieval(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    p: Sequence[float] = (5, 10, 15),
    key: str = schema.ALIGNED,
    pool: Pool = "slide",
    baselines: bool = True,
    n_bootstrap: int = 1000,
    seed: int = 0,
    tiles_key: str = schema.TILES,
) -> pd.DataFrame:
    """Measure how often the H&E of a tile finds its expression among those of all tiles, and the other way round.

    Recall@p% is the share of the tiles whose partner is among the first p % of the pool, by cosine.

    Parameters
    ----------
    data
        SpatialData with tiles that :func:`stdistill.tl.align` embedded, or their table; or a list of them, one per
        slide.
    p
        Percentages.
    key
        The `key_added` of :func:`stdistill.tl.align`.
    pool
        Among which tiles a partner is looked for: those of its slide, or those of all slides.
    baselines
        Fit what an alignment must beat, to the tiles that the alignment was fitted on.
    n_bootstrap
        Resamplings of the queries for the intervals.
    seed
        Of these, and of the baseline that is trained.
    tiles_key
        Name of the table of tiles.

    Returns
    -------
    One row per method, slide, direction and percentage:

    ``method``
        `key`, all scales together; `key` with the name of a scale, each scale alone; ``"ridge"`` (frozen features to
        what is known of the cells), ``"CCA"`` and ``"linear InfoNCE"``.
    ``slide``
        Place of the slide in `data`, ``"0"`` first, or ``"all"``.
    ``direction``
        ``"he_to_expression"`` or ``"expression_to_he"``.
    ``p``, ``recall``, ``low``, ``high``
        Percentage, recall, and its interval of 95 % over resampled queries.
    ``n``, ``chance``
        Tiles in the pool, and the recall of ranks at random: k / n, k = ⌈p n / 100⌉ being the places that count.

    Written to the tables of tiles:

    ``.obs["{key}_rank_he_to_expression"]``, ``.obs["{key}_rank_expression_to_he"]``
        float32, rank of the partner divided by the tiles in the pool; NaN for tiles that are in none.
    ``.uns["stdistill"]["retrieval"]``
        The parameters; ``"retrieval_<key>"`` of another `key` than ``"aligned"``.

    Raises
    ------
    KeyError
        When tiles or embeddings are not there.
    TypeError
        When embeddings are no numbers.
    ValueError
        When no tile is left to test on, or some that are for testing had a part in fitting; when embeddings are of
        several models; when an argument is out of range.

    Warns
    -----
    UserWarning
        When a pool holds fewer than 150 tiles.

    See Also
    --------
    stdistill.pl.retrieval : curves, and what was found.

    Notes
    -----
    Recall@p% as of Jeong et al. 2025 (arXiv 2511.15464), who state neither the pool nor how places are rounded. Ours:
    the pool are the tiles of a slide that are ``"test"`` in ``.obs["split"]``, without a split those that the alignment
    was not fitted on; others that are as similar as the partner count as found before it. Queries lie beside each other
    and are not independent, so that intervals are rather too narrow; see :doc:`/concepts/alignment`.

    Baselines know of the cells of a tile 32 principal components of their log-normalised expression, and their number,
    as the model does. CCA is of these and 64 principal components of the features, regularised by 0.1 of the mean
    variance, with each direction weighed by its correlation; InfoNCE learns a linear map of each side, with a
    temperature of 0.1. All are our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> tiles = ad.AnnData(np.zeros((200, 1)), uns={"stdistill": {"tiles": {"n_tiles": 200}}})
    >>> tiles.obsm["X_aligned_he"] = rng.normal(size=(200, 8))
    >>> tiles.obsm["X_aligned_expression"] = tiles.obsm["X_aligned_he"] + 0.3 * rng.normal(size=(200, 8))
    >>> found = sd.tl.retrieval(tiles)
    >>> found.groupby(["method", "direction"])["recall"].min().round(1).to_dict()
    {('aligned', 'expression_to_he'): 1.0, ('aligned', 'he_to_expression'): 1.0}
    """
    _check_arguments(p, pool, n_bootstrap, seed)
    tables = [get_tiles(slide, tiles_key) for slide in as_slides(data)]
    check_one_alignment(tables, key)
    methods = {
        key if scale is None else f"{key} {scale}": _read(tables, key, scale)
        for scale in (None, *aligned_scales(tables, key))
    }
    tested = np.concatenate([held_out_tiles(table, [key]) for table in tables])
    if baselines:
        methods |= _fit_baselines(tables, key, tested, seed)
    pools = _pools(tables, tested, list(methods.values()), key, pool)

    rng = np.random.default_rng(seed)
    directions = [f"{one}_to_{other}" for one, other in (SIDES, SIDES[::-1])]
    rows: list[tuple[str | float, ...]] = []
    shares = np.full((2, len(tested)), np.nan, dtype=np.float32)
    for method, views in methods.items():
        for slide, places in pools.items():
            ranks = partner_ranks(views.he[places], views.expression[places])
            if method == key:
                shares[:, places] = np.divide(ranks, len(places))
            for direction, some in zip(directions, ranks, strict=True):
                found = recall_of(some, p, n_bootstrap=n_bootstrap, rng=rng)
                rows += [(method, slide, direction, *each) for each in found]
    starts = np.cumsum([table.n_obs for table in tables[:-1]])
    for table, own in zip(tables, np.split(shares, starts, axis=1), strict=True):
        for one, values in zip(SIDES, own, strict=True):
            table.obs[rank_column(key, one)] = values
        n_tiles = int(np.isfinite(own[0]).sum())
        mark = aligned_mark(table, key)
        write_record(table, "retrieval", key_added=key, pool=pool, n_tiles=n_tiles, embeddings=mark)
    return pd.DataFrame(rows, columns=["method", "slide", "direction", *Recall._fields])


def _check_arguments(p: Sequence[float], pool: str, n_bootstrap: int, seed: int) -> None:
    if not isinstance(p, list | tuple | np.ndarray) or not len(p):
        msg = f"p must be a list of percentages, found {p!r}."
        raise ValueError(msg)
    for each in p:
        check_positive(each, "p")
        if each > 100:
            msg = f"p holds {each}; expected percentages of at most 100."
            raise ValueError(msg)
    check_choice(pool, "pool", get_args(Pool))
    check_integer(n_bootstrap, "n_bootstrap", minimum=1)
    check_integer(seed, "seed", minimum=0)


def _read(tables: Sequence[AnnData], key: str, scale: str | None) -> _Views:
    """Read both sides of all tables."""
    sides = [[read_aligned(table, key, side, scale) for table in tables] for side in SIDES]
    check_widths([part.shape[1] for parts in sides for part in parts], f"The embeddings {key!r}")
    return _Views(*map(np.concatenate, sides))


def _fit_baselines(tables: Sequence[AnnData], key: str, tested: Mask, seed: int) -> dict[str, _Views]:
    """Fit the baselines to the tiles that the alignment was fitted on, where there are such tiles with all it takes."""
    from stdistill._measures.alignment.baselines import expression_components, project_by_cca, project_by_ridge
    from stdistill._measures.alignment.expression import log_expression

    prefix = aligned_features(tables, key)
    if prefix is None:
        logger.info("No baselines: the tables have no features of the H&E in common, as sd.pp.embed_tiles writes them.")
        return {}
    if not all(table.n_vars for table in tables):
        logger.info("No baselines: there are tiles without genes.")
        return {}
    warn_of_other_tile_features(tables, key, prefix)
    features = read_features(tables, feature_keys(tables, prefix))
    known = np.isfinite(features).all(axis=1)
    training = np.flatnonzero(np.concatenate([fitted_tiles(table, [key]) for table in tables]) & known)
    if len(training) < LEAST_TRAINING:
        logger.info(
            "No baselines: they are fitted to the tiles that %r was fitted on, and %d of those are here.",
            key,
            len(training),
        )
        return {}
    from stdistill.models.alignment.baselines import project_by_infonce

    rows = np.union1d(training, np.flatnonzero(tested & known))
    counts, _ = read_counts(tables)
    places = np.searchsorted(rows, training)
    n_cells = np.concatenate([table.obs["n_cells"] for table in tables])[rows]
    inputs = features[rows], expression_components(log_expression(counts[rows], places), n_cells, places), places
    found = {
        "ridge": project_by_ridge(*inputs),
        "CCA": project_by_cca(*inputs),
        "linear InfoNCE": project_by_infonce(*inputs, seed=seed),
    }
    return {name: _Views(*(_spread(side, rows, len(tested)) for side in each)) for name, each in found.items()}


def _spread(values: Floats, rows: Rows, n: int) -> Floats:
    """Put values of some rows to their places among n; NaN elsewhere."""
    spread = np.full((n, values.shape[1]), np.nan, dtype=np.float32)
    spread[rows] = values
    return spread


def _pools(tables: Sequence[AnnData], tested: Mask, methods: Sequence[_Views], key: str, pool: Pool) -> dict[str, Rows]:
    """Return the rows of each pool: tiles to test on that all methods know both sides of."""
    if not tested.any():
        msg = (
            f"All of the {len(tested)} tiles had a part in fitting {key!r}: none is left to test on. Hold some out "
            "with sd.pp.split_strips, before sd.pp.tiles, or give a slide that the model has not seen, after "
            "sd.tl.predict."
        )
        raise ValueError(msg)
    known = np.all([np.isfinite(side).all(axis=1) for views in methods for side in views], axis=0)
    if not (tested & known).any():
        msg = f"None of the {tested.sum()} tiles to test on has both embeddings of {key!r}: they are NaN."
        raise ValueError(msg)
    if lost := int((tested & ~known).sum()):
        logger.info("%d of the %d tiles to test on have a NaN and are left out.", lost, tested.sum())
    numbers = np.repeat(np.arange(len(tables)), [table.n_obs for table in tables])
    groups = (
        {"all": tested & known}
        if pool == "all"
        else {str(number): tested & known & (numbers == number) for number in range(len(tables))}
    )
    pools = {name: np.flatnonzero(mask) for name, mask in groups.items() if mask.any()}
    few = {name: len(rows) for name, rows in pools.items() if len(rows) < FEWEST_TILES}
    if few:
        sizes = ", ".join(f"{n} in {name!r}" for name, n in few.items())
        warn(
            f"Few tiles in the pool ({sizes}; at least {FEWEST_TILES} are advised): the first 5 % are few places, and "
            "recall is uncertain. Look at the intervals, and compare with chance."
        )
    return pools
