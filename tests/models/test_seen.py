from __future__ import annotations

import numpy as np

from stdistill.models.seen import recall, to_tensors


def test_what_a_model_keeps() -> None:
    seen = np.array([-(2**62), 5, 2**62])
    again = recall(to_tensors(seen))
    assert again is not None
    np.testing.assert_array_equal(again, seen)
    assert again.dtype == np.int64
    assert recall(to_tensors(None)) is None
