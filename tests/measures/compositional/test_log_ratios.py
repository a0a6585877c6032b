from __future__ import annotations

import numpy as np

from stdistill._measures.compositional.log_ratios import centred_log_ratios


def test_by_hand() -> None:
    """Half a cell is added: log 4.5, 0.5, 0.5 over their geometric mean."""
    found = centred_log_ratios(np.array([[4, 0, 0]]))
    nine = np.log(9)
    np.testing.assert_allclose(found, [[nine * 2 / 3, -nine / 3, -nine / 3]])


def test_rows_sum_to_nothing_and_order_does_not_matter() -> None:
    counts = np.random.default_rng(0).integers(0, 500, (20, 6))
    found = centred_log_ratios(counts)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(centred_log_ratios(counts[:, ::-1]), found[:, ::-1])


def test_no_cell_says_more_on_a_larger_slide() -> None:
    small, large = centred_log_ratios(np.array([[50, 50, 0], [50_000, 50_000, 0]]))
    assert large[2] < small[2] - 4


def test_half_a_cell_leaves_little_bias() -> None:
    """Of drawn counts of 5 expected cells the mean log-ratio is met within 0.03; with a whole cell added it is not."""
    rng = np.random.default_rng(0)
    shares = np.array([0.05, 0.15, 0.3, 0.5])
    counts = rng.multinomial(100, shares, 20_000)
    truth = np.log(shares) - np.log(shares).mean()
    assert np.abs(centred_log_ratios(counts).mean(axis=0) - truth).max() < 0.03
    assert np.abs(centred_log_ratios(counts + 1).mean(axis=0) - truth).max() > 0.1
