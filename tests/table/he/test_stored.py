from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import spatialdata

from stdistill._table.he.stored import write_without_images


def test_all_but_the_images(make_slide: Callable, tmp_path: Path) -> None:
    slide = make_slide(30)
    slide.attrs["mine"] = [1, 2]
    write_without_images(slide, tmp_path / "cells.zarr")
    read = spatialdata.read_zarr(tmp_path / "cells.zarr")
    assert {name for _, name, _ in read.gen_elements()} == {"cells", "table"}
    assert read.attrs["mine"] == [1, 2]
    assert read["table"].n_obs == 30
    assert list(slide.images) == ["he"]  # and the slide is as it was
    assert slide.path is None


def test_what_was_there_is_replaced_when_all_is_written(make_slide: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "cells.zarr"
    write_without_images(make_slide(30), folder)
    write_without_images(make_slide(20), folder)
    assert spatialdata.read_zarr(folder)["table"].n_obs == 20
    broken = make_slide(10)
    broken["table"].uns["no"] = object()
    with pytest.raises(Exception, match="no"):
        write_without_images(broken, folder)
    assert spatialdata.read_zarr(folder)["table"].n_obs == 20
    assert [path.name for path in tmp_path.iterdir()] == ["cells.zarr"]
