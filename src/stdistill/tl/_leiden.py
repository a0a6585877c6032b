"""The baseline of clustered H&E features: Leiden, at the resolution that gives k clusters on the training cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from stdistill._measures.matching import nearest_names
from stdistill._measures.principal_components import fit_components
from stdistill._measures.resolution import Flavor, search_resolution
from stdistill._support.arrays import Rows
from stdistill._support.checks import check_choice, check_integer, check_key, check_name
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import check_one_model, check_one_mpp, copy_table, find_split_key, get_table
from stdistill._table.fitting.origin import common_origin
from stdistill._table.labels import NICHE_SUFFIX, read_split, split_group
from stdistill._table.marks.labels import write_label_marks
from stdistill._table.niches import clear_niches, default_colors
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.provenance.results import add_inherited, fingerprint, stands_on, write_fitted
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

TestCells = Literal["cluster", "label"]


def leiden(
    data: AnnData | SpatialData,
    *,
    k: int,
    use_rep: str = schema.HE_FEATURES,
    key_added: str = schema.HE_LEIDEN,
    split_key: str | None = schema.SPLIT,
    test: TestCells = "cluster",
    n_neighbors: int = 15,
    n_pcs: int = 50,
    flavor: Flavor = "igraph",
    seed: int = 0,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Cluster the cells' features into k niches: the baseline to which a student is compared.

    Each cell is connected to those with the most similar features, and Leiden finds communities in that graph. The
    resolution is searched on the training cells alone, until there are `k` of them.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with features in ``.obsm``.
    k
        Number of niches.
    use_rep
        Features (n, d) in ``.obsm``. A cell with a NaN among them gets no niche.
    key_added
        Prefix of what is written.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`; the default need not be there, and is found
        under another name too. Cells of the buffer get no niche. `None` clusters all cells together.
    test
        What becomes of the test cells: ``"cluster"`` clusters them on their own at the resolution of the training
        cells, and names each cluster as the training cluster whose centre is nearest, one to one; there may be more or
        fewer than `k`. ``"label"`` gives each the niche of most of its `n_neighbors` nearest training cells.
    n_neighbors
        Number of neighbours in the graph, as in :func:`scanpy.pp.neighbors`.
    n_pcs
        Number of principal components, of the training cells, that features are reduced to when there are more.
    flavor
        The package that runs Leiden: ``"igraph"``, or ``"leidenalg"``, the authors' own, which takes some ten times as
        long.
    seed
        Of the neighbour search and of Leiden.
    table_key
        Name of the table of a SpatialData.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obs["{key_added}_niche"]``
        Categorical, ``"0"``, ``"1"``…, from the niche with the most training cells on.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that were clustered to find the resolution: the training cells, without a split all.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the clusters: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        Their colours.
    ``.uns["stdistill"]["leiden"]``
        The parameters, ``resolution``, ``n_clusters`` of the training cells (of all cells without a split) and
        ``n_clusters_test``.

    Raises
    ------
    KeyError
        When the table, the features or the split are not there.
    TypeError
        When the features are not numbers.
    ValueError
        When a group of the split has too few cells with features, the features were fitted on test cells or have larger
        crops than the split was made for, or a parameter is out of range.

    Warns
    -----
    UserWarning
        When no resolution gives `k` clusters; the nearest number is used.

    Notes
    -----
    Hizmi et al. 2026, section 5.2: Leiden on the features, "resolution was tuned on train only to match target K
    niches, then applied to test". That leaves open how; we read it as ``test="cluster"``. Graph, principal components
    and seed are our choices: scanpy's defaults. Leiden is by modularity: igraph's with two iterations, as scanpy
    recommends, leidenalg's until nothing changes. Neighbours are exact up to 50,000 cells, approximate (pynndescent)
    beyond. The resolution is doubled or halved from 1 until k lies between two, then the interval is halved.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> features = np.repeat(np.eye(3) * 9, 50, axis=0) + rng.normal(size=(150, 3))
    >>> adata = ad.AnnData(np.zeros((150, 1)), obsm={"X_he": features})
    >>> sd.tl.leiden(adata, k=3)
    >>> adata.obs["he_leiden_niche"].value_counts().tolist()
    [50, 50, 50]
    """
    check_integer(k, "k", minimum=2)
    check_integer(n_neighbors, "n_neighbors", minimum=2)
    check_integer(n_pcs, "n_pcs", minimum=1)
    check_integer(seed, "seed", minimum=0)
    check_name(key_added, "key_added")
    check_choice(test, "test", get_args(TestCells))
    check_choice(flavor, "flavor", get_args(Flavor))
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    features = _features(adata, use_rep)
    common_origin([adata], use_rep)
    check_features_unseen(adata, use_rep, split_key)
    train_cells, test_cells = _cells(adata, features, split_key, minimum=max(k, n_neighbors) + 1)
    train, held_out = _reduced(features, train_cells, test_cells, n_pcs)

    from stdistill._measures.feature_graph import FeatureGraph

    graph = FeatureGraph(train, n_neighbors, seed, flavor)
    found = search_resolution(graph.communities, k, fewest=graph.n_components)
    codes = np.full(adata.n_obs, -1, dtype=np.intp)
    codes[train_cells] = found.labels
    if held_out is not None and test_cells is not None:
        if test == "label":
            codes[test_cells] = graph.vote(held_out, found.labels)
        else:
            own = FeatureGraph(held_out, n_neighbors, seed, flavor).communities(found.resolution)
            codes[test_cells] = nearest_names(held_out, own, train, found.labels)
    n_clusters_test = None if test_cells is None else len(np.unique(codes[test_cells]))

    names = [str(code) for code in range(codes.max() + 1)]
    key = f"{key_added}{NICHE_SUFFIX}"
    fitted = np.zeros(adata.n_obs, dtype=bool)
    fitted[train_cells] = True
    fitted = add_inherited(adata, fitted, use_rep)
    clear_niches(adata, key_added)
    adata.obs[key] = pd.Categorical.from_codes(codes, categories=pd.Index(names))
    write_label_marks(adata, key_added, codes)
    made = fingerprint(codes)
    write_fitted(adata, key_added, fitted, made)
    adata.uns[f"{key}_colors"] = np.array(default_colors(len(names)), dtype=object)
    write_record(
        adata,
        "leiden",
        k=k,
        use_rep=use_rep,
        key_added=key_added,
        split_key=None if test_cells is None else find_split_key(adata, split_key),
        test=None if test_cells is None else test,
        n_neighbors=n_neighbors,
        n_pcs=n_pcs,
        flavor=flavor,
        seed=seed,
        resolution=found.resolution,
        n_clusters=found.n_clusters,
        n_clusters_test=n_clusters_test,
        fingerprint=made,
        **stands_on(adata, use_rep, graph=False),
    )
    of_test = "" if n_clusters_test is None else f", {n_clusters_test} on the test cells"
    logger.info('Wrote .obs["%s"]: %d clusters at resolution %.4g%s.', key, found.n_clusters, found.resolution, of_test)
    if found.n_clusters != k:
        warn(
            f"No resolution was found that gives k={k} clusters of the {len(train_cells)} cells. Resolution "
            f"{found.resolution:.4g} is used, with {found.n_clusters}. Another seed or n_neighbors may meet k."
        )
    return data if copy else None


def _features(adata: AnnData, use_rep: str) -> npt.NDArray[Any]:
    hint = "Compute H&E features with sd.pp.embed_he." if use_rep == schema.HE_FEATURES else None
    check_key(use_rep, adata.obsm.keys(), "a key of .obsm", argument="use_rep", hint=hint)
    check_one_model(adata, use_rep)
    check_one_mpp(adata, use_rep)
    features = np.asarray(adata.obsm[use_rep])
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        found = adata.obsm[use_rep]
        msg = (
            f".obsm[{use_rep!r}] is a {type(found).__name__} of {getattr(found, 'dtype', features.dtype)}, of shape "
            f"{found.shape}; expected a dense array of floats (n_cells, n_features)."
        )
        raise TypeError(msg)
    return features


def _cells(
    adata: AnnData, features: npt.NDArray[Any], split_key: str | None, *, minimum: int
) -> tuple[Rows, Rows | None]:
    """Return the training and the test cells that have features; all and none without a split."""
    from stdistill.models.features import known_rows

    known = known_rows(features)
    split = read_split(adata, split_key)
    groups = {"": known}
    if split is not None:
        groups = {f"{name} ": split_group(split, name) & known for name in (schema.TRAIN, schema.TEST)}
    for name, cells in groups.items():
        if cells.sum() < minimum:
            msg = f"{cells.sum()} {name}cells have features; at least {minimum} are needed for k and n_neighbors."
            raise ValueError(msg)
    rows = [np.flatnonzero(cells) for cells in groups.values()]
    return rows[0], rows[1] if len(rows) > 1 else None


def _reduced(
    features: npt.NDArray[Any], train: Rows, test: Rows | None, n_pcs: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return the features of both groups, as principal components of the training cells when there are many."""
    if features.shape[1] <= n_pcs:
        return features[train].astype(np.float32), None if test is None else features[test].astype(np.float32)
    components = fit_components(features, train, n_pcs)
    return components.project(features, train), None if test is None else components.project(features, test)
