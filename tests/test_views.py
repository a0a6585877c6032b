"""What is written to a view of a table is in the object that was passed, as if it had been a table of its own."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stdistill as sd

FAST = {"width": 16, "depth": 1, "n_heads": 2, "n_frequencies": 3, "max_epochs": 1, "progress_bar": False}
PARTS = ("obs", "obsm", "obsp", "uns")

pytestmark = pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")


def make(n: int = 500) -> ad.AnnData:
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 600, (n, 2))
    band = (centers[:, 0] > 300).astype(int)
    cells = ad.AnnData(rng.poisson(1 + 3 * np.eye(2)[band].repeat(5, axis=1)).astype("float32"))
    cells.obs_names = [f"cell-{number}" for number in range(n)]
    cells.obsm["spatial"] = centers
    cells.obsm["X_he"] = (np.eye(2)[band] + rng.normal(0, 0.5, (n, 2))).astype("float16")
    cells.obs["region"] = pd.Categorical(np.array(["left", "right"])[band])
    return cells


def keys(cells: ad.AnnData) -> set[tuple[str, str]]:
    records = {("record", key) for key in cells.uns.get("stdistill", {})}
    return {(part, key) for part in PARTS for key in getattr(cells, part)} | records


def test_every_step_of_a_table() -> None:
    """Each is given a view of what the steps before it left, and a copy of that view."""
    student: list[sd.models.NicheModel] = []
    steps = {
        "split_strips": lambda cells: sd.pp.split_strips(cells, crop_px=40, mpp=0.5),
        "neighborhoods": lambda cells: sd.pp.neighborhoods(cells, n_neighbors=15),
        "abundances": lambda cells: sd.pp.abundances(cells, cell_type_key="region"),
        "embed_expression": lambda cells: sd.pp.embed_expression(cells, max_epochs=1),
        "nolan": lambda cells: sd.tl.nolan(cells, k=2, **FAST),
        "distill": lambda cells: student.append(sd.tl.distill(cells, k=2, **FAST)),
        "predict": lambda cells: sd.tl.predict(cells, student[-1]),
        "leiden": lambda cells: sd.tl.leiden(cells, k=2, n_neighbors=8),
        "match_niches": lambda cells: sd.tl.match_niches(
            cells, reference_key="teacher_niche", key="he_leiden_niche", rename=True
        ),
        "choose_k": lambda cells: sd.tl.choose_k(cells, ks=(2, 3), n_runs=2, max_epochs=1, width=16, depth=1),
    }
    cells = make()
    for name, step in steps.items():
        view = cells[np.arange(cells.n_obs) % 50 > 0] if name == "split_strips" else cells[:]
        copy, parent = view.copy(), cells.copy()
        assert view.is_view
        before = keys(copy)
        step(view)
        step(copy)
        assert keys(view) == keys(copy), name
        assert keys(view) >= before
        assert keys(cells) == keys(parent), name  # the table behind the view stays as it is
        for part in ("obs", "obsm"):
            for key in getattr(copy, part):
                pd.testing.assert_frame_equal(
                    pd.DataFrame(np.asarray(getattr(view, part)[key])),
                    pd.DataFrame(np.asarray(getattr(copy, part)[key])),
                    rtol=1e-5,
                    obj=f"{name} {part} {key}",
                )
        cells = view


def test_every_step_of_a_slide(bundle: Path) -> None:
    slide, copy = (sd.pp.read_xenium(bundle) for _ in range(2))
    for one in (slide, copy):
        part = one["table"][np.arange(one["table"].n_obs) % 2 == 0]
        one.tables["table"] = part if one is slide else part.copy()
    for step in (
        lambda data: sd.pp.quality(data),
        lambda data: sd.pp.split_strips(data, crop_px=40),
        lambda data: sd.pp.embed_he(data, encoder="texture", crop_px=40),
        lambda data: sd.pp.tissue_share(data),
    ):
        step(slide)
        step(copy)
        assert keys(slide["table"]) == keys(copy["table"])
    np.testing.assert_array_equal(slide["table"].obsm["X_he"], copy["table"].obsm["X_he"])
    assert slide["table"].obs["he_focus"].notna().any()
