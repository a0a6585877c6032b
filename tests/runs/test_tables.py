from __future__ import annotations

import pandas as pd
import pytest

from stdistill._runs.tables import format_recall, format_tables


def test_shape_of_the_papers_tables() -> None:
    """Methods down and numbers of niches across, in the order given; those of the paper's Tables 1 and 2."""
    methods = ["Histology NOLAN", "Histology Leiden", "Ours"]
    agreement = pd.DataFrame(
        {
            "method": methods * 2,
            "k": [20] * 3 + [10] * 3,
            "ari": [0.234, 0.176, 0.5, 0.283, 0.191, 0.615],
            "gain": [0, -0.076, 0.347, 0, -0.128, 0.463],
            "nmi": [0.403, 0.327, 0.579, 0.383, 0.288, 0.603],
            "n_cells": 7,
        }
    )
    ovary = pd.DataFrame(
        {"method": methods, "k": 10, "jsd": [0.0557, 0.075, 0.0052], "share_random": [0, 0.0001, 0.0002]}
    )
    first, second = (block.splitlines() for block in format_tables(agreement, ovary, None).split("\n\n"))
    assert [line.split() for line in first[1:]] == [
        ["K", "=", "20", "K", "=", "10"],
        ["ARI", "gain", "NMI"] * 2,
        ["Histology", "NOLAN", "0.234", "0.000", "0.403", "0.283", "0.000", "0.383"],
        ["Histology", "Leiden", "0.176", "-0.076", "0.327", "0.191", "-0.128", "0.288"],
        ["Ours", "0.500", "0.347", "0.579", "0.615", "0.463", "0.603"],
    ]
    assert [line.split()[-2:] for line in second[3:]] == [
        ["0.0557", "0.0000"],
        ["0.0750", "0.0100"],
        ["0.0052", "0.0200"],
    ]


@pytest.mark.parametrize("slides", [["0"], ["0", "1"]])
def test_recall_of_both_directions_with_chance_below(slides: list[str]) -> None:
    rows = [
        (method, slide, direction, p, value + p / 100, p / 100)
        for method, value in (("aligned", 0.5), ("CCA", 0.25))
        for slide in slides
        for direction in ("he_to_expression", "expression_to_he")
        for p in (5, 12.5)
    ]
    recall = pd.DataFrame(rows, columns=["method", "slide", "direction", "p", "recall", "chance"])
    lines = [line.split() for line in format_recall(recall).splitlines()]
    assert lines[0] == ["H&E", "to", "expression", "expression", "to", "H&E"]
    assert lines[1] == ["5", "%", "12.5", "%"] * 2
    one = [
        ["aligned", "0.550", "0.625", "0.550", "0.625"],
        ["CCA", "0.300", "0.375", "0.300", "0.375"],
        ["chance", "0.050", "0.125", "0.050", "0.125"],
    ]
    if len(slides) == 1:
        assert lines[2:] == one
    else:
        assert lines[2:] == [["0", *one[0]], *one[1:], ["1", *one[0]], *one[1:]]
