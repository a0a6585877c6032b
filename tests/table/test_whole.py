from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest

from stdistill._table.provenance.whole import warn_of_other_cells, warn_of_part
from stdistill._table.records import write_record


def embedded(n: int, seed: int = 0) -> ad.AnnData:
    """Cells of a slide whose features are recorded."""
    cells = ad.AnnData(np.zeros((n, 1)), obsm={"X_he": np.random.default_rng(seed).normal(size=(n, 3))})
    cells.obsm["spatial"] = np.random.default_rng(seed).uniform(0, 500, (n, 2))
    write_record(cells, "embed_he", encoder="texture", key_added="X_he", n_cells=n, fingerprint=f"{seed:x}")
    return cells


def warned_of(*tables: ad.AnnData, use_rep: str = "X_he", library_key: str | None = None) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_other_cells(tables, use_rep, library_key)
    return [str(one.message) for one in found]


def test_a_part_of_a_slide() -> None:
    cells = embedded(200)
    (message,) = warned_of(cells, cells[:179].copy())
    assert "179 cells, and .obsm['X_he'] was computed of 200: it is a part of a slide" in message
    assert "predict the whole slide" in message


def test_a_slide_from_which_a_few_cells_were_filtered() -> None:
    assert warned_of(embedded(200)[:180].copy()) == []


@pytest.mark.parametrize("others", [200, 150])
def test_slides_in_one_table(others: int) -> None:
    """Of slides as large as each other the record keeps the number of one of them, of others none."""
    parts = {"a": embedded(200), "b": embedded(others, seed=1)}
    both = ad.concat(parts, label="slide", index_unique="-", uns_merge="same")
    (message,) = warned_of(both)
    assert "nothing tells their slides apart" in message
    assert "library_key=" in message
    assert warned_of(both, library_key="slide") == []


def test_nothing_is_known_of_features_without_a_record() -> None:
    cells = embedded(200)
    del cells.uns["stdistill"]
    assert warned_of(cells) == []
    assert warned_of(embedded(200)[:50].copy(), use_rep="X_other") == []


def test_what_is_said_of_a_slide_is_said_of_a_part_of_it() -> None:
    cells = embedded(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_part(cells, "X_he")
        warn_of_part(cells[:180].copy(), "X_he")
        warn_of_part(cells[:50].copy(), "X_other")
    with pytest.warns(UserWarning, match=r"179 cells, and \.obsm\['X_he'\] was computed of 200: cells were taken away"):
        warn_of_part(cells[:179].copy(), "X_he")
