"""Which cell types lie together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stdistill._graph.rbf import rbf_radius, rbf_sums
from stdistill._graph.spacing import SPOTS_UM, check_room, median_spacing
from stdistill._measures.abundances.moran import (
    Colocalization,
    bivariate_moran,
    null_sd,
    significance,
    standardise,
)
from stdistill._support.arrays import Float64s, Integers
from stdistill._support.checks import check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.abundances import read_abundances
from stdistill._table.checks import get_centers, get_table
from stdistill._table.graph import warn_of_other_unit
from stdistill._table.libraries import find_library_key, library_codes, warn_of_overlap

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

SPACINGS = 1.5
"""Length of the weights of spots, in spacings."""
CELLS_UM = 50.0
"""Length of the weights of cells."""


def colocalization(
    data: AnnData | SpatialData,
    *,
    key: str,
    length_um: float | None = None,
    cutoff: float = 0.2,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
) -> Colocalization:
    """Measure which types lie together: the bivariate Moran's R of all pairs of types.

    R of two types is positive when places with much of the one lie near places with much of the other, and negative
    when they avoid each other. Places count by ``exp(-d² / (2 length_um²))``, d being the distance between them.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with centres in µm in ``.obsm["spatial"]``. A view measures its rows.
    key
        Abundances in ``.obsm``, as :func:`stdistill.pp.abundances` writes them. Rows that are not known are left out.
    length_um
        Length of the weights in µm. By default 1.5 times the median distance of nearest neighbours for spots (300 µm on
        ST, 150 µm on Visium), and 50 µm for cells. Rows are taken for spots when that distance is above 30 µm.
    cutoff
        Weights below it are 0, so that rows see each other up to ``length_um * sqrt(-2 * log(cutoff))``: 1.8 lengths
        by default.
    library_key
        Column of ``.obs`` that names each row's slide; no weight joins two slides. By default that of the
        neighbourhoods, else the regions that the table annotates, when there are several.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    An object with

    ``r``
        Frame (types, types), symmetric. On the diagonal is Moran's R of each type with itself.
    ``z``, ``p``, ``q``
        Frames (types, types): R by the standard deviation that chance gives it; two-sided p of the normal
        distribution; false discovery rate of Benjamini and Hochberg over the pairs. The diagonal is missing, since it
        is no pair.
    ``length_um``, ``cutoff``, ``n_rows``
        The weights, and how many rows were measured.

    A type that is the same in all rows has no R: its row and column are missing, and the log names it. Nothing is
    written.

    Raises
    ------
    KeyError
        When the table, the abundances, the centres or `library_key` are not there.
    TypeError
        When there is no array of numbers under `key`, or a number is none.
    ValueError
        When fewer than two rows are known, no two rows lie within reach of each other, a centre is not finite, centres
        are in mm, abundances are negative or infinite or have no names, a row has no slide, `length_um` is not positive
        or reaches more than 20,000 rows on average, or `cutoff` does not lie between 0 and 1.

    Warns
    -----
    UserWarning
        When no spot has another within reach, `length_um` reaches across a whole slide, or the table seems to hold
        several slides that lie over one another, without a `library_key`.

    Notes
    -----
    R: Sun, Zhu & Qiu 2025, section 3.2: weights scaled to sum to n, values standardised by mean and population standard
    deviation over all rows. The paper names no length, no cut-off and no diagonal of the weights. Ours: cut-off 0.2, as
    SpatialDM has it; a spot counts itself, because it holds several cells, and a cell does not.

    Standard deviation under chance: SpatialDM (Li et al. 2023), whose variance is that of both types shuffled over the
    rows, each on its own. Types that vary slowly over the tissue, as most do, exceed this chance easily; see
    *Co-localisation* in the documentation. Two-sided p and the false discovery rate are our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> centers = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2) * 100
    >>> left = (centers[:, 0] < 1000).astype(np.float32)
    >>> adata = ad.AnnData(np.zeros((400, 1)), obsm={"spatial": centers})
    >>> adata.obsm["abundance"] = np.stack([left, 2 * left, 1 - left], axis=1)
    >>> adata.uns["stdistill"] = {"abundances": {"types": ["tumour", "T cells", "fat"]}}
    >>> result = sd.tl.colocalization(adata, key="abundance")
    >>> result.length_um
    150.0
    >>> result.r.loc["tumour"].round(2).to_dict()
    {'tumour': 0.91, 'T cells': 0.91, 'fat': -0.91}
    """
    if length_um is not None:
        check_positive(length_um, "length_um")
    check_positive(cutoff, "cutoff")
    if cutoff >= 1:
        msg = f"cutoff must lie between 0 and 1, found {cutoff}: the weight of a place itself is 1."
        raise ValueError(msg)
    adata = get_table(data, table_key)
    values, types, known = read_abundances(adata, key)
    if known.sum() < 2:
        msg = f".obsm[{key!r}] is known for {known.sum()} of {len(known)} rows; R needs two at least."
        raise ValueError(msg)
    centers = get_centers(adata)
    check_room(centers)
    warn_of_other_unit(adata)
    library_key = find_library_key(adata, library_key)
    libraries = library_codes(adata, library_key)
    if library_key is None:
        warn_of_overlap(
            adata, centers, "They see each other: name the slides in a column, and give it as library_key=."
        )

    spacing = median_spacing(centers, libraries)
    is_spots = spacing > SPOTS_UM
    if length_um is None:
        length_um = SPACINGS * spacing if is_spots else CELLS_UM
    else:
        _warn_of_reach(centers[known], libraries[known], length_um, cutoff)
    z = standardise(values[known])
    sums = rbf_sums(centers[known], libraries[known], z, length=length_um, cutoff=cutoff, own=is_spots)
    n_rows = len(z)
    if sums.totals.sum() <= n_rows * is_spots:
        reach = f"within {rbf_radius(length_um, cutoff):.3g} µm of each other; the median spacing is {spacing:.3g} µm"
        if not is_spots:
            msg = f"No two of the {n_rows} rows lie {reach}. Give a larger length_um."
            raise ValueError(msg)
        warn(f"No two of the {n_rows} rows lie {reach}: R is the plain correlation. Give a larger length_um.")
    constant = [name for name, is_constant in zip(types, np.isnan(z[0]), strict=True) if is_constant]
    if constant:
        logger.info("The same in all %d rows, and without R: %s.", n_rows, ", ".join(map(repr, constant)))
    r = bivariate_moran(z, sums.lagged, sums.totals)
    chance = significance(r, null_sd(sums.totals, sums.squares))
    frames = [pd.DataFrame(each, index=types, columns=types) for each in (r, *chance)]
    logger.info(
        "R of %d types over %d rows of .obsm[%r], taken for %s: median spacing %.1f µm, length %.1f µm.",
        len(types),
        n_rows,
        key,
        "spots (each counts itself)" if is_spots else "cells",
        spacing,
        length_um,
    )
    return Colocalization(
        r=frames[0],
        z=frames[1],
        p=frames[2],
        q=frames[3],
        length_um=float(length_um),
        cutoff=float(cutoff),
        n_rows=n_rows,
    )


def _warn_of_reach(centers: Float64s, libraries: Integers, length_um: float, cutoff: float) -> None:
    """Warn when places see each other across the whole of a slide: R says nothing then of what lies near what."""
    radius_um = rbf_radius(length_um, cutoff)
    extents = [np.ptp(centers[libraries == library], axis=0) for library in np.unique(libraries)]
    crossed = [extent for extent in extents if extent.max() <= radius_um]
    if crossed:
        width, height = max(crossed, key=max)
        warn(
            f"length_um={length_um:g} reaches {radius_um:.4g} µm, and the centres of {len(crossed)} of {len(extents)} "
            f"slides lie within {width:.4g} × {height:.4g} µm: nearly all rows see each other, R tends to 0 whatever "
            f"lies beside what, and p may still be small. Give µm, such as the {CELLS_UM:g} of cells or {SPACINGS:g} "
            "spacings of spots; that is the default."
        )
