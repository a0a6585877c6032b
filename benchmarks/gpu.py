"""What share of a GPU's peak the encoder and the niche models reach.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --quick

The peak is that of a product of two random matrices of 8192 × 8192 in bfloat16, measured in the same run. Of the
encoder (UNI2-h's architecture with random weights, unless `--encoder` names another) it times the network alone, on
crops that are on the GPU, and what `sd.pp.embed_he` runs: a slide of JPEG tiles is read, its crops are cut, encoded and
stored. The slide is that of `read_crops.py`. Of the niche models it times the network alone, on batches that are on the
GPU, and whole epochs and predictions from the features in memory. Operations are counted of tokens that there are, not
of padding. `--quick` is a short run for any machine, of a small encoder.
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
import tifffile
import torch
from niche_models import N_FEATURES, K, make_cells
from read_crops import CROP, SHARED_DATA, WHITE, read_by_windows, write_slide
from torch import Tensor
from torch.nn import functional
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

import stdistill as sd
from stdistill._features.embedder import EmbeddingRun, embed
from stdistill._features.encoding import prepare, run_encoder
from stdistill._formats.slides.open import open_slide
from stdistill._slide.plan import Slide, plan_crops
from stdistill._slide.pyramid import SlideLevel
from stdistill._training.sampling import TileSampler, spatial_order
from stdistill.encoders import Encoder
from stdistill.models.niche.arguments import SIZES, STUDENT_DEFAULTS
from stdistill.models.niche.batches import Neighborhoods, TokenBatch
from stdistill.models.niche.card import ModelCard
from stdistill.models.niche.fit_student import train_student
from stdistill.models.niche.model import NicheModel
from stdistill.models.niche.network import NicheNetwork

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


def embed_slide(encoder: Encoder, image: Path, side: int, n_cells: int, operations: float, peak: float) -> None:
    """Time reading alone, then reading, cutting, encoding and storing together."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.ome.tif"
        write_slide(path, side, tifffile.imread(image, key=0))
        level = SlideLevel(open_slide(path).levels[0], np.ones(2))
        origins = np.random.default_rng(0).integers(0, side - CROP, (n_cells, 2))
        windows = plan_crops(level, np.arange(n_cells), origins, CROP).windows

        def run(n: int) -> float:
            plan = plan_crops(level, np.arange(n), origins[:n], CROP)
            names = plan.order.astype(str)
            store = Path(folder) / f"{n}"
            task = EmbeddingRun([Slide(plan, WHITE)], [encoder], CROP, None, None, store, {}, names, False)
            start = time.perf_counter()
            embed(task, accelerator=DEVICE, devices=1, num_nodes=1, strategy="auto")
            return time.perf_counter() - start

        few = max(1, n_cells // 200)
        run(2 * few)
        at_rest = run(few)
        print(f"{side} × {side} px, JPEG tiles, {n_cells} cells in {len(windows)} windows")
        start = time.perf_counter()
        read_by_windows(level, origins, cut=False)
        line("reading alone", n_cells, time.perf_counter() - start, 0, peak)
        time_s = run(n_cells)
        line("read, cut, encoded, stored", n_cells, time_s, operations, peak)
        print(f"    of {time_s:.1f} s {at_rest:.1f} s for weights to the device and back, with the first {few} crops")
        line("without these", n_cells - few, time_s - at_rest, operations, peak)
        print_slides("features of", (time_s - at_rest) / (n_cells - few), at_rest)


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


def fit_niches(data: Neighborhoods, size: str, peak: float, batch_size: int, n_workers: int) -> None:
    """Time epochs of training, without what comes before the first, and a prediction of all cells."""
    n = len(data)
    network_size = {**SIZES[size], "n_frequencies": 6, "dropout": 0.1, "head": "linear"}
    targets = np.random.default_rng(0).normal(size=(n, K)).astype(np.float32)

    def train(max_epochs: int) -> tuple[float, Any]:
        arguments = {"batch_size": batch_size, "max_epochs": max_epochs, "n_workers": n_workers, "progress_bar": False}
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
            arguments={**STUDENT_DEFAULTS, **arguments, "accelerator": DEVICE, "precision": PRECISION},
        )
        return time.perf_counter() - start, student

    short, _ = train(1)
    long, student = train(1 + N_EPOCHS)
    some = data.batch(data.tokens(spatial_order(data.centers)[:4096]))
    operations = niche_operations(student.network, some, backward=True) / len(some.centers)
    name = f"training, batches of {batch_size}, {n_workers} workers"
    line(name, n, (long - short) / N_EPOCHS, operations, peak)
    print_slides("an epoch of", (long - short) / N_EPOCHS / n)
    names = [str(niche) for niche in range(K)]
    card = ModelCard("distillation", K, "X_he", N_FEATURES, data.radius_um, names, names, network_size)
    model = NicheModel(student.network, card, student.history)
    operations = niche_operations(student.network, some, backward=False) / len(some.centers)
    for n_at_once in (512, batch_size):
        start = time.perf_counter()
        model.predict(data.features, data.indptr, data.indices, data.centers, batch_size=n_at_once, device=DEVICE)
        time_s = time.perf_counter() - start
        line(f"prediction, {n_at_once} at once", n, time_s, operations, peak)
    print_slides("niches of", time_s / n)


def main() -> None:
    """Measure the peak, then the shares of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short run for any machine")
    parser.add_argument("--encoder", default="uni2-h")
    parser.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    parser.add_argument("--n-crops", type=int, default=40_000)
    parser.add_argument("--n-cells", type=int, default=200_000)
    parser.add_argument("--n-workers", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.encoder, arguments.n_crops, arguments.n_cells, arguments.n_workers = (
            "vit_tiny_patch16_224",
            20,
            300,
            0,
        )
    at_least, side = (0.1, 2048) if arguments.quick else (2.0, 12_000)
    batches, cells = ([4], [32]) if arguments.quick else ([64, 256], [256, 4096, 16_384])
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else f"no GPU, {torch.get_num_threads()} threads"
    peak = measure_peak(256 if arguments.quick else 8192, at_least)
    print(f"{card}, torch {torch.__version__}; bfloat16 product: {peak / 1e12:.3f} TFLOP/s")
    print(f"{'':<52}{'rate':>12}{'TFLOP/s':>9}{'share':>8}  memory")
    encoder = sd.encoders.get(arguments.encoder, weights="random")
    module = encoder.load()
    encoder = replace(encoder, load=lambda: module)
    operations = compare_encoder(encoder, peak, batches, at_least)
    embed_slide(encoder, arguments.image, side, arguments.n_crops, operations, peak)
    data = make_cells(arguments.n_cells)
    size = "small" if arguments.quick else "base"
    print(f"\nNiche networks, size={size!r}, {N_FEATURES} features, {data.indptr[-1] / len(data):.1f} neighbours")
    compare_niche_network(data, size, peak, cells, at_least)
    fit_niches(data, size, peak, 32 if arguments.quick else 4096, arguments.n_workers)


if __name__ == "__main__":
    main()
