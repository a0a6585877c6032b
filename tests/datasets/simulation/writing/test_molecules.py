"""Count matrix and transcripts, as users read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import scanpy as sc
from shapely import Point

if TYPE_CHECKING:
    from tests.datasets.conftest import SimulatedSlide


def test_counts_are_the_tally_of_transcripts(outs: SimulatedSlide) -> None:
    matrix = sc.read_10x_h5(outs.path / "cell_feature_matrix.h5", gex_only=False)
    counts = matrix.to_df()
    transcripts = pd.read_parquet(outs.path / "transcripts.parquet")
    tally = transcripts.groupby(["cell_id", "feature_name"]).size().unstack(fill_value=0)
    tally = tally.reindex(index=counts.index, columns=counts.columns, fill_value=0)
    np.testing.assert_array_equal(tally, counts)


def test_counts_are_whole_and_as_many_as_in_real_slides(outs: SimulatedSlide) -> None:
    with h5py.File(outs.path / "cell_feature_matrix.h5") as h5:
        data = h5["matrix/data"][:]
    assert np.issubdtype(data.dtype, np.integer)
    assert data.min() > 0
    assert 60 < outs.cells["transcript_counts"].median() < 250


def test_controls_have_their_own_types_and_are_rare(outs: SimulatedSlide) -> None:
    matrix = sc.read_10x_h5(outs.path / "cell_feature_matrix.h5", gex_only=False)
    totals = matrix.to_df().T.groupby(matrix.var["feature_types"], observed=True).sum().sum(axis=1)
    assert {"Gene Expression", "Negative Control Probe", "Negative Control Codeword"} <= set(totals.index)
    assert 0 < totals.drop("Gene Expression").sum() < 0.01 * totals["Gene Expression"]


def test_cell_columns_add_up(outs: SimulatedSlide) -> None:
    cells = outs.cells
    parts = cells.filter(regex="_counts$").drop(columns="total_counts")
    np.testing.assert_array_equal(parts.sum(axis=1), cells["total_counts"])
    matrix = sc.read_10x_h5(outs.path / "cell_feature_matrix.h5")
    np.testing.assert_array_equal(np.asarray(matrix.X.sum(axis=1)).ravel(), cells["transcript_counts"])


def test_molecules_lie_in_their_cell(outs: SimulatedSlide) -> None:
    transcripts = pd.read_parquet(outs.path / "transcripts.parquet").sample(3000, random_state=0)
    polygons = outs.sdata["cell_boundaries"].geometry
    inside = [
        polygons[cell].buffer(0.05).contains(Point(x, y))
        for cell, x, y in transcripts[["cell_id", "x_location", "y_location"]].itertuples(index=False)
    ]
    assert all(inside)


def test_overlaps_nucleus_says_the_truth(outs: SimulatedSlide) -> None:
    transcripts = pd.read_parquet(outs.path / "transcripts.parquet").sample(3000, random_state=1)
    nuclei = outs.sdata["nucleus_boundaries"].groupby("cell_id").geometry.agg(list)
    measured = [
        any(nucleus.contains(Point(x, y)) for nucleus in nuclei.get(cell, []))
        for cell, x, y in transcripts[["cell_id", "x_location", "y_location"]].itertuples(index=False)
    ]
    # A few lie on an edge, where rounding decides.
    assert np.mean(transcripts["overlaps_nucleus"].astype(bool) == measured) > 0.995
    assert 0.3 < transcripts["overlaps_nucleus"].mean() < 0.95


def test_quality_is_that_of_counted_molecules(outs: SimulatedSlide) -> None:
    transcripts = pd.read_parquet(outs.path / "transcripts.parquet")
    assert transcripts["transcript_id"].is_unique
    assert transcripts["qv"].between(20, 40).all()


def test_markers_separate_types_that_look_the_same(outs: SimulatedSlide) -> None:
    matrix = sc.read_10x_h5(outs.path / "cell_feature_matrix.h5").to_df()
    cell_type = outs.truth["cell_type"].to_numpy()
    genes = [gene for gene in ("MS4A1", "CD79A", "CD79B", "CD19", "CD37", "BANK1", "PAX5") if gene in matrix]
    b_cells = matrix.loc[cell_type == "B cell", genes].to_numpy().mean()
    t_cells = matrix.loc[cell_type == "CD4 T cell", genes].to_numpy().mean()
    assert b_cells > 4 * t_cells
