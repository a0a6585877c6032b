from __future__ import annotations

import gc
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from spatialdata import SpatialData

REPOSITORY = Path(__file__).parents[1]
STAINED = np.array([150, 80, 140], dtype=np.uint8)[:, None, None]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin each test, and the fixtures that it is the first to ask for, with one thread, whatever the last one left.

    The bits of a training depend on how many threads there are.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def keep_what_is_loaded() -> None:
    """Do not look for garbage, again and again, among what packages and earlier tests have left in memory to stay.

    After some hundred tests these are millions of objects, and compiling a function took four times as long.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let what was kept go in the usual order."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides: ``shared/data`` beside the checkout, or where ``STDISTILL_SHARED_DATA`` says."""
    folder = Path(os.environ.get("STDISTILL_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set STDISTILL_SHARED_DATA)")
    return folder


@pytest.fixture
def make_cells() -> Callable[..., ad.AnnData]:
    """A table of cells at random or given places."""

    def make(centers: Any = 200, *, extent: float = 1000.0, seed: int = 0, **obs: Any) -> ad.AnnData:
        if isinstance(centers, int):
            centers = np.random.default_rng(seed).uniform(0, extent, (centers, 2))
        centers = np.asarray(centers)
        names = pd.Index([f"cell-{i}" for i in range(len(centers))])
        counts = np.ones((len(centers), 2), dtype=np.float32)
        return ad.AnnData(counts, obs=pd.DataFrame(obs, index=names), obsm={"spatial": centers})

    return make


@pytest.fixture
def make_slide(make_cells: Callable[..., ad.AnnData]) -> Callable[..., SpatialData]:
    """A SpatialData as the reader makes it, of any element kind, with an H&E placed by an affine map.

    `he_to_global` maps H&E pixels to morphology pixels of `pixel_size` µm.
    """

    def make(
        centers: Any = 60,
        *,
        kind: str = "circles",
        he_to_global: Any = None,
        pixel_size: float = 0.2125,
        shape: tuple[int, int] = (400, 300),
        extent: float = 60.0,
        seed: int = 0,
    ) -> SpatialData:
        from shapely import box
        from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel
        from spatialdata.transformations import Affine, Identity, Scale

        adata = make_cells(centers, extent=extent, seed=seed)
        um = adata.obsm["spatial"]
        names = adata.obs_names.to_numpy()
        to_px = {"global": Scale([1 / pixel_size] * 2, axes=("x", "y"))}
        region, instances = "cells", names
        if kind == "circles":
            element = ShapesModel.parse(um, geometry=0, radius=2.0, index=names, transformations=to_px)
        elif kind == "polygons":
            from geopandas import GeoDataFrame

            squares = [box(x - 1, y - 1, x + 1, y + 1) for x, y in um]
            element = ShapesModel.parse(GeoDataFrame(geometry=squares, index=names), transformations=to_px)
        else:
            # Squares of 3 × 3 pixels around pixel centres: their centroids are known exactly.
            side = int(np.ceil(um.max() / pixel_size)) + 4
            raster = np.zeros((side, side), dtype=np.int32)
            instances = np.arange(1, len(um) + 1)
            column, row = np.floor(um / pixel_size).astype(int).T
            for label, x, y in zip(instances, column, row, strict=True):
                raster[y - 1 : y + 2, x - 1 : x + 2] = label
            element = Labels2DModel.parse(raster, dims=("y", "x"), transformations={"global": Identity()})
        adata.obs["region"] = pd.Categorical([region] * len(um))
        adata.obs["instance"] = instances
        table = TableModel.parse(adata, region=region, region_key="region", instance_key="instance")
        matrix = np.eye(3) if he_to_global is None else np.asarray(he_to_global, dtype=float)
        large = max(shape) > 1000  # only its shape is asked for
        pixels = (
            da.broadcast_to(STAINED, (3, *shape), chunks=(3, 4096, 4096))
            if large
            else np.random.default_rng(seed).integers(0, 255, (3, *shape), dtype=np.uint8)
        )
        axes = ("x", "y")
        he = Image2DModel.parse(
            pixels, dims=("c", "y", "x"), transformations={"global": Affine(matrix, input_axes=axes, output_axes=axes)}
        )
        return SpatialData.init_from_elements({region: element, "he": he, "table": table})

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated Xenium bundle with its H&E; shared by all tests, which must not write to it."""
    import stdistill as sd

    return sd.datasets.simulate_xenium(tmp_path_factory.mktemp("simulated") / "outs", n_cells=800, seed=1)


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy of `bundle` that a test may spoil. Nothing is linked: what writes in place would spoil the shared one."""
    return Path(shutil.copytree(bundle, tmp_path / "outs"))


@pytest.fixture(scope="module")
def narrow() -> Iterator[dict[str, int]]:
    """Narrow networks where no size is asked for, and their size; for tests of how well they learn it is too small."""
    from stdistill.models.niche.arguments import SIZES

    size = {"width": 16, "depth": 1, "n_heads": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "small", size)
        yield size


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without token and weights."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's client waits before it tries again


@pytest.fixture
def attempts(no_weights: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Such a machine without network: connections to anywhere else are refused and listed."""
    attempts: list[Any] = []

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **keywords: Any) -> Any:
            address = next(a for a in arguments if not isinstance(a, socket.socket))
            host = address[0] if isinstance(address, tuple) else address
            if host not in {"127.0.0.1", b"127.0.0.1"}:
                attempts.append(address)
                msg = f"no network in tests: {address}"
                raise OSError(msg)
            return original(*arguments, **keywords)

        return guarded

    monkeypatch.setattr(socket.socket, "connect", guard(socket.socket.connect))
    monkeypatch.setattr(socket, "getaddrinfo", guard(socket.getaddrinfo))
    return attempts


@pytest.fixture
def cache_weights(attempts: list[Any], tmp_path: Path) -> Callable[..., Path]:
    """Put a file of weights (some bytes) where the hub's client keeps what it downloaded."""

    def cache(repository: str, content: bytes = b"weights") -> Path:
        commit = "c0ffee" + 34 * "0"
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        weights = folder / "snapshots" / commit / "pytorch_model.bin"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(content)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
        return weights

    return cache


@pytest.fixture
def uni2_h_on_disk(cache_weights: Callable[..., Path]) -> str:
    """Weights of UNI2-h among what the hub's client downloaded; returns their revision."""
    cache_weights("MahmoodLab/UNI2-h")
    return "sha256-9a129038d9a00aed"
