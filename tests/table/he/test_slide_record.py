from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from spatialdata import SpatialData

from stdistill._table.he.slide_record import SlideRecord, read_slide_record, write_slide_record

RECORD = SlideRecord(
    "svs",
    image_key="he",
    mpp=0.25,
    mpp_source="MPP in the ImageDescription",
    um_to_px=np.diag([4.0, 4.0, 1.0]),
    shape=(600, 400),
    path="/slides/a.svs",
    digest="ab" * 32,
    scene=1,
    bounds=(10, 20, 300, 500),
)


def same(one: SlideRecord | None, other: SlideRecord | None) -> bool:
    assert one is not None
    assert other is not None
    return repr(one) == repr(other)


@pytest.mark.parametrize("scene", [1, "B", None])
def test_on_a_spatialdata(scene: Any) -> None:
    from dataclasses import replace

    sdata = SpatialData(attrs={"stdistill": {"other": 1}, "mine": 2})
    record = replace(RECORD, scene=scene)
    write_slide_record(sdata, record)
    assert sdata.attrs["mine"] == 2
    assert sdata.attrs["stdistill"]["other"] == 1
    sdata.attrs = json.loads(json.dumps(sdata.attrs))  # as it is stored
    assert same(read_slide_record(sdata), record)


def test_there_is_none(make_cells: Callable) -> None:
    assert read_slide_record(SpatialData()) is None
    assert read_slide_record(make_cells(5)) is None
