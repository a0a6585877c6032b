from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stdistill._runs.evaluation import Asked, Evaluation
from stdistill._runs.tables import format_tables

AGREEMENT = pd.DataFrame({"method": ["Ours"], "k": [10], "ari": [0.5], "gain": [0.25], "nmi": [0.625]})
COMPOSITION = pd.DataFrame({"method": ["Ours"], "k": [10], "jsd": [0.0052], "share_random": [0.5]})
PROBE = pd.DataFrame({"method": ["Ours"], "k": [10], "macro_f1": [0.75]})
STEPS = pd.DataFrame({"step": ["teacher"], "seconds": [1.5], "ended": ["2026-01-01"]})


@pytest.mark.parametrize(
    ("options", "expected"), [({}, False), ({"label_key": "region"}, True), ({"polygons": Path("a.geojson")}, True)]
)
def test_annotations_that_are_asked_for(options: dict, expected: bool) -> None:
    asked = Asked((10,), **options)
    assert asked.has_annotations is expected
    defaults = {"label_key": None, "polygons": None, "polygons_unit": "px"}
    assert asked.annotations == defaults | options


def test_measures_that_there_are() -> None:
    """In the order of the paper, with none for what was not asked for."""
    alone = Evaluation(AGREEMENT, STEPS)
    assert list(alone.tables) == ["agreement"]
    whole = Evaluation(AGREEMENT, STEPS, pathology_probe=PROBE, composition_jsd=COMPOSITION)
    assert list(whole.tables) == ["agreement", "composition_jsd", "pathology_probe"]
    assert whole.tables["pathology_probe"] is PROBE


def test_as_text_it_is_the_tables() -> None:
    whole = str(Evaluation(AGREEMENT, STEPS, COMPOSITION, PROBE))
    assert whole == format_tables(AGREEMENT, COMPOSITION, PROBE)
    first, second, third = (block.splitlines() for block in whole.split("\n\n"))
    assert first[-1].split() == ["Ours", "0.500", "0.250", "0.625"]
    assert second[-1].split() == ["Ours", "0.0052", "50.0000"]  # per cent
    assert third[-1].split() == ["Ours", "0.750"]
    assert str(Evaluation(AGREEMENT, STEPS)) == "\n".join(first)
