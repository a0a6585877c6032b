from __future__ import annotations

import numpy as np
import pytest

from stdistill._measures.calibration import calibration_error, fit_temperature


def drawn(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the probabilities that they state."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, (shares.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_finds_how_much_too_sure_a_model_is(factor: float) -> None:
    logits, labels = drawn(20_000, 5, 0)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)


def test_error_of_what_is_stated_and_drawn_is_small() -> None:
    logits, labels = drawn(50_000, 4, 1)
    assert calibration_error(logits, labels) < 0.01
    assert calibration_error(logits * 3, labels) > 0.1
    assert calibration_error(logits * 3, labels, temperature=3) == pytest.approx(calibration_error(logits, labels))


def test_error_by_hand() -> None:
    """Three of four right at a confidence of 0.9, in one bin, and both right at 0.6, in another."""
    logits = np.log([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert calibration_error(logits, labels) == pytest.approx((4 * 0.15 + 2 * 0.4) / 6, abs=1e-6)


def test_scaling_never_changes_the_order() -> None:
    logits, labels = drawn(1000, 6, 2)
    temperature = fit_temperature(logits * 7, labels)
    np.testing.assert_array_equal((logits * 7 / temperature).argmax(axis=1), logits.argmax(axis=1))


def test_a_model_that_is_always_right_stays_within_bounds() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    assert 0.2 <= fit_temperature(logits, np.arange(30) % 3) < 0.21


def test_where_underflow_is_an_error() -> None:
    logits, labels = np.array([[2000.0, 0.0], [0.0, 2000.0]]), np.array([0, 1])
    with np.errstate(all="raise"):
        assert fit_temperature(logits, labels) > 0
        assert calibration_error(logits, labels) == 0
