"""Notebooks set things for all of torch, which must change neither results nor how long a training lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import stdistill as sd
from stdistill._training.state import own_torch_state, tensor_cores

FAST: dict[str, Any] = {"width": 16, "depth": 1, "n_heads": 2, "max_epochs": 2, "progress_bar": False}
FAST |= {"accelerator": "cpu"}


@contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def elsewhere() -> Iterator[None]:
    before = torch.get_default_device()
    torch.set_default_device("meta")
    yield
    torch.set_default_device(before)  # after `None` Lightning finds no device in torch 2.5


def state() -> tuple[Any, ...]:
    device = torch.empty(0).device
    return torch.get_default_dtype(), device, torch.is_grad_enabled(), torch.is_inference_mode_enabled()


SETTINGS = pytest.mark.parametrize("setting", [doubles, elsewhere, torch.no_grad, torch.inference_mode])


@SETTINGS
def test_it_is_that_of_torch_and_put_back(setting: Callable[[], AbstractContextManager[Any]]) -> None:
    shipped = state()
    with setting():
        before = state()
        assert before != shipped
        with own_torch_state():
            assert state() == shipped
        assert state() == before


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_of_a_gpu_are_put_back(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with tensor_cores():
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has one setting only")
def test_who_chose_for_cuda_alone_is_left_alone() -> None:
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        products.fp32_precision = "tf32"  # torch then refuses to read its older setting
        with tensor_cores():
            assert products.fp32_precision == "tf32"
        assert products.fp32_precision == "tf32"
    finally:
        products.fp32_precision = before


def fit(folder: Path) -> list[np.ndarray]:
    """Of what trains, is saved, loaded and applied: what it says of 120 cells."""
    rng = np.random.default_rng(0)
    cells = ad.AnnData(np.zeros((120, 1)), obsm={"spatial": rng.uniform(0, 150, (120, 2))})
    cells.obsm["X_he"] = (cells.obsm["spatial"] / 50 + rng.normal(size=(120, 2))).astype(np.float16)
    cells.obs["half"] = pd.Categorical(np.where(cells.obsm["spatial"][:, 0] < 75, "left", "right"))
    sd.pp.neighborhoods(cells, radius_um=30)
    sd.pp.abundances(cells, cell_type_key="half")
    sd.tl.nolan(cells, k=2, use_rep="X_he", **FAST)
    student = sd.tl.distill(cells, k=2, **FAST)
    student.save(folder)
    sd.tl.predict(cells, folder, key_added="again")
    sd.tl.decompose(cells, max_epochs=2, progress_bar=False, accelerator="cpu")
    logits = [sd.get.logits(cells, key).to_numpy() for key in ("teacher", "student", "again")]
    return [*logits, cells.obsm["he_abundance"]]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    return fit(tmp_path_factory.mktemp("models") / "student")


@pytest.mark.filterwarnings("ignore:The slide is too small", "ignore:Cells have")
@SETTINGS
def test_models_have_the_same_bits(
    setting: Callable[[], AbstractContextManager[Any]], usual: list[np.ndarray], tmp_path: Path
) -> None:
    with setting():
        found = fit(tmp_path / "student")
    for one, other in zip(usual, found, strict=True):
        np.testing.assert_array_equal(one, other)


@SETTINGS
def test_features_are_the_same(setting: Callable[[], AbstractContextManager[Any]], make_slide: Any) -> None:
    def make() -> np.ndarray:
        slide = make_slide()
        sd.pp.embed_he(slide, encoder="texture", crop_px=32, device="cpu")
        return slide["table"].obsm["X_he"]

    expected = make()
    with setting():
        found = make()
    np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("setting", [doubles, elsewhere])
def test_nuclei_are_the_same(setting: Callable[[], AbstractContextManager[Any]], bundle: Path) -> None:
    image = next(bundle.glob("*he_image.ome.tif"))
    usual, found = sd.pp.read_slide(image), sd.pp.read_slide(image)
    sd.pp.detect_nuclei(usual, device="cpu")
    with setting():
        sd.pp.detect_nuclei(found, device="cpu")
    np.testing.assert_array_equal(usual["table"].obsm["spatial"], found["table"].obsm["spatial"])


def test_threads_come_in_one_after_the_other() -> None:
    """Else the second would take what the first has set for the user's, and leave it behind."""
    with doubles(), ThreadPoolExecutor(1) as other:
        with own_torch_state():
            waiting = other.submit(lambda: own_torch_state()(state)())
            with own_torch_state(), pytest.raises(TimeoutError):  # the same thread may come in again
                waiting.result(0.1)
        dtype, *_ = waiting.result(10)
        assert (dtype, torch.get_default_dtype()) == (torch.float32, torch.float64)


def test_models_fitted_by_several_threads_have_the_bits_of_one() -> None:
    def fit_student(_: int) -> np.ndarray:
        rng = np.random.default_rng(0)
        cells = ad.AnnData(np.zeros((400, 1)), obsm={"spatial": rng.uniform(0, 150, (400, 2))})
        cells.obsm["X_he"] = rng.normal(size=(400, 4)).astype(np.float16)
        cells.obs["half"] = pd.Categorical(np.where(cells.obsm["spatial"][:, 0] < 75, "left", "right"))
        sd.tl.distill(cells, teacher_key="half", **FAST | {"dropout": 0.5, "max_epochs": 3})
        return sd.get.logits(cells, "student").to_numpy()

    alone = fit_student(0)
    with ThreadPoolExecutor(3) as threads:
        for found in threads.map(fit_student, range(3)):
            np.testing.assert_array_equal(found, alone)


def test_latents_fitted_by_several_threads_have_the_bits_of_one() -> None:
    def fit_latent(_: int) -> np.ndarray:
        cells = ad.AnnData(np.random.default_rng(0).poisson(1.0, (200, 20)))
        sd.pp.embed_expression(cells, max_epochs=2, accelerator="cpu")
        return cells.obsm["X_scVI"]

    alone = fit_latent(0)
    with ThreadPoolExecutor(3) as threads:
        for found in threads.map(fit_latent, range(3)):
            np.testing.assert_array_equal(found, alone)
