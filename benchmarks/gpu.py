"""What share of a GPU's peak the encoder and the niche models reach.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --quick

The peak is that of a product of two random matrices of 8192 × 8192 in bfloat16, measured in the same run. Of the
encoder (UNI2-h's architecture with random weights, unless `--encoder` names another) it times the network alone, on
crops that are on the GPU, and what `sd.pp.embed_he` runs: a slide of JPEG tiles is read, its crops are cut, encoded and
stored; then the same of the encoder's dense features, of which each tile is counted once. The slide is that of
`read_crops.py`. Of the niche models it times the network alone, on batches that are on the GPU; whole epochs of student
and teacher, and predictions, from the features in memory; and the niches of a slide of `--n-largest` cells. A sample is
predicted on the CPU as well. Operations are counted of tokens that there are, not of padding.

It takes torch, timm, lightning, scikit-learn, scipy, numba, dask, tifffile and imagecodecs, and none of anndata,
spatialdata, scanpy and squidpy, so that it runs on a bare machine. `--quick` is a short run for any machine, of a small
encoder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from niche_models import N_FEATURES, K, make_cells
from read_crops import CROP, SHARED_DATA, WHITE, read_by_windows, write_slide
from tissue import tissue
from torch import Tensor
from torch.nn import functional
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

import stdistill as sd
from stdistill._features.embedder import EmbeddingRun, embed
from stdistill._features.encoding import prepare, run_encoder
from stdistill._formats.slides.open import open_slide
from stdistill._graph.radius_graph import radius_graph
from stdistill._slide.plan import Slide, plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._training.sampling import BatchRequest, TileSampler, spatial_order
from stdistill.encoders import Encoder
from stdistill.models.niche.arguments import SIZES, STUDENT_DEFAULTS, TEACHER_DEFAULTS
from stdistill.models.niche.batches import Neighborhoods, TokenBatch
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.fit_student import train_student
from stdistill.models.niche.fit_teacher import train_teacher
from stdistill.models.niche.model import NicheModel
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.niche.views import ViewDataset

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISION = "bf16-mixed" if DEVICE == "cuda" else "32-true"
N_EPOCHS = 2
SLIDES = (400_000, 1_353_765)
"""Cells of the slides whose times are extrapolated."""


def seconds(call: Callable[[], Any], at_least: float) -> float:
    """Median time of a call, the device's work included, warmed up."""
    for _ in range(3):
        call()
    return Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=at_least).median


def measure_peak(side: int, at_least: float) -> float:
    """Operations per second of a product of random matrices."""
    left, right = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds(lambda: left @ right, at_least)


def peak_memory() -> str:
    """Most memory of the device that tensors have taken since this was last asked."""
    if DEVICE == "cpu":
        return "–"
    most = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return f"{most / 2**30:.1f} GiB"


def line(name: str, n: float, time_s: float, operations: float, peak: float) -> None:
    """Print how many things per second, and the share of the peak at so many operations each."""
    rate = n / time_s
    share = rate * operations / peak
    print(f"{name:<52}{rate:>10,.0f}/s{rate * operations / 1e12:>9.1f}{share:>8.1%}  {peak_memory()}", flush=True)


def compare_encoder(encoder: Encoder, peak: float, batch_sizes: list[int], at_least: float) -> float:
    """Time the network alone; return its operations per crop."""
    module = encoder.load().to(DEVICE)
    side = encoder.input_px or CROP
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(1, 3, side, side, device=DEVICE))
    operations = counter.get_total_flops()
    precision = encoder.precision if DEVICE == "cuda" else "float32"
    print(f"\n{encoder.name}: {operations / 1e9:.1f} GFLOP per crop, {precision}")
    for n in batch_sizes:
        images = prepare(torch.randint(256, (n, 3, side, side), device=DEVICE).float(), encoder)
        with torch.inference_mode():
            time_s = seconds(lambda x=images: run_encoder(encoder, module, x, precision), at_least)
        line(f"network alone, batches of {n}", n, time_s, operations, peak)
    return operations


def embed_slide(
    encoder: Encoder, level: SlideLevel, origins: npt.NDArray[np.int64], operations: float, peak: float
) -> None:
    """Time reading, cutting, encoding and storing together."""
    n_cells = len(origins)
    margin = (encoder.seen_px(CROP) - CROP) // 2

    def run(n: int) -> float:
        plan = plan_crops(level, np.arange(n), origins[:n], CROP, margin)
        names = plan.order.astype(str)
        with tempfile.TemporaryDirectory() as folder:
            slides = [Slide(plan, WHITE)]
            task = EmbeddingRun(slides, [encoder], CROP, None, None, Path(folder) / "store", {}, names, False)
            start = time.perf_counter()
            embed(task, accelerator=DEVICE, devices=1, num_nodes=1, strategy="auto")
            return time.perf_counter() - start

    few = max(1, n_cells // 200)
    run(2 * few)
    at_rest = run(few)
    time_s = run(n_cells)
    line("read, cut, encoded, stored", n_cells, time_s, operations, peak)
    print(f"    of {time_s:.1f} s {at_rest:.1f} s for weights to the device and back, with the first {few} crops")
    line("without these", n_cells - few, time_s - at_rest, operations, peak)
    print_slides("features of", (time_s - at_rest) / (n_cells - few), at_rest)


def compare_embedding(
    encoder: Encoder, image: Path, side: int, n_cells: int, peak: float, batch_sizes: list[int], at_least: float
) -> None:
    """Time the network alone, and features of a slide: reading alone, crop by crop, and dense."""
    operations = compare_encoder(encoder, peak, batch_sizes, at_least)
    origins = np.random.default_rng(0).integers(0, side - CROP, (n_cells, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.ome.tif"
        write_slide(path, side, tifffile.imread(image, key=0))
        level = SlideLevel(open_slide(path).levels[0], np.ones(2))
        print(f"{side} × {side} px, JPEG tiles, {n_cells} cells")
        start = time.perf_counter()
        read_by_windows(level, origins, cut=False)
        line("reading alone", n_cells, time.perf_counter() - start, 0, peak)
        embed_slide(encoder, level, origins, operations, peak)
        module = encoder.dense().load()
        dense = replace(encoder.dense(), load=lambda: module)
        n_tiles = (side / module.grid_px) ** 2  # type: ignore[operator]
        print(f"dense, {n_cells / n_tiles:.1f} cells a tile")
        of_tile = compare_encoder(dense, peak, batch_sizes[-1:], at_least)
        embed_slide(dense, level, origins, of_tile * n_tiles / n_cells, peak)


def print_slides(what: str, seconds_per_cell: float, start_s: float = 0.0) -> None:
    """Extrapolate to whole slides."""
    for n_cells in SLIDES:
        print(f"    extrapolated: {what} {n_cells:,} cells in {start_s + n_cells * seconds_per_cell:,.0f} s")


def niche_operations(network: NicheNetwork, batch: TokenBatch, *, backward: bool) -> float:
    """Operations for the tokens of a batch, without those that pad it."""
    n_features, width, depth = network.project.in_features, network.project.out_features, len(network.layers)
    tokens = torch.cat([block.mask.sum(dim=1) for block in batch.blocks]).double() + 1  # the class token
    n, pairs, n_centers = tokens.sum().item(), (tokens**2).sum().item(), len(tokens)
    inputs = (
        2 * len(batch.features) * n_features * width + 2 * (n - n_centers) * 4 * network.position.n_frequencies * width
    )
    layers = (depth - 1) * (24 * n * width**2 + 4 * pairs * width)
    last = 4 * n * width**2 + 4 * n * width + 20 * n_centers * width**2 + 2 * n_centers * width * K
    return (2 * inputs + 3 * (layers + last)) if backward else inputs + layers + last


def compare_niche_network(data: Neighborhoods, size: str, peak: float, batch_sizes: list[int], at_least: float) -> None:
    """Time the network alone, on batches that are on the device."""
    network = NicheNetwork(N_FEATURES, K, **SIZES[size], n_frequencies=6, dropout=0.1, head="linear").to(DEVICE)
    optimizer = torch.optim.AdamW(network.parameters())
    order = spatial_order(data.centers)

    def forward(batch: TokenBatch) -> Tensor:
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=DEVICE == "cuda"):
            return network(batch)

    def step(batch: TokenBatch) -> None:
        logits = forward(batch).float()
        functional.kl_div(logits.log_softmax(1), torch.full_like(logits, 1 / K), reduction="batchmean").backward()
        optimizer.step()
        optimizer.zero_grad()

    for n in batch_sizes:
        tiles = next(iter(TileSampler(order, batch_size=n, seed=0))).rows
        batch = data.batch(data.tokens(tiles)).to(DEVICE)
        operations = niche_operations(network, batch, backward=True) / n
        line(f"training step alone, batches of {n}", n, seconds(lambda b=batch: step(b), at_least), operations, peak)
    network.eval()
    for n in batch_sizes:
        batch = data.batch(data.tokens(order[:n])).to(DEVICE)
        operations = niche_operations(network, batch, backward=False) / n
        with torch.inference_mode():
            time_s = seconds(lambda b=batch: forward(b), at_least)
        line(f"prediction alone, batches of {n}", n, time_s, operations, peak)


def fit_student(
    data: Neighborhoods, size: str, peak: float, batch_size: int, n_workers: int, precision: str = PRECISION
) -> NicheModel:
    """Time epochs of training, without what comes before the first; return the student."""
    n = len(data)
    network_size = {**SIZES[size], "n_frequencies": 6, "dropout": 0.1, "head": "linear"}
    targets = np.random.default_rng(0).normal(size=(n, K)).astype(np.float32)

    def train(max_epochs: int) -> tuple[float, Any]:
        start = time.perf_counter()
        student = train_student(
            data,
            np.zeros(n, dtype=np.int64),
            targets,
            np.ones(n, dtype=bool),
            k=K,
            size=network_size,
            temperature=1.0,
            patience=None,
            arguments={**STUDENT_DEFAULTS, **training(batch_size, max_epochs, n_workers, precision)},
        )
        return time.perf_counter() - start, student

    short, _ = train(1)
    long, student = train(1 + N_EPOCHS)
    some = data.batch(data.tokens(spatial_order(data.centers)[:4096]))
    operations = niche_operations(student.network, some, backward=True) / len(some.centers)
    line(
        f"student, {precision}, batches of {batch_size}, {n_workers} workers",
        n,
        (long - short) / N_EPOCHS,
        operations,
        peak,
    )
    print_slides("an epoch of", (long - short) / N_EPOCHS / n)
    names = [str(niche) for niche in range(K)]
    card = ModelCard("distillation", K, "X_he", N_FEATURES, data.radius_um, names, names, network_size)
    return NicheModel(student.network, card, student.history)


def fit_teacher(data: Neighborhoods, size: str, peak: float) -> None:
    """Time epochs of the teacher's training as by default, without what comes before the first."""
    n, batch_size, precision = len(data), TEACHER_DEFAULTS["batch_size"], TEACHER_DEFAULTS["precision"]
    network_size = {**SIZES[size], "n_frequencies": 6, "dropout": 0.0, "head": "prototypes"}

    def train(max_epochs: int) -> tuple[float, Any]:
        start = time.perf_counter()
        teacher = train_teacher(
            data,
            np.zeros(n, dtype=np.int64),
            np.ones(n, dtype=bool),
            k=K,
            size=network_size,
            centering="centering",
            arguments={**TEACHER_DEFAULTS, **training(batch_size, max_epochs, 0, precision)},
        )
        return time.perf_counter() - start, teacher

    short, _ = train(1)
    long, teacher = train(1 + N_EPOCHS)
    views = ViewDataset(data)[BatchRequest(spatial_order(data.centers)[:4096], (0, 0, 0, 0))]
    operations = niche_operations(teacher.network, views.whole, backward=False)
    operations = (operations + niche_operations(teacher.network, views.parts, backward=True)) / len(views.whole.centers)
    line(
        f"teacher, {precision}, batches of {batch_size}, 0 workers",
        n,
        (long - short) / N_EPOCHS,
        operations,
        peak,
    )


def training(batch_size: int, max_epochs: int, n_workers: int, precision: str = PRECISION) -> dict[str, Any]:
    """Arguments of a training here."""
    arguments = {"batch_size": batch_size, "max_epochs": max_epochs, "n_workers": n_workers, "progress_bar": False}
    return {**arguments, "accelerator": DEVICE, "precision": precision}


def predict_niches(model: NicheModel, data: Neighborhoods, peak: float, n_largest: int) -> None:
    """Time the prediction of all cells, compare it with the CPU's, and time that of a large slide."""

    def predict(cells: Neighborhoods, chosen: Any = None, device: str = DEVICE) -> Any:
        return model.predict(cells.features, cells.indptr, cells.indices, cells.centers, cells=chosen, device=device)

    few = spatial_order(data.centers)[:2048]
    some = data.batch(data.tokens(few))
    operations = niche_operations(model.network, some, backward=False) / len(some.centers)
    predict(data, few)
    start = time.perf_counter()
    found = predict(data)[few]
    time_s = time.perf_counter() - start
    line("prediction", len(data), time_s, operations, peak)
    expected = predict(data, few, "cpu")[few]
    difference = np.abs(found - expected).max() / expected.std()
    same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    print(f"    beside the CPU: logits within {difference:.1e} of their spread, {same:.2%} of the niches are the same")
    large = enlarge(data, n_largest)
    start = time.perf_counter()
    predict(large)
    line(f"features to niches, {n_largest:,} cells", n_largest, time.perf_counter() - start, operations, peak)


def enlarge(data: Neighborhoods, n_cells: int) -> Neighborhoods:
    """Make a larger tissue, whose cells have the features of this one's, again and again."""
    features = np.resize(np.asarray(data.features), (n_cells, N_FEATURES))
    centers = tissue(n_cells)
    graph, _ = radius_graph(centers, data.radius_um, np.zeros(n_cells, dtype=np.int64))
    return Neighborhoods(features, graph.indptr, graph.indices, centers, data.radius_um)


def main() -> None:
    """Measure the peak, then the shares of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run for any machine")
    parser.add_argument("--encoder", default="uni2-h")
    parser.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    parser.add_argument("--n-crops", type=int, default=40_000)
    parser.add_argument("--n-cells", type=int, default=200_000)
    parser.add_argument("--n-largest", type=int, default=1_353_765)
    parser.add_argument("--n-workers", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.encoder = "vit_tiny_patch16_224"
        arguments.n_crops, arguments.n_cells, arguments.n_largest, arguments.n_workers = 20, 300, 600, 0
    at_least, side = (0.1, 2048) if arguments.quick else (2.0, 12_000)
    batches, cells = ([4], [32]) if arguments.quick else ([64, 256], [256, 4096, 16_384])
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else f"no GPU, {torch.get_num_threads()} threads"
    peak = measure_peak(256 if arguments.quick else 8192, at_least)
    print(f"{card}, torch {torch.__version__}; bfloat16 product: {peak / 1e12:.3f} TFLOP/s")
    print(f"{'':<52}{'rate':>12}{'TFLOP/s':>9}{'share':>8}  memory")
    encoder = sd.encoders.get(arguments.encoder, weights="random")
    module = encoder.load()
    encoder = replace(encoder, load=lambda: module)
    compare_embedding(encoder, arguments.image, side, arguments.n_crops, peak, batches, at_least)
    data = make_cells(arguments.n_cells)
    size = "small" if arguments.quick else "base"
    print(f"\nNiche networks, size={size!r}, {N_FEATURES} features, {data.indptr[-1] / len(data):.1f} neighbours")
    compare_niche_network(data, size, peak, cells, at_least)
    large = 32 if arguments.quick else 4096
    usual = STUDENT_DEFAULTS["batch_size"]
    few = make_cells(arguments.n_cells // 8)
    fit_student(few, size, peak, usual, 0, STUDENT_DEFAULTS["precision"])
    fit_teacher(few, size, peak)
    for n_workers in sorted({0, arguments.n_workers}):
        model = fit_student(data, size, peak, large, n_workers)
    predict_niches(model, data, peak, arguments.n_largest)


if __name__ == "__main__":
    main()
