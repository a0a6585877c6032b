"""What a GPU computes: that all of it runs there, and gives what a CPU gives. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

import stdistill as sd
from stdistill._features.embedder import EmbeddingRun, embed
from stdistill._features.store import FeatureStore
from stdistill._formats.slides.open import open_slide
from stdistill._graph.radius_graph import radius_graph
from stdistill._slide.plan import Slide, plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._training.arguments import DEFAULTS
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.fit_student import train_student
from stdistill.models.niche.fit_teacher import train_teacher
from stdistill.models.niche.model import NicheModel
from stdistill.models.niche.self_distillation import Centering

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

K, RADIUS_UM = 3, 60.0
SIZE = {"width": 64, "depth": 2, "n_heads": 4, "n_frequencies": 3, "dropout": 0.1}
ARGUMENTS = {**DEFAULTS, "batch_size": 64, "learning_rate": 3e-3, "max_epochs": 8, "progress_bar": False}


@pytest.fixture
def data() -> Neighborhoods:
    """Three bands of tissue, told by two features in some noise."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(0, 600, (1000, 2))
    graph, _ = radius_graph(centers, RADIUS_UM, np.zeros(1000, dtype=np.int64))
    features = rng.normal(size=(1000, 5))
    features[:, :2] += 1.5 * np.array([[1, 0], [-1, 1], [0, -1]])[bands(centers)]
    return Neighborhoods(features.astype(np.float16), graph.indptr, graph.indices, centers, RADIUS_UM)


def bands(centers: np.ndarray) -> np.ndarray:
    return np.searchsorted([200, 400], centers[:, 0])


@pytest.mark.parametrize("mpp_factor", [1.0, 0.6])
def test_features_are_those_of_a_cpu(mpp_factor: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (75, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    tifffile.imwrite(tmp_path / "he.tif", pixels, tile=(128, 128), photometric="rgb")
    level = SlideLevel(open_slide(tmp_path / "he.tif").levels[0], np.ones(2))
    origins = rng.integers(-50, 400, (40, 2))
    side = round(224 * mpp_factor)
    plan = plan_crops(level, np.arange(40), origins, side)
    encoders = [sd.encoders.get("texture"), sd.encoders.get("vit_tiny_patch16_224", weights="random")]

    def features(accelerator: str, precision: Any) -> np.ndarray:
        folder = tmp_path / f"{accelerator}-{precision}"
        white = np.full(3, 255, dtype=np.uint8)
        names = plan.order.astype(str)
        run = EmbeddingRun([Slide(plan, white)], encoders, side, precision, 16, folder, {}, names, False)
        embed(run, accelerator=accelerator, devices=1, num_nodes=1, strategy="auto")
        return FeatureStore(folder).features(FeatureStore(folder).cell_ids).astype(np.float32)

    expected = features("cpu", "float32")
    np.testing.assert_allclose(features("cuda", "float32"), expected, atol=0.01 * np.abs(expected).max())
    for precision in ("bfloat16", "float16"):
        found = features("cuda", precision)
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_student(data: Neighborhoods, precision: str, n_workers: int) -> None:
    n = len(data)
    size = {**SIZE, "head": "linear"}
    student = train_student(
        data,
        np.zeros(n, dtype=np.int64),
        bands(data.centers),
        np.ones(n, dtype=bool),
        k=K,
        size=size,
        temperature=None,
        patience=3,
        arguments={**ARGUMENTS, "accelerator": "cuda", "precision": precision, "n_workers": n_workers},
    )
    card = ModelCard("distillation", K, "X_he", 5, RADIUS_UM, list("abc"), list("abc"), size)
    model = NicheModel(student.network, card, pd.DataFrame())
    on_gpu, on_cpu = (
        model.predict(data.features, data.indptr, data.indices, data.centers, device=device)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-2, atol=1e-2)
    assert (on_gpu.argmax(axis=1) == bands(data.centers)).mean() > 0.9


def test_equal_runs_give_equal_bits(data: Neighborhoods) -> None:
    arguments = {**ARGUMENTS, "max_epochs": 2, "accelerator": "cuda", "precision": "bf16-mixed"}
    libraries, everywhere = np.zeros(len(data), dtype=np.int64), np.ones(len(data), dtype=bool)
    size = {**SIZE, "head": "prototypes"}
    teachers = [
        train_teacher(data, libraries, everywhere, k=K, size=size, centering="centering", arguments=arguments)
        for _ in range(2)
    ]
    one, other = (teacher.network.state_dict() for teacher in teachers)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("centering", get_args(Centering))
def test_teacher(data: Neighborhoods, centering: Centering) -> None:
    teacher = train_teacher(
        data,
        np.zeros(len(data), dtype=np.int64),
        np.ones(len(data), dtype=bool),
        k=K,
        size={**SIZE, "head": "prototypes"},
        centering=centering,
        arguments={**ARGUMENTS, "accelerator": "cuda"},
    )
    with torch.inference_mode():
        niches = teacher.network.cpu()(data.batch(data.tokens(np.arange(len(data))))).argmax(dim=1).numpy()
    table = pd.crosstab(niches, bands(data.centers)).to_numpy()
    assert table.max(axis=0).sum() / len(data) > 0.8
