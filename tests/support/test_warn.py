from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import stdistill as sd
from stdistill._formats.alignment import read_alignment


def test_warnings_point_at_the_callers_line(make_cells: Callable) -> None:
    with pytest.warns(UserWarning, match="not plausible") as caught:
        sd.pp.neighborhoods(make_cells(500), radius_um=0.01)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="mirrors") as caught:
        read_alignment(np.diag([-1.0, 1, 1]))
    assert caught[0].filename == __file__
