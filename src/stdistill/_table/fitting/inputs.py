"""What the niche models take from the tables: features, graph, centres, split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import issparse

from stdistill._support.arrays import Mask
from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.checks import as_slides, check_one_model, check_one_mpp, get_centers, get_split, get_table
from stdistill._table.fitting.edges import check_edges
from stdistill._table.fitting.origin import Origin, common_origin
from stdistill._table.fitting.overlap import check_cells_apart
from stdistill._table.graph import decimals_apart, graph_radius, is_same_radius, read_graph
from stdistill._table.libraries import find_library_key, library_codes
from stdistill._table.loadings import check_one_set
from stdistill._table.provenance.checks import check_features_unseen
from stdistill._table.records import augmented_keys, read_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models.features import ReadableRows
    from stdistill.models.niche.batches import Neighborhoods

MADE_BY = {schema.HE_FEATURES: "sd.pp.embed_he", schema.EXPRESSION_LATENT: "sd.pp.embed_expression"}


class NicheInputs(NamedTuple):
    """The cells of one or several tables, one after the other."""

    tables: list[AnnData]
    features: npt.NDArray[np.floating[Any]]
    """(n, d); a row with a NaN is a cell without features."""
    augmented: list[npt.NDArray[np.floating[Any]]]
    """The same of the slides as other laboratories would show them, as often as of each table."""
    indptr: npt.NDArray[np.integer[Any]]
    """The graph in CSR form."""
    indices: npt.NDArray[np.integer[Any]]
    centers: npt.NDArray[np.float64]
    """(n, 2), µm."""
    libraries: npt.NDArray[np.integer[Any]]
    """(n,), number of each cell's slide."""
    radius_um: float
    eligible: npt.NDArray[np.bool_]
    """(n,), the cells that get a prediction if they have features: those in a group of the split, all without one."""
    test: npt.NDArray[np.bool_]
    """(n,), the cells that are for testing."""
    training: npt.NDArray[np.bool_]
    """(n,), the cells to train on: those of that group, without a split all."""

    def neighborhoods(
        self, max_tokens: int | None, *, with_augmented: bool = False, standardize: str = "training"
    ) -> Neighborhoods:
        """Make the neighbourhoods from which batches are cut; this reads all features once, by slide once more."""
        from stdistill.models.by_slide import as_seen
        from stdistill.models.features import known_rows

        known = known_rows(self.features)
        features, *augmented = (
            as_seen(look, self.libraries, known, standardize)
            for look in (self.features, *(self.augmented if with_augmented else ()))
        )
        return self._around(features, known, max_tokens, augmented)

    def neighborhoods_of_parts(self, known: Mask) -> list[Neighborhoods]:
        """Make the neighbourhoods as a model by slide sees them where parts of the slides are slides of their own.

        `known` are the cells (n,) that have features.
        """
        from stdistill.models.by_slide import parts_as_seen

        seen = parts_as_seen(self.features, self.libraries, known, self.centers)
        return [self._around(features, known, max_tokens=None) for features in seen]

    def _around(
        self, features: ReadableRows, known: Mask, max_tokens: int | None, augmented: Sequence[ReadableRows] = ()
    ) -> Neighborhoods:
        from stdistill.models.niche.batches import Neighborhoods

        return Neighborhoods(
            features,
            self.indptr,
            self.indices,
            self.centers,
            self.radius_um,
            known=known,
            max_tokens=max_tokens,
            augmented=augmented,
        )

    def divide(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Give each table its part of (n, …) values."""
        return np.split(values, np.cumsum([table.n_obs for table in self.tables[:-1]]))


def together(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Put arrays one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _augmented(table: AnnData, use_rep: str) -> list[npt.NDArray[Any]]:
    """Return the augmented features that go with those under `use_rep`, as far as they are there."""
    keys = augmented_keys(use_rep, int(read_record(table, "embed_he", use_rep).get("n_augmented", 0)))
    return [np.asarray(table.obsm[key]) for key in keys if key in table.obsm]


def get_tables(data: AnnData | SpatialData | Sequence[AnnData | SpatialData], table_key: str) -> list[AnnData]:
    """Return the table of each slide."""
    return [get_table(slide, table_key) for slide in as_slides(data)]


def check_features(tables: Sequence[AnnData], use_rep: str) -> None:
    """Raise unless every table has numeric features of one dimension under `use_rep`."""
    made_by = MADE_BY.get(use_rep)
    hint = None if made_by is None else f"Compute them with {made_by}."
    dimensions = []
    for table in tables:
        check_key(use_rep, table.obsm.keys(), "features in .obsm", argument="use_rep", hint=hint)
        features = table.obsm[use_rep]
        if issparse(features) or not hasattr(features, "dtype") or getattr(features, "ndim", 0) != 2:
            msg = f".obsm[{use_rep!r}] is a {type(features).__name__}; expected a dense array (n_cells, n_features)."
            if isinstance(features, pd.DataFrame):
                msg += f" Make it one: adata.obsm[{use_rep!r}] = adata.obsm[{use_rep!r}].to_numpy()."
            raise TypeError(msg)
        if not np.issubdtype(features.dtype, np.floating):
            msg = f".obsm[{use_rep!r}] holds {features.dtype}; expected floating point numbers."
            raise TypeError(msg)
        check_one_model(table, use_rep)
        check_one_mpp(table, use_rep)
        dimensions.append(features.shape[1])
    if len(set(dimensions)) > 1 or dimensions[0] == 0:
        msg = f".obsm[{use_rep!r}] has {dimensions} features in the tables; expected one dimension, the same in all."
        raise ValueError(msg)
    check_one_set(tables, use_rep)


def check_split(tables: Sequence[AnnData], split_key: str | None) -> None:
    """Raise unless some cell of the tables is to be trained on."""
    splits = [get_split(table, split_key) for table in tables]
    if any(training_cells(table, split).any() for table, split in zip(tables, splits, strict=True)):
        return
    known = [split for split in splits if split is not None]
    held = sorted({str(group) for split in known for group in split.dropna().unique()})
    columns = " and ".join(dict.fromkeys(f".obs[{split.name!r}]" for split in known))
    msg = (
        f"No cell is {schema.TRAIN!r} in {columns}, which holds {held}: there is nothing to train on. Run "
        "sd.pp.split_strips, or give split_key=None to train on all cells."
    )
    raise ValueError(msg)


def check_fittable(tables: Sequence[AnnData], use_rep: str, split_key: str | None) -> Origin:
    """Return where features come from; raise unless they can be fitted together, and measured on the test cells."""
    check_features(tables, use_rep)
    for table in tables:
        check_features_unseen(table, use_rep, split_key)
    return common_origin(tables, use_rep)


def fitting_inputs(
    tables: Sequence[AnnData], *, use_rep: str, library_key: str | None, split_key: str | None
) -> NicheInputs:
    """Gather what a niche model is fitted to: no cell is trained on and held out as well."""
    inputs = niche_inputs(tables, use_rep=use_rep, library_key=library_key, split_key=split_key)
    check_cells_apart(tables, use_rep, inputs.features, inputs.centers, training=inputs.training, test=inputs.test)
    return inputs


def niche_inputs(
    tables: Sequence[AnnData], *, use_rep: str, library_key: str | None, split_key: str | None
) -> NicheInputs:
    """Gather what a niche model takes from tables that have features and a graph.

    The features of a single table are not copied.
    """
    check_features(tables, use_rep)
    splits = [get_split(table, split_key) for table in tables]
    indptr, indices, radius_um = join_graphs(tables, splits, library_key)
    return NicheInputs(
        tables=list(tables),
        features=together([np.asarray(table.obsm[use_rep]) for table in tables]),
        augmented=[together(looks) for looks in zip(*(_augmented(table, use_rep) for table in tables), strict=False)],
        indptr=indptr,
        indices=indices,
        centers=np.concatenate([get_centers(table) for table in tables]),
        libraries=number_slides(tables, library_key),
        radius_um=radius_um,
        eligible=np.concatenate([eligible_cells(table, split) for table, split in zip(tables, splits, strict=True)]),
        test=np.concatenate([test_cells(table, split) for table, split in zip(tables, splits, strict=True)]),
        training=np.concatenate([training_cells(table, split) for table, split in zip(tables, splits, strict=True)]),
    )


def join_graphs(
    tables: Sequence[AnnData], splits: Sequence[pd.Series | None], library_key: str | None
) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]], float]:
    """Put the graphs of tables one after the other, as ``indptr``, ``indices`` and their radius in µm.

    Checked to be of one radius, and of the cells as they are divided now. The graph of a single table is not copied.
    """
    radii = [graph_radius(table) for table in tables]
    if not is_same_radius(min(radii), max(radii)):
        shown = [round(radius, decimals_apart(*radii)) for radius in radii]
        msg = (
            f"The neighbourhoods of the tables have the radii {shown} µm. One model needs one radius: give it to "
            "sd.pp.neighborhoods as radius_um=."
        )
        raise ValueError(msg)
    graphs = [read_graph(table) for table in tables]
    for table, split, graph in zip(tables, splits, graphs, strict=True):
        check_edges(table, graph, split, library_key, eligible_cells(table, split))
    starts = np.cumsum([0] + [graph.nnz for graph in graphs])
    rows = np.cumsum([0] + [graph.shape[0] for graph in graphs])
    indptr = np.concatenate([[0], *(g.indptr[1:] + start for g, start in zip(graphs, starts[:-1], strict=True))])
    indices = together([g.indices + row if row else g.indices for g, row in zip(graphs, rows[:-1], strict=True)])
    return indptr, indices, radii[0]


def number_slides(tables: Sequence[AnnData], library_key: str | None) -> npt.NDArray[np.integer[Any]]:
    """Give each cell of the tables the number of its slide."""
    parts: list[npt.NDArray[np.integer[Any]]] = []
    for table in tables:
        own = library_codes(table, find_library_key(table, library_key))
        parts.append(own + (int(parts[-1].max()) + 1 if parts else 0))
    return np.concatenate(parts)


def eligible_cells(table: AnnData, split: pd.Series | None) -> npt.NDArray[np.bool_]:
    """Tell which cells get a prediction: those in a group of the split, all without one."""
    if split is None:
        return np.ones(table.n_obs, dtype=bool)
    eligible: npt.NDArray[np.bool_] = (split.notna() & (split != schema.BUFFER)).to_numpy()
    return eligible


def training_cells(table: AnnData, split: pd.Series | None) -> Mask:
    """Tell which cells are to be trained on."""
    return eligible_cells(table, None) if split is None else (split == schema.TRAIN).to_numpy()


def test_cells(table: AnnData, split: pd.Series | None) -> Mask:
    return np.zeros(table.n_obs, dtype=bool) if split is None else (split == schema.TEST).to_numpy()
