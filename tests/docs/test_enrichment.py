"""The page on squidpy's enrichment: its code runs, and what it says of missing niches is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import squidpy as sq

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "enrichment.md"
NICHES = "he_leiden_niche"


@pytest.fixture(scope="module")
def run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page's code leaves, with the slide of the tests in the place of a new one."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code, n = re.subn(r"sd\.datasets\.simulate_xenium\(.*?\)", repr(str(bundle)), code)
    assert n == 1
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"figure.max_open_warning": 0}):
        patch.chdir(tmp_path_factory.mktemp("page"))
        exec(compile(code, PAGE.name, "exec"), names)
    return names


def test_niches_are_beside_themselves(run: dict[str, Any]) -> None:
    assert run["zscore"].shape == (4, 4)
    assert run["zscore"].argmax(axis=1).tolist() == [0, 1, 2, 3]  # a niche of few cells need not be above 0
    assert np.median(np.diag(run["zscore"])) > 0


def test_no_edge_is_lost_with_the_buffer(run: dict[str, Any]) -> None:
    whole = run["slide"]["table"]
    assert 0 < run["cells"].n_obs < whole.n_obs
    assert run["cells"].obsp["spatial_connectivities"].nnz == whole.obsp["spatial_connectivities"].nnz


@pytest.mark.parametrize("function", [sq.gr.nhood_enrichment, sq.gr.co_occurrence])
def test_who_cannot_read_missing_niches(run: dict[str, Any], function: Any) -> None:
    with pytest.raises(KeyError, match="nan"):
        function(run["slide"]["table"], cluster_key=NICHES, show_progress_bar=False)


def test_who_can(run: dict[str, Any]) -> None:
    whole = run["slide"]["table"]
    for cells in (whole, run["cells"]):
        sq.gr.interaction_matrix(cells, cluster_key=NICHES)
    key = f"{NICHES}_interactions"
    np.testing.assert_array_equal(whole.uns[key], run["cells"].uns[key])
