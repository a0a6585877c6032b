"""What each niche is: its genes, cell types, nuclei, neighbours and best cells."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from stdistill._graph.density import cells_per_mm2
from stdistill._graph.spacing import check_room
from stdistill._measures.labels import Labels, cross_table
from stdistill._measures.profiles.enrichment import border_niches, enrich_types
from stdistill._measures.profiles.exemplars import pick_apart, top_two
from stdistill._measures.profiles.morphology import compare_measures, sample_of_each
from stdistill._measures.profiles.names import suggest_names
from stdistill._measures.profiles.profile import COLUMNS, NicheProfile
from stdistill._support.arrays import Float64s, Floats, Integers, Rows
from stdistill._support.checks import check_integer
from stdistill._table import schema
from stdistill._table.checks import get_centers, get_counts, get_table, is_spatialdata
from stdistill._table.graph import graph_key, graph_radius, has_graph, read_graph
from stdistill._table.labels import CELL_TYPE_HINT, NICHE_SUFFIX, read_labels, read_split, split_group
from stdistill._table.libraries import find_library_key, library_codes, warn_of_overlap
from stdistill._table.niches import logit_columns, niche_names, read_logits
from stdistill._table.profiles.markers import FEWEST_CELLS, rank_markers
from stdistill._table.profiles.shape import measure_shapes

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

MEASURED = 5000
"""Nuclei of a niche that are looked at, at most."""
NUCLEUS_UM = 3.0
"""Haematoxylin is that within so many µm of a centre, where there is no column of it."""
DENSITY_UM = 50.0
"""Cells are counted within so many µm."""
APART_UM = 100.0
"""Typical cells, and borderline ones, lie further apart than this, where there are enough."""


class Sampled(NamedTuple):
    """What is measured of the cells that were drawn."""

    rows: Rows
    measures: dict[str, Float64s]
    sources: dict[str, str]


def niche_profile(
    data: AnnData | SpatialData,
    *,
    niche_key: str,
    cell_type_key: str | None = None,
    layer: str | None = None,
    n_markers: int | None = 25,
    n_cells: int = 12,
    library_key: str | None = None,
    split_key: str | None = schema.SPLIT,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    seed: int = 0,
    table_key: str = schema.TABLE,
) -> NicheProfile:
    """Describe each niche by its marker genes, cell types, nuclei, neighbours, and typical and borderline cells.

    Parts for which something is missing, such as the counts of a slide of H&E alone, are empty, and the result says
    why.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with cell centres in µm in ``.obsm["spatial"]`` and niches.
    niche_key
        Categorical column of ``.obs`` with the niches.
    cell_type_key
        Categorical column of ``.obs`` with the cell types. By default ``cell_type``, where there is one.
    layer
        Layer with the raw counts; by default ``.X``. They are normalised in a copy.
    n_markers
        Genes of each niche that are returned, of those that it has more of than the rest; `None`: all genes, whichever
        way.
    n_cells
        Typical cells, and borderline cells, of each niche.
    library_key
        Column of ``.obs`` that names each cell's slide, for the density of cells. By default that of the
        neighbourhoods, else the regions that the table annotates, when there are several.
    split_key
        Column of ``.obs`` of the split, if there is one: markers are of the training cells, so that they can be tested
        on the others. All other parts are of all cells with a niche. Without, or with `None`, markers are of all cells.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image. It is read for the
        haematoxylin of tables that have no column of it.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    seed
        Of the choice of nuclei that are measured.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    A :class:`~stdistill.results.NicheProfile`: the frames ``summary``, ``markers``, ``cell_types``,
    ``morphology``, ``neighbors`` and ``cells``, each with a column ``niche``; ``sources`` of the morphology;
    ``absent``, the parts that are empty, and why; and ``names``, a suggestion for each niche. ``profile["7"]`` is the
    same of one niche, and printed it is text. Nothing is written: niches are renamed by
    ``adata.obs[niche_key] = adata.obs[niche_key].cat.rename_categories(profile.names)``.

    Raises
    ------
    KeyError
        When the table, a column, the layer or the coordinate system is not there.
    TypeError
        When a column is not categorical, or a number is none.
    ValueError
        When a column is missing for every cell, `layer` holds no counts, no cell is for training, or cells and H&E do
        not share `coordinate_system`.

    See Also
    --------
    stdistill.pl.niche_card : draw the profile of a niche.
    stdistill.tl.composition : cell types of niches as one matrix.

    Notes
    -----
    Markers: Welch's t of log-normalised counts against the cells of all other niches, by
    :func:`scanpy.tl.rank_genes_groups`. Cells that lie together are no independent witnesses, and the niches were often
    made of the same counts: p and q order genes, and are no evidence (*Niche profiles* in the documentation).

    Enrichment, here of cell types against the slide and of neighbours against the sizes of the other niches, is the
    binary logarithm of what is counted over what is expected, with one added to both. Neighbours are counted by squidpy
    on the neighbourhoods that there are.

    Nuclei are those of the table's columns (:func:`stdistill.pp.detect_nuclei`), of the outlines
    ``"nucleus_boundaries"``, or of the outlines or masks that the table annotates, which may be of whole cells:
    ``sources`` says which. Haematoxylin (Ruifrok & Johnston 2001) is the column, or what is within 3 µm of the centre;
    density is of the cells within 50 µm. At most 5,000 cells of a niche are measured, at random. The margin is that of
    the two largest logits. Typical cells are those with the largest, which lie more than 100 µm apart. All of this,
    and the rules by which names are suggested, is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> cells = ad.AnnData(rng.poisson(1, (400, 3)).astype(float), obsm={"spatial": rng.uniform(0, 500, (400, 2))})
    >>> cells.var_names = ["CD3E", "COL1A1", "ACTB"]
    >>> left = cells.obsm["spatial"][:, 0] < 250
    >>> cells.X[left, 0] += rng.poisson(3, left.sum())
    >>> cells.obs["niche"] = np.where(left, "1", "2")
    >>> cells.obs["cell_type"] = np.where(left & (rng.random(400) < 0.6), "T cells", "fibroblasts")
    >>> cells.strings_to_categoricals()
    >>> profile = sd.tl.niche_profile(cells, niche_key="niche")
    >>> profile.names
    {'1': 'T cells', '2': 'fibroblasts'}
    >>> profile["1"].markers["gene"].tolist()
    ['CD3E']
    >>> sorted(profile.absent)
    ['cells', 'haematoxylin', 'neighbors', 'shape']
    """
    check_integer(n_cells, "n_cells", minimum=0)
    check_integer(seed, "seed", minimum=0)
    if n_markers is not None:
        check_integer(n_markers, "n_markers", minimum=1)
    table = get_table(data, table_key)
    labels = read_labels(table, niche_key, "niche_key")
    centers = get_centers(table)
    check_room(centers)
    absent: dict[str, str] = {}
    markers, n_training = _find_markers(table, labels, layer, split_key, n_markers, absent)
    cell_types = _find_types(table, labels, cell_type_key, absent)
    sampled = _measure(data, labels, centers, library_key, image_key, coordinate_system, seed, table_key, absent)
    confidence = _confidence(table, niche_key)
    sizes = np.bincount(labels.codes[labels.known], minlength=len(labels.names))
    medians = pd.Series(confidence[labels.known]).groupby(labels.codes[labels.known]).median()
    summary = pd.DataFrame(
        {
            "niche": labels.names,
            "n_cells": sizes,
            "share": sizes / sizes.sum(),
            "n_training": n_training,
            "confidence": medians.reindex(range(len(sizes))).to_numpy(np.float64),
            "name": pd.Series(suggest_names(labels.names, cell_types, markers), dtype=object),
        }
    )
    logger.info("Described the %d niches of .obs[%r]; absent: %s.", len(sizes), niche_key, ", ".join(absent) or "none")
    return NicheProfile(
        niche_key=niche_key,
        summary=summary,
        markers=markers,
        cell_types=cell_types,
        morphology=compare_measures(sampled.measures, labels, sampled.rows),
        neighbors=_find_neighbors(table, labels, niche_key, sizes, absent),
        cells=_find_cells(table, labels, niche_key, centers, confidence, n_cells, absent),
        sources=sampled.sources,
        absent=absent,
    )


def _find_markers(
    table: AnnData,
    labels: Labels,
    layer: str | None,
    split_key: str | None,
    n_markers: int | None,
    absent: dict[str, str],
) -> tuple[pd.DataFrame, Integers]:
    """Rank genes on the training cells, and count these."""
    split = read_split(table, split_key)
    cells = np.ones(table.n_obs, dtype=bool) if split is None else split_group(split, schema.TRAIN)
    empty = pd.DataFrame(columns=COLUMNS["markers"])
    sizes = np.bincount(labels.codes[cells & labels.known], minlength=len(labels.names))
    if layer is None and (table.X is None or not table.n_vars):
        absent["markers"] = "the table has no counts"
        return empty, sizes
    try:
        counts = get_counts(table, layer, "markers need")
    except ValueError as error:
        if layer is not None:
            raise
        absent["markers"] = str(error)
        return empty, sizes
    markers, used = rank_markers(counts, table.var_names, labels, cells, n_markers)
    if markers.empty:
        absent["markers"] = f"they need two niches, and {FEWEST_CELLS} cells with counts in one"
    return markers, used


def _find_types(table: AnnData, labels: Labels, key: str | None, absent: dict[str, str]) -> pd.DataFrame:
    if key is None and schema.CELL_TYPE not in table.obs:
        absent["cell_types"] = f"there is no .obs[{schema.CELL_TYPE!r}]: name a column with cell_type_key="
        return pd.DataFrame(columns=COLUMNS["cell_types"])
    types = read_labels(table, key or schema.CELL_TYPE, "cell_type_key", CELL_TYPE_HINT)
    counts = cross_table(labels, types, np.ones(table.n_obs, dtype=bool))
    if not counts.sum():
        absent["cell_types"] = f"no cell has both a niche and a type in .obs[{key or schema.CELL_TYPE!r}]"
        return pd.DataFrame(columns=COLUMNS["cell_types"])
    return enrich_types(counts, labels.names, types.names)


def _measure(
    data: AnnData | SpatialData,
    labels: Labels,
    centers: Float64s,
    library_key: str | None,
    image_key: str | Mapping[str, str],
    coordinate_system: str | None,
    seed: int,
    table_key: str,
    absent: dict[str, str],
) -> Sampled:
    """Measure nuclei and density of some cells of each niche."""
    table = get_table(data, table_key)
    rows = sample_of_each(labels, MEASURED, seed)
    measures: dict[str, Float64s] = {}
    sources: dict[str, str] = {}
    shapes = measure_shapes(data, rows, table_key)
    if shapes is None:
        absent["shape"] = "the table holds no areas, and annotates neither outlines nor masks"
    else:
        measures, sources = dict(shapes[0]), dict.fromkeys(shapes[0], shapes[1])
    if "haematoxylin" in table.obs:
        measures["haematoxylin"] = pd.to_numeric(table.obs["haematoxylin"].iloc[rows]).to_numpy(np.float64)
        sources["haematoxylin"] = '.obs["haematoxylin"]'
    elif is_spatialdata(data) and _images(image_key) <= set(data.images):
        try:
            measures["haematoxylin"] = _haematoxylin(data, centers, rows, image_key, coordinate_system, table_key)
            sources["haematoxylin"] = f"the H&E within {NUCLEUS_UM:g} µm of the centre"
        except (KeyError, ValueError) as error:  # it is not known where the cells lie on it
            if coordinate_system is not None:
                raise
            absent["haematoxylin"] = str(error.args[0])
    else:
        absent["haematoxylin"] = "there is no column of it, and no H&E"
    library_key = find_library_key(table, library_key)
    if library_key is None:
        warn_of_overlap(table, centers, "Density and neighbours are of all of them: name the slides, library_key=.")
    libraries = library_codes(table, library_key)
    measures["density_per_mm2"] = cells_per_mm2(centers, libraries, rows, DENSITY_UM)
    sources["density_per_mm2"] = f"cells within {DENSITY_UM:g} µm"
    return Sampled(rows, measures, sources)


def _images(image_key: str | Mapping[str, str]) -> set[str]:
    return {image_key} if isinstance(image_key, str) else set(image_key.values())


def _haematoxylin(
    data: SpatialData,
    centers: Float64s,
    rows: Rows,
    image_key: str | Mapping[str, str],
    coordinate_system: str | None,
    table_key: str,
) -> Float64s:
    """Measure the haematoxylin around centres, at the resolution that nuclei are looked at."""
    import shapely

    from stdistill._features.nuclei import WORKING_MPP, measure_haematoxylin
    from stdistill._slide.glass import background_color
    from stdistill._slide.pyramid import level_for
    from stdistill._table.he.images import slide_levels
    from stdistill._table.he.placement import he_frames
    from stdistill._table.he.placement_checks import check_placement

    values = np.full(len(rows), np.nan)
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(data, frames, table_key)
    for frame in frames:
        here = np.flatnonzero(np.isin(rows, frame.cells))
        levels = slide_levels(data.images[frame.image_key], frame.image_key)
        level = level_for(levels, WORKING_MPP / frame.mpp)
        radius = NUCLEUS_UM / (frame.mpp * float(level.factor.mean()))
        discs = shapely.buffer(shapely.points(frame.to_px(centers[rows[here]]) / level.factor), radius, quad_segs=4)
        values[here] = measure_haematoxylin(level, discs, background=background_color(levels))
    return values


def _find_neighbors(
    table: AnnData, labels: Labels, niche_key: str, sizes: Integers, absent: dict[str, str]
) -> pd.DataFrame:
    """Count neighbours of niches by squidpy's interaction matrix, each pair both ways."""
    if not has_graph(table):
        absent["neighbors"] = "there are no neighbourhoods: run sd.pp.neighborhoods"
        return pd.DataFrame(columns=COLUMNS["neighbors"])
    read_graph(table)  # checks it
    try:
        graph_radius(table)
    except ValueError as error:  # of squidpy's nearest neighbours, or triangles: borders would be other lengths
        absent["neighbors"] = str(error)
        return pd.DataFrame(columns=COLUMNS["neighbors"])
    import squidpy as sq

    pairs = sq.gr.interaction_matrix(table, niche_key, connectivity_key=graph_key(table), copy=True)
    return border_niches(np.asarray(pairs, dtype=np.float64), sizes, labels.names)


def _confidence(table: AnnData, niche_key: str) -> Floats:
    """Return the confidence of the model that the niches are of; NaN where there is none."""
    column = f"{niche_key.removesuffix(NICHE_SUFFIX)}{schema.CONFIDENCE_SUFFIX}"
    if not niche_key.endswith(NICHE_SUFFIX) or column not in table.obs:
        return np.full(table.n_obs, np.nan)
    return np.asarray(pd.to_numeric(table.obs[column]), dtype=np.float64)


def _find_cells(
    table: AnnData,
    labels: Labels,
    niche_key: str,
    centers: Float64s,
    confidence: Floats,
    n_cells: int,
    absent: dict[str, str],
) -> pd.DataFrame:
    """Pick typical and borderline cells, by the margin of the logits or else by the confidence."""
    key = niche_key.removesuffix(NICHE_SUFFIX)
    margin, second = np.full(table.n_obs, np.nan), np.full(table.n_obs, None, dtype=object)
    if niche_key.endswith(NICHE_SUFFIX) and logit_columns(table, key):
        logits = read_logits(table, key)
        margin, places = top_two(logits)
        second = np.array(niche_names([table], key, logits.shape[1]), dtype=object)[places]
    scores = margin if np.isfinite(margin).any() else confidence
    if not np.isfinite(scores[labels.known]).any():
        absent["cells"] = f"there are neither logits nor confidence of {niche_key!r}"
        return pd.DataFrame(columns=COLUMNS["cells"])
    found: list[dict[str, Any]] = []
    for code, niche in enumerate(labels.names):
        rows = np.flatnonzero((labels.codes == code) & np.isfinite(scores))
        for kind, sign in (("typical", 1), ("borderline", -1)):
            for row in rows[pick_apart(sign * scores[rows], centers[rows], n_cells, APART_UM)]:
                place = {"niche": niche, "kind": kind, "cell": table.obs_names[row], "margin": margin[row]}
                found.append({**place, "confidence": confidence[row], "second": second[row]})
    return pd.DataFrame(found, columns=COLUMNS["cells"])
