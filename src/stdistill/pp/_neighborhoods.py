"""Neighbourhood graphs: every cell and the cells within a radius of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from anndata import AnnData

from stdistill._graph.radius import neighborhood_radius
from stdistill._graph.radius_graph import radius_graph
from stdistill._graph.spacing import check_room
from stdistill._support.checks import check_integer, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_split, get_table
from stdistill._table.graph import NEIGHBORS
from stdistill._table.libraries import connected_groups, library_codes, several_regions, warn_of_overlap
from stdistill._table.provenance.results import fingerprint
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

N_NEIGHBORS = 50
PLAUSIBLE_NEIGHBORS = (3, 500)
"""A mean outside of this gets a warning: the radius may be in another unit than the centres."""


def neighborhoods(
    data: AnnData | SpatialData,
    *,
    n_neighbors: int = N_NEIGHBORS,
    radius_um: float | None = None,
    library_key: str | None = None,
    split_key: str | None = schema.SPLIT,
    table_key: str = schema.TABLE,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Connect every cell to the cells within a radius.

    Unless `radius_um` is given, the radius is the one at which a disc at a random place in the tissue holds
    `n_neighbors` cells on average. Discs around cells hold more, because cells crowd around cells. Places are drawn
    evenly over the tissue: those whose nearest (training) cell is no further than 99 % of the cells are from theirs,
    which leaves out lumina, tears and the empty slide.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with cell centres in µm in ``.obsm["spatial"]``.
    n_neighbors
        Mean number of cells in a disc at a random place in the tissue.
    radius_um
        Radius in µm; used as it is, and `n_neighbors` is not.
    library_key
        Column of ``.obs`` that names each cell's slide. No edge joins two slides, and one radius serves all. By
        default the regions that the table annotates, when there are several.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. The radius comes from the ``"train"`` cells alone, no edge joins two groups, and
        ``"buffer"`` cells and cells of no group have no edges.
        `None` ignores it.
    table_key
        Name of the table of a SpatialData.
    seed
        Of the random places.
    copy
        Return a copy with the results instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table, under the keys of :func:`squidpy.gr.spatial_neighbors`, so that
    squidpy's functions read it:

    ``.obsp["spatial_connectivities"]``, ``.obsp["spatial_distances"]``
        (n, n) CSR float32, symmetric, without self edges; 1, and the distance in µm. Edges are the pairs at a distance
        of at most the radius.
    ``.uns["spatial_neighbors"]``
        The names of the two and the parameters, with ``radius`` in µm.
    ``.uns["stdistill"]["neighborhoods"]``
        ``radius_um``, ``mean_neighbors`` of the cells that are in a group, the parameters, and a ``fingerprint`` of
        what the edges follow from, which tells these neighbourhoods from others.

    Raises
    ------
    KeyError
        When the table, `library_key` or `split_key` is not there.
    ValueError
        When there are no cells, a centre is not finite, centres are in mm, a cell has no library, there are no training
        cells, the slide has fewer than `n_neighbors` of them, or the radius catches (nearly) all cells or more than
        3,000 a cell.

    Warns
    -----
    UserWarning
        When cells have the same centre, a given `radius_um` makes an implausible number of neighbours, or the table
        seems to hold several slides that lie over one another, without a `library_key`.

    Notes
    -----
    A radius that gives an expected number of neighbours, estimated at random locations of the slide: Hizmi et al.
    2026, section 3.1; estimated on training cells and reused for the test cells: section 5.1. That the number is 50 and
    that locations lie in the tissue are our choices (the paper states no number).

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((1000, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 500, (1000, 2))})
    >>> sd.pp.neighborhoods(adata, n_neighbors=20)
    >>> adata.obsp["spatial_connectivities"].shape
    (1000, 1000)
    """
    check_integer(n_neighbors, "n_neighbors", minimum=1)
    check_integer(seed, "seed", minimum=0)
    if radius_um is not None:
        check_positive(radius_um, "radius_um")
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    centers = get_centers(adata)
    check_room(centers)
    library_key = library_key if library_key is not None else several_regions(adata)
    libraries = library_codes(adata, library_key)
    if library_key is None:
        advice = "Their cells are connected with each other: name the slides in a column, and give it as library_key=."
        warn_of_overlap(adata, centers, advice)
    split = get_split(adata, split_key)
    groups = connected_groups(libraries, split)
    if radius_um is None:
        fitting = np.flatnonzero(groups >= 0 if split is None else (split == schema.TRAIN).to_numpy())
        if split is not None and not len(fitting):
            msg = (
                f"No cell is {schema.TRAIN!r} in .obs[{split_key!r}], which holds {split.unique().tolist()}: there is "
                "nothing to estimate the radius from. Give radius_um, or split_key=None."
            )
            raise ValueError(msg)
        radius_um = neighborhood_radius(centers[fitting], libraries[fitting], n_neighbors, seed)
        search: dict[str, int] = {"n_neighbors": n_neighbors, "seed": seed}
    else:
        search = {}
    radius_um = float(radius_um)
    connectivities, distances = radius_graph(centers, radius_um, groups)
    mean_neighbors = connectivities.nnz / max(1, int((groups >= 0).sum()))
    _warn_of_same_places(distances.data)
    if not search:
        _warn_if_implausible(mean_neighbors, radius_um)

    names = {f"{kind}_key": f"{schema.SPATIAL}_{kind}" for kind in ("connectivities", "distances")}
    keys = {"library_key": library_key, "split_key": None if split is None else split.name}
    params = {name: value for name, value in {**search, **keys}.items() if value is not None}
    adata.obsp[names["connectivities_key"]] = connectivities
    adata.obsp[names["distances_key"]] = distances
    adata.uns[NEIGHBORS] = {**names, "params": {"radius": radius_um, **params}}
    made_of = fingerprint(centers, groups.astype(np.int64), np.float64(radius_um).tobytes().hex())
    write_record(
        adata, "neighborhoods", radius_um=radius_um, mean_neighbors=mean_neighbors, fingerprint=made_of, **params
    )
    logger.info(
        'Wrote .obsp["%s"] and .obsp["%s"]: radius %.1f µm, %.1f neighbours on average.',
        *names.values(),
        radius_um,
        mean_neighbors,
    )
    return data if copy else None


def _warn_of_same_places(distances: npt.NDArray[np.float32]) -> None:
    n_pairs = (distances.size - np.count_nonzero(distances)) // 2
    if n_pairs:
        warn(
            f"{n_pairs} pairs of cells have the same centre. They are kept; if the table was concatenated from slides "
            "that overlap, name them with library_key=."
        )


def _warn_if_implausible(mean_neighbors: float, radius_um: float) -> None:
    low, high = PLAUSIBLE_NEIGHBORS
    if not low <= mean_neighbors <= high:
        warn(
            f"Cells have {mean_neighbors:.1f} neighbours within {radius_um:g} µm on average, which is not plausible. "
            'Are the centres in .obsm["spatial"], and the radius, in µm?'
        )
