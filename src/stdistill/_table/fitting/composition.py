"""What composition models take from tables, and what they write to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._graph.spacing import median_spacing
from stdistill._support.arrays import Float64s, Floats, Integers, Mask
from stdistill._support.checks import check_key
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.abundances import Abundances, name_source, read_abundances, write_abundances
from stdistill._table.checks import find_split_key, get_centers, get_split
from stdistill._table.fitting.inputs import (
    check_features,
    eligible_cells,
    join_graphs,
    number_slides,
    test_cells,
    together,
    training_cells,
)
from stdistill._table.graph import decimals_apart, is_same_radius
from stdistill._table.labels import label_name, warn_of_names
from stdistill._table.libraries import find_library_key
from stdistill._table.provenance.results import fingerprint, stands_on
from stdistill._table.records import find_record

if TYPE_CHECKING:
    from stdistill._training.arguments import Standardization
    from stdistill.models.composition.folds import Tissue
    from stdistill.models.composition.model import CompositionModel
    from stdistill.models.composition.rows import FeatureRows
    from stdistill.models.features import ReadableRows

logger = logging.getLogger("stdistill")

SPACINGS = 2
"""Without neighbourhoods, places no further apart than so many median distances count as neighbours (our choice)."""


PATIENT = "patient"
SHARES_SUM = 1e-3
"""Sums of shares are no further from 1."""


class CompositionInputs(NamedTuple):
    """The rows of one or several tables, one after the other."""

    tables: list[AnnData]
    rows: FeatureRows
    centers: Float64s
    """(n, 2), µm."""
    libraries: Integers
    """(n,), number of each row's slide."""
    graph: csr_matrix | None
    radius_um: float | None
    """Of the neighbourhoods, where they are read."""
    eligible: Mask
    """(n,), the rows that get a prediction if they have features."""
    training: Mask
    """(n,), the rows to train on if they have features and abundances."""
    test: Mask

    def seen(self, standardize: Standardization) -> ReadableRows:
        """Return the features as a model sees them; by slide this reads all of them once."""
        from stdistill.models.by_slide import as_seen

        return as_seen(self.rows, self.libraries, self.rows.known, standardize)

    def divide(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Give each table its part of (n, …) values."""
        return np.split(values, np.cumsum([table.n_obs for table in self.tables[:-1]]))

    def tissue(self, use_rep: Sequence[str], target_key: str) -> Tissue:
        """Say where the rows lie, for those who hold out blocks of it.

        Rows show the same tissue where their crops overlap, where one is in the neighbourhood whose features or whose
        cells the other has, and, as spots, where they are next to each other.
        """
        from stdistill.models.composition.folds import Tissue

        spacing_um = SPACINGS * median_spacing(self.centers, self.libraries)
        reaches = [spacing_um, self.radius_um]
        for table in self.tables:
            reaches += [find_record(table, schema.FEATURE_STEPS, rep)[1].get("crop_um") for rep in use_rep]
            reaches.append(find_record(table, schema.ABUNDANCE_STEPS, target_key)[1].get("radius_um"))
        radius_um = max(float(reach) for reach in reaches if reach is not None)
        if self.graph is not None:
            edges = self.graph.indptr, self.graph.indices
        else:
            edges = np.zeros(len(self.centers) + 1, dtype=np.int32), np.zeros(0, dtype=np.int32)
        return Tissue(self.centers, self.libraries, *edges, radius_um, spacing_um)


class Taught(NamedTuple):
    """Abundances to learn."""

    values: npt.NDArray[np.float32]
    """(n, types)."""
    types: list[str]
    known: Mask
    """(n,), the rows without a NaN."""


def composition_inputs(
    tables: Sequence[AnnData],
    *,
    use_rep: Sequence[str],
    library_key: str | None,
    split_key: str | None,
    with_graph: bool,
) -> CompositionInputs:
    """Gather features of several encoders, and the graph where neighbourhoods are read."""
    from stdistill.models.composition.rows import FeatureRows

    for key in use_rep:
        check_features(tables, key)
    splits = [get_split(table, split_key) for table in tables]
    pairs = list(zip(tables, splits, strict=True))
    graph, radius_um = _joint_graph(tables, splits, library_key) if with_graph else (None, None)
    features = [together([np.asarray(table.obsm[key]) for table in tables]) for key in use_rep]
    rows = FeatureRows(features, graph)
    for key, n_known in zip(use_rep, rows.n_known, strict=True):
        if rows.known.sum() < n_known:
            logger.info(
                "%d rows have features .obsm[%r], and only %d those of all encoders.", n_known, key, rows.known.sum()
            )
    return CompositionInputs(
        tables=list(tables),
        rows=rows,
        centers=np.concatenate([get_centers(table) for table in tables]),
        libraries=number_slides(tables, library_key),
        graph=graph,
        radius_um=radius_um,
        eligible=np.concatenate([eligible_cells(table, split) for table, split in pairs]),
        training=np.concatenate([training_cells(table, split) for table, split in pairs]),
        test=np.concatenate([test_cells(table, split) for table, split in pairs]),
    )


def read_taught(tables: Sequence[AnnData], target_key: str) -> Taught:
    """Read the abundances of all tables, which must have the same types; their order is that of the first."""
    parts = [read_abundances(table, target_key, "target_key") for table in tables]
    types = parts[0].types
    for part in parts[1:]:
        if set(part.types) != set(types):
            differ = sorted(set(part.types) ^ set(types))
            msg = (
                f".obsm[{target_key!r}] has other types in some tables than in others: {', '.join(differ[:8])}. Give "
                "all the same before sd.pp.abundances: adata.obs[key] = adata.obs[key].cat.set_categories(types), or "
                "frame.reindex(columns=types, fill_value=0)."
            )
            raise ValueError(msg)
    _check_same_measure(tables, target_key, parts)
    values = [part.values[:, [part.types.index(name) for name in types]] for part in parts]
    return Taught(together(values), types, together([part.known for part in parts]))


def _check_same_measure(tables: Sequence[AnnData], target_key: str, parts: Sequence[Abundances]) -> None:
    """Raise when tables hold numbers of other sources or radii, or shares beside others: it is learned which it is."""
    sources = [name_source(table, target_key) for table in tables]
    recorded = [find_record(table, schema.ABUNDANCE_STEPS, target_key)[1].get("radius_um") for table in tables]
    radii = [float(radius) for radius in recorded if radius is not None]
    totals = [part.values[part.known].sum(axis=1) for part in parts if part.known.any()]
    # Shares of a place sum to less where rare types were left out, and to nothing where nothing was found.
    are_shares = [total.max() <= 1 + SHARES_SUM for total in totals]
    found = None
    if other := next((source for source in sources if source != sources[0]), None):
        found = f"holds {sources[0]} in one table, and {other} in another"
    elif radii and not is_same_radius(min(radii), max(radii)):
        decimals = decimals_apart(min(radii), max(radii))
        least, most = (f"{radius:.{decimals}f}" for radius in (min(radii), max(radii)))
        found = f"counts cells within {least} µm in one table, and {most} in another"
    elif any(are_shares) and not all(are_shares):
        found = (
            "holds shares, of which a place has 1 at most, in one table, and other numbers, such as percent, in another"
        )
    if found:
        msg = f".obsm[{target_key!r}] {found}: they are not one measure. Run sd.pp.abundances on all tables alike."
        raise ValueError(msg)


def number_groups(tables: Sequence[AnnData], group_key: str) -> tuple[Integers, list[str]]:
    """Give each row the number of its group, and the groups' names; one name is one group in all tables."""
    columns = []
    for table in tables:
        check_key(group_key, table.obs.columns, "a column of .obs", argument="group_key")
        column = table.obs[group_key]
        if column.isna().any():
            msg = f".obs[{group_key!r}] names no group for {column.isna().sum()} rows: fill it in, or remove them."
            raise ValueError(msg)
        codes, found = pd.factorize(column)
        columns.append(np.array([label_name(group).strip() for group in found])[codes])
    codes, names = pd.factorize(np.concatenate(columns), sort=True)
    warn_of_names(names, f".obs[{group_key!r}]")
    _warn_of_patients(tables, codes, group_key)
    return codes, list(map(str, names))


def _warn_of_patients(tables: Sequence[AnnData], codes: Integers, group_key: str) -> None:
    """Warn of patients with several groups, such as slides: what is left out is of one who is learned from."""
    if group_key == PATIENT or not all(PATIENT in table.obs for table in tables):
        return
    named = np.concatenate([table.obs[PATIENT].astype(object).to_numpy() for table in tables])
    n_groups = pd.Series(codes).groupby(pd.Series(named)).nunique()
    if n_several := int((n_groups > 1).sum()):
        warn(
            f"{n_several} of {len(n_groups)} patients have several groups of .obs[{group_key!r}], and slides of one "
            f"patient are alike: a group that is left out is of a patient who is learned from. Give "
            f"group_key={PATIENT!r}, which asks for a new patient."
        )


def write_composition(
    table: AnnData,
    step: str,
    key: str,
    mean: Floats,
    spread: Floats,
    model: CompositionModel,
    *,
    use_rep: Sequence[str],
    fitted: Mask | None,
    split_key: str | None,
    library_key: str | None,
    **params: Any,
) -> None:
    """Write what a model says of the rows of a table: abundances, how far its members disagree, what was fitted on."""
    card, sha256 = model.card, model.sha256
    stands = [stands_on(table, rep, graph=card.radius_um is not None) for rep in use_rep]
    write_abundances(
        table,
        step,
        key,
        mean,
        card.types,
        spread=spread if card.n_members > 1 else None,
        fitted=fitted,
        model=sha256,
        method=card.method,
        use_rep=list(use_rep),
        target_key=card.target_key,
        training_mean=np.asarray(card.training_mean, dtype=np.float32),
        n_members=card.n_members,
        radius_um=card.radius_um,
        model_sha256=sha256,
        fingerprint=fingerprint(np.ascontiguousarray(mean)),
        graph=stands[0]["graph"],
        features="+".join(each["features"] for each in stands) if all(each["features"] for each in stands) else None,
        crop_um=max((each["crop_um"] for each in stands if each["crop_um"] is not None), default=None),
        split_key=find_split_key(table, split_key),
        library_key=find_library_key(table, library_key),
        **params,
    )


def _joint_graph(
    tables: Sequence[AnnData], splits: Sequence[pd.Series | None], library_key: str | None
) -> tuple[csr_matrix, float]:
    indptr, indices, radius_um = join_graphs(tables, splits, library_key)
    n = len(indptr) - 1
    return csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=(n, n)), radius_um
