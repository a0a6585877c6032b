"""The page for those without Xenium: its table of what functions need names what they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData

import stdistill as sd

PAGE = Path(__file__).parents[2] / "notebooks" / "without_xenium.ipynb"
NAMESPACES = {"pp": sd.pp, "tl": sd.tl, "io": sd.io}
ELSEWHERE = {"pp.read_xenium", "pp.read_slide", "pp.attach_slide", "tl.evaluate"}
"""These read files, or call all others."""
MakeSlide = Callable[..., SpatialData]


@pytest.fixture(scope="module")
def page() -> str:
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture
def slide(make_slide: MakeSlide) -> SpatialData:
    """Cells and image in a system of their own, with nothing of a Xenium slide."""
    return make_slide(400, extent=60.0)


def test_every_function_is_in_the_table(page: str) -> None:
    named = set(re.findall(r"`((?:pp|tl|io|get|pl)\.\w+)`", page))
    public = {f"{space}.{name}" for space, module in NAMESPACES.items() for name in module.__all__}
    assert public - ELSEWHERE - named == set()
    assert {name for name in named if name.split(".")[0] in NAMESPACES} - public - ELSEWHERE == set()


@pytest.mark.parametrize(
    ("function", "needed"),
    [
        (sd.pp.split_strips, "spatial"),
        (sd.pp.neighborhoods, "spatial"),
        (sd.pp.embed_he, "spatial"),
        (sd.get.he_pixels, "spatial"),
        (partial(sd.tl.leiden, k=2), "X_he"),
    ],
)
def test_a_key_that_is_missing_is_named(slide: SpatialData, function: Any, needed: str) -> None:
    slide["table"].obsm.pop(needed, None)
    with pytest.raises(KeyError, match=re.escape(needed)):
        function(slide)


def test_a_student_needs_features(slide: SpatialData) -> None:
    slide["table"].obs["pathologist"] = pd.Categorical(["a", "b"] * 200)
    with pytest.raises(KeyError, match="X_he"):
        sd.tl.distill(slide["table"], teacher_key="pathologist")


def test_without_an_image_strips_need_a_scale(slide: SpatialData) -> None:
    del slide.images["he"]
    with pytest.raises(ValueError, match="mpp"):
        sd.pp.split_strips(slide)
    sd.pp.split_strips(slide, mpp=0.1, crop_px=20)
    assert set(slide["table"].obs["split"]) == {"train", "test", "buffer"}


def test_elements_without_a_shared_system_are_refused(slide: SpatialData) -> None:
    from spatialdata.transformations import Identity, set_transformation

    set_transformation(slide.images["he"], {"elsewhere": Identity()}, set_all=True)
    with pytest.raises(ValueError, match="share no coordinate system"):
        sd.get.he_pixels(slide)


def test_counts_are_needed_for_the_latent() -> None:
    with pytest.raises(ValueError, match="no count"):
        sd.pp.embed_expression(ad.AnnData(np.full((20, 3), 0.5)))
