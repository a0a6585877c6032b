from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import ttest_ind

from stdistill._measures.labels import Labels
from stdistill._table.profiles.markers import FEWEST_CELLS, rank_markers

GENES = pd.Index([f"gene-{number}" for number in range(12)])


def simulate(seed: int = 0) -> tuple[np.ndarray, Labels]:
    """Niche "a" has more of gene 3, niche "rest", whose name scanpy uses itself, more of gene 7."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1, 2], [120, 80, 100])
    rates = np.ones((300, 12))
    rates[codes == 0, 3] = 5
    rates[codes == 1, 7] = 5
    return rng.poisson(rates).astype(np.float32), Labels(codes, ["a", "rest", "c"])


def test_the_genes_of_each_niche_come_first() -> None:
    counts, labels = simulate()
    found, sizes = rank_markers(csr_matrix(counts), GENES, labels, np.ones(300, dtype=bool), 5)
    assert sizes.tolist() == [120, 80, 100]
    best = found.groupby("niche", sort=False).first()
    assert best.loc["a", "gene"] == "gene-3"
    assert best.loc["rest", "gene"] == "gene-7"
    assert (found["log2_fold_change"] > 0).all()
    assert found.groupby("niche").size().max() <= 5


def test_numbers_are_those_of_welch() -> None:
    counts, labels = simulate()
    found, _ = rank_markers(csr_matrix(counts), GENES, labels, np.ones(300, dtype=bool), None)
    assert len(found) == 36
    row = found.set_index(["niche", "gene"]).loc["a", "gene-3"]
    totals = counts.sum(axis=1, keepdims=True)
    scaled = np.log1p(counts / totals * np.median(totals))[:, 3]
    inside = labels.codes == 0
    expected = ttest_ind(scaled[inside], scaled[~inside], equal_var=False)
    assert row["score"] == pytest.approx(expected.statistic, rel=1e-3)
    assert row["share_in"] == pytest.approx((counts[inside, 3] > 0).mean())
    assert row["share_out"] == pytest.approx((counts[~inside, 3] > 0).mean())
    assert row["log2_fold_change"] == pytest.approx(
        np.log2(np.expm1(scaled[inside].mean()) / np.expm1(scaled[~inside].mean())), rel=1e-3
    )
    assert row["q"] >= row["p"]


def test_only_the_cells_asked_for_and_counts_stay_as_they_are() -> None:
    counts, labels = simulate()
    spoilt = counts.copy()
    spoilt[::2, 3] = 50
    sparse = csr_matrix(spoilt)
    before = sparse.copy()
    cells = np.arange(300) % 2 == 1
    found, sizes = rank_markers(sparse, GENES, labels, cells, 5)
    assert sizes.tolist() == [60, 40, 50]
    clean, _ = rank_markers(
        csr_matrix(counts[cells]), GENES, labels._replace(codes=labels.codes[cells]), cells[cells], 5
    )
    pd.testing.assert_frame_equal(found, clean)
    assert (sparse != before).nnz == 0


def test_dense_counts_are_no_other() -> None:
    counts, labels = simulate()
    everything = np.ones(300, dtype=bool)
    one, _ = rank_markers(csr_matrix(counts), GENES, labels, everything, 5)
    other, _ = rank_markers(counts, GENES, labels, everything, 5)
    pd.testing.assert_frame_equal(one, other)


def test_small_niches_have_none_but_count_for_the_rest() -> None:
    counts, labels = simulate()
    codes = labels.codes.copy()
    codes[codes == 2] = -1
    codes[200 : 200 + FEWEST_CELLS - 1] = 2
    found, sizes = rank_markers(counts, GENES, Labels(codes, labels.names), np.ones(300, dtype=bool), 5)
    assert sizes[2] == FEWEST_CELLS - 1
    assert set(found["niche"]) == {"a", "rest"}


def test_one_niche_has_nothing_to_be_compared_with() -> None:
    counts, labels = simulate()
    found, _ = rank_markers(counts, GENES, labels, labels.codes == 0, 5)
    assert found.empty
    empty, sizes = rank_markers(np.zeros_like(counts), GENES, labels, np.ones(300, dtype=bool), 5)
    assert empty.empty
    assert sizes.tolist() == [0, 0, 0]
