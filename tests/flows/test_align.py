"""What is to be right before hours are spent on an alignment."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stdistill._flows import align
from stdistill._flows.align import Asked, _check_tested, _concatenate, _Slide, _suffixed, align_slides
from stdistill._runs.folder import Run
from stdistill._runs.prepare import Machine, Source

ASKED = Asked("texture", 256, 0.5, 5, ("micro", "meso", "macro"), "stochastic", None, None, 0)


def slide_of(suffix: str = "", **tables: ad.AnnData) -> _Slide:
    return _Slide(SimpleNamespace(tables=tables), suffix)  # type: ignore[arg-type]


def table_of(genes: list[str], n: int = 3, **obs: Any) -> ad.AnnData:
    counts = np.arange(n * len(genes), dtype=np.float32).reshape(n, len(genes))
    names = [f"cell-{i}" for i in range(n)]
    return ad.AnnData(counts, obs=pd.DataFrame(obs, index=names), var=pd.DataFrame(index=genes))


def test_without_a_folder() -> None:
    """It takes hours: what comes out is to be kept. Nothing is read before that is said."""
    run = Run(None, command="align", parameters={})
    with pytest.raises(ValueError, match="An alignment is kept in a folder: name one for the run"):
        align_slides(run, [Source("nowhere")], ASKED, Machine())  # type: ignore[arg-type]


def test_tables_are_put_together_by_gene() -> None:
    """Those that all have, in whatever order; cells of one name stay apart, and each knows its slide."""
    one, other = table_of(["A", "B", "C"]), table_of(["C", "X", "B"])
    joined = _concatenate([one, other])
    assert joined.var_names.tolist() == ["B", "C"]
    assert joined.obs_names.is_unique
    assert joined.obs["slide"].tolist() == ["0"] * 3 + ["1"] * 3
    np.testing.assert_array_equal(joined.X[:3], one[:, ["B", "C"]].X)
    np.testing.assert_array_equal(joined.X[3:], other[:, ["B", "C"]].X)
    with pytest.raises(ValueError, match=r"The slides have no gene in common; they have \[3, 1\] genes"):
        _concatenate([one, table_of(["Y"])])


def test_tiles_to_test_on_are_needed_before_anything_is_fitted() -> None:
    """Of one of the slides at least."""

    def tiles(*groups: str) -> ad.AnnData:
        return table_of(["A"], len(groups), split=pd.Categorical(groups))

    untested, tested = slide_of(tiles=tiles("train", "train")), slide_of(tiles=tiles("train", "test"))
    _check_tested([untested, tested])
    for slides in ([untested], [untested, slide_of(tiles=table_of(["A"], 5))]):
        n = sum(one.tiles.n_obs for one in slides)
        with pytest.raises(ValueError, match=rf"None of the {n} tiles lies in the strip.*\(--tile-px, --mpp\)"):
            _check_tested(slides)


@pytest.mark.parametrize(("suffix", "expected"), [("", {"n_cells": 3}), ("_1", {"n_cells_1": 3})])
def test_facts_of_several_slides_have_names_of_their_own(suffix: str, expected: dict[str, int]) -> None:
    assert _suffixed(slide_of(suffix), {"n_cells": 3}) == expected


@pytest.mark.parametrize("n", [1, 2])
def test_one_latent_for_all_slides(n: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained once on all of them, with the slides as batches, and applied to each; a folder that is there is used."""
    calls: list[dict[str, Any]] = []

    def embed(table: ad.AnnData, **how: Any) -> None:
        calls.append({"n": table.n_obs, **how})
        if "save" in how:
            how["save"].mkdir()

    monkeypatch.setattr(align.pp, "embed_expression", embed)
    slides = [slide_of(f"_{number}", table=table_of(["A", "B"], 4 + number)) for number in range(n)]
    folder = tmp_path / "X_scVI"
    align._embed_expression(slides, folder, ASKED._replace(seed=3, expression_epochs=7), Machine("cpu"))
    trained, *applied = calls
    assert trained["n"] == [4, 9][n - 1]
    assert trained["library_key"] == [None, "slide"][n - 1]
    assert (trained["seed"], trained["max_epochs"], trained["accelerator"]) == (3, 7, "cpu")
    assert applied == [{"n": 4 + number, "model": folder} for number in range(n)]
    calls.clear()
    align._embed_expression(slides, folder, ASKED, Machine("cpu"))
    assert calls == applied


def test_an_encoder_is_looked_for_before_features_are_made(
    make_cells: Callable[..., ad.AnnData], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = table_of(["A"], 2, split=pd.Categorical(["train", "test"]))
    slide = slide_of(table=make_cells(5), tiles=tiles)
    monkeypatch.setattr(align, "_read", lambda *_: slide)
    run = Run(tmp_path / "out", command="align", parameters={})
    with pytest.raises(KeyError, match="nobody"):
        align_slides(run, [Source(tmp_path)], ASKED._replace(encoder="nobody"), Machine())
    assert not (tmp_path / "out").exists()
