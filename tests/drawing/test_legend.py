from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
from matplotlib.lines import Line2D

from stdistill._drawing.legend import ROWS, draw_legend, legend_width


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (ROWS, 1), (ROWS + 1, 2), (2 * ROWS, 2), (2 * ROWS + 1, 3)])
def test_many_entries_go_into_further_columns(n: int, columns: int) -> None:
    names = [f"niche {number}" for number in range(n)]
    assert legend_width(names) == pytest.approx(columns * legend_width(names[:1]), rel=0.05)


def test_the_longest_name_decides() -> None:
    short, long = "B", "Cancer-associated fibroblast (12,345)"
    assert legend_width([short, long]) == legend_width([long]) > legend_width([short])


@pytest.mark.parametrize("n", [3, 40])
def test_a_legend_lies_beside_its_panel_and_has_the_room_it_asked_for(n: int) -> None:
    names = [f"Cancer-associated fibroblast {number}" for number in range(n)]
    figure, ax = plt.subplots(figsize=(20, 8), dpi=100)
    ax.set_position((0.05, 0.05, 0.2, 0.9))
    draw_legend(ax, [Line2D([], [], marker="o", linestyle="none", label=name) for name in names], handletextpad=0.1)
    figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= ax.get_window_extent().x1 - 1
    assert box.width / figure.dpi <= 1.25 * legend_width(names)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names
    plt.close(figure)
