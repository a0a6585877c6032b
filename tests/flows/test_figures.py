from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from spatialdata import SpatialData

from stdistill._flows.figures import draw_methods

TITLES = {"teacher_niche": "Teacher", "student_niche": "Student", "he_leiden_niche": "Leiden"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved; those that other tests left open are closed."""
    plt.close("all")
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: figures.append(self) or save(self, *args, **kwargs)
    )
    return figures


@pytest.mark.parametrize("with_image", [True, False])
def test_panels_and_legend(
    make_slide: Callable[..., SpatialData], drawn: list[Figure], tmp_path: Path, with_image: bool
) -> None:
    slide = make_slide()
    table = slide["table"]
    for seed, key in enumerate(TITLES):
        niches = np.random.default_rng(seed).choice(["a", "b", None], table.n_obs)
        table.obs[key] = pd.Categorical(niches, categories=["a", "b"])
        table.uns[f"{key}_colors"] = ["#ff0000", "#0000ff"]
    draw_methods(slide if with_image else table, TITLES, tmp_path / "niches")
    assert {path.name for path in tmp_path.iterdir()} == {"niches.png", "niches.pdf"}
    height, width = plt.imread(tmp_path / "niches.png").shape[:2]
    assert min(height, width) > 2 * 300  # two rows, or three columns, of more than an inch at 300 dpi
    figure = drawn[0]
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == [*(["H&E"] * with_image), *TITLES.values()]
    (legend,) = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]  # one for all panels
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "no niche"]
    assert [to_hex(line.get_color()) for line in legend.get_lines()] == ["#ff0000", "#0000ff", "#dddddd"]
    assert not plt.get_fignums()  # none is left open
