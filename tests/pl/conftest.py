from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.testing.compare import compare_images
from packaging.version import Version

BASELINES = Path(__file__).parent / "baselines"
TOLERANCE = 6
"""Root mean square of the difference, of 255: room for another rendering of letters."""
LETTERS_SINCE = Version("3.11")
"""Before it matplotlib draws letters of other sizes, with an older FreeType: its pictures cannot be compared."""


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    with mpl.rc_context({"figure.max_open_warning": 0}):
        yield
    plt.close("all")


@pytest.fixture
def check_image(tmp_path: Path) -> Callable[[str], None]:
    """Compare the current figure with a stored one; delete that to draw it anew, and look at it."""

    def check(name: str) -> None:
        drawn, baseline = tmp_path / f"{name}.png", BASELINES / f"{name}.png"
        plt.gcf().savefig(drawn, dpi=50, bbox_inches="tight", metadata={"Software": None})
        if not baseline.exists():
            shutil.copy(drawn, baseline)
            pytest.fail(f"{baseline} was not there and was drawn: look at it, and run again")
        if Version(mpl.__version__) < LETTERS_SINCE:
            return
        difference = compare_images(str(baseline), str(drawn), tol=TOLERANCE)
        assert difference is None, difference

    return check


@pytest.fixture
def slide() -> ad.AnnData:
    """Four bands of niches; the student errs on some cells and has no prediction for others."""
    rng = np.random.default_rng(0)
    n = 600
    adata = ad.AnnData(np.zeros((n, 1), dtype=np.float32), obsm={"spatial": rng.uniform(0, (400, 300), (n, 2))})
    names = ["0", "1", "2", "3"]
    teacher = (adata.obsm["spatial"][:, 0] // 100).astype(int)
    student = np.where(rng.random(n) < 0.1, rng.integers(0, 4, n), teacher)
    student[:20] = -1
    adata.obs["teacher_niche"] = pd.Categorical.from_codes(teacher, names)
    adata.obs["student_niche"] = pd.Categorical.from_codes(student, names)
    adata.obs["student_confidence"] = np.where(student < 0, np.nan, rng.uniform(0.4, 1, n))
    adata.obs["cell_type"] = pd.Categorical.from_codes((teacher + rng.integers(0, 2, n)) % 5, list("ABCDE"))
    return adata
