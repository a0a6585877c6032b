"""Niche models: speed beside the plain way, and memory at a million cells.

    python benchmarks/niche_models.py

The plain way pads random cells together, gathers and projects the features of every token, and updates every token in
the last layer. Both ways compute the same logits, which is checked, with the same network on cells of the same tissue,
and take turns, so that other load on the machine meets both. The memory is that of a process that trains and predicts
from a memory map, beyond the map itself and beyond what the imports take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tissue import tissue
from torch import Tensor
from torch.nn import functional

from stdistill._graph.radius_graph import radius_graph
from stdistill._training.sampling import TileSampler, spatial_order
from stdistill.models.niche.arguments import SIZES, STUDENT_DEFAULTS
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.network import NicheNetwork

RADIUS_UM = 60.0
N_FEATURES = 1536
K = 20
TRAINING_BATCH, PREDICTION_BATCH = 128, 512


class Plain:
    """The plain way: lists of tokens, cell by cell."""

    def __init__(self, data: Neighborhoods) -> None:
        self.data = data
        self.lists = [[cell, *data.indices[data.indptr[cell] : data.indptr[cell + 1]]] for cell in range(len(data))]

    def gather(self, cells: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Features (b, t, d), relative positions and mask of the tokens of cells, padded to the longest list."""
        lists = [self.lists[cell] for cell in cells]
        longest = max(map(len, lists))
        features = np.zeros((len(cells), longest, self.data.features.shape[1]), dtype=self.data.features.dtype)
        offsets = np.zeros((len(cells), longest, 2), dtype=np.float32)
        mask = np.zeros((len(cells), longest), dtype=bool)
        for row, (cell, tokens) in enumerate(zip(cells, lists, strict=True)):
            features[row, : len(tokens)] = self.data.features[tokens]
            offsets[row, : len(tokens)] = (self.data.centers[tokens] - self.data.centers[cell]) / self.data.radius_um
            mask[row, : len(tokens)] = True
        return torch.from_numpy(features), torch.from_numpy(offsets), torch.from_numpy(mask)

    @staticmethod
    def logits(network: NicheNetwork, features: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """Logits of the same network, all tokens through all layers."""
        tokens = network.project(network.standardize(features)) + network.position(offsets)
        tokens = torch.cat([network.class_token.expand(len(tokens), 1, -1), tokens], dim=1)
        attended = functional.pad(mask, (1, 0), value=True)
        n_centers, tokens = len(tokens), tokens.flatten(0, 1)
        for layer in network.layers:
            tokens = layer(tokens, [attended])
        return network.head(network.norm(tokens).unflatten(0, (n_centers, -1))[:, 0])


def in_turns(ways: dict[str, Callable[[], int]], seconds: float) -> dict[str, float]:
    """Cells per second of each way; a way returns how many cells it has done."""
    for way in ways.values():
        way()
    done, spent = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    while min(spent.values()) < seconds:
        for name, way in ways.items():
            start = time.perf_counter()
            done[name] += way()
            spent[name] += time.perf_counter() - start
    return {name: done[name] / spent[name] for name in ways}


def make_cells(n_cells: int) -> Neighborhoods:
    """Make a clustered tissue with random features."""
    centers = tissue(n_cells)
    graph, _ = radius_graph(centers, RADIUS_UM, np.zeros(n_cells, dtype=np.int64))
    features = np.random.default_rng(0).normal(size=(n_cells, N_FEATURES)).astype(np.float16)
    return Neighborhoods(features, graph.indptr, graph.indices, centers, RADIUS_UM)


class Cells:
    """Which cells the two ways are given: random ones, tiles of neighbours to train, runs of neighbours to predict."""

    def __init__(self, data: Neighborhoods) -> None:
        self.rng = np.random.default_rng(0)
        self.n_cells = len(data)
        self.order = spatial_order(data.centers)
        self.sampler = TileSampler(self.order, batch_size=TRAINING_BATCH, seed=0)
        self.epoch = iter(self.sampler)

    def random(self, n: int = TRAINING_BATCH) -> np.ndarray:
        """Draw cells from anywhere."""
        return self.rng.choice(self.n_cells, n, replace=False)

    def tiles(self) -> np.ndarray:
        """Return the cells of the next training batch."""
        request = next(self.epoch, None)
        if request is None:
            self.sampler.set_epoch(self.sampler.epoch + 1)
            self.epoch = iter(self.sampler)
            request = next(self.epoch)
        return request.rows

    def run(self) -> np.ndarray:
        """Return cells that follow each other along the Morton curve."""
        start = self.rng.integers(max(1, self.n_cells - PREDICTION_BATCH))
        return self.order[start : start + PREDICTION_BATCH]


def report(name: str, ways: dict[str, Callable[[], int]], seconds: float) -> None:
    """Print cells per second of both ways."""
    rates = in_turns(ways, seconds)
    ratio = rates["stdistill"] / rates["plain"]
    print(f"{name:<30}{rates['plain']:>10.0f}{rates['stdistill']:>11.0f}{ratio:>8.1f}", flush=True)


def gather(data: Neighborhoods, cells: np.ndarray) -> int:
    """Make a batch, with its features in the precision that the network projects them in."""
    batch = data.batch(data.tokens(cells))
    batch.features.float()
    return len(batch.centers)


def compare_gathering(data: Neighborhoods, plain: Plain, seconds: float) -> None:
    """Time the making of batches."""
    cells = Cells(data)
    for purpose, chosen in (("train", cells.tiles), ("predict", cells.run)):
        ways = {
            "plain": lambda: len(plain.gather(cells.random())[0].float()),
            "stdistill": lambda chosen=chosen: gather(data, chosen()),
        }
        report(f"gathering, to {purpose}", ways, seconds)


def compare_networks(data: Neighborhoods, plain: Plain, size: str, seconds: float) -> None:
    """Time training and prediction of one network, gathering included."""
    torch.manual_seed(0)
    network = NicheNetwork(N_FEATURES, K, **SIZES[size], n_frequencies=6, dropout=0.0, head="linear")
    optimizer = torch.optim.AdamW(network.parameters())
    cells = Cells(data)

    def theirs(chosen: np.ndarray) -> Tensor:
        return plain.logits(network, *plain.gather(chosen))

    def ours(chosen: np.ndarray) -> Tensor:
        return network(data.batch(data.tokens(chosen)))

    def step(logits: Tensor) -> int:
        optimizer.zero_grad()
        functional.kl_div(logits.log_softmax(1), torch.full_like(logits, 1 / K), reduction="batchmean").backward()
        optimizer.step()
        return len(logits)

    some = cells.random(32)
    with torch.inference_mode():
        if not torch.allclose(theirs(some), ours(some), atol=1e-3):
            sys.exit("The two ways do not compute the same logits.")
    training = {"plain": lambda: step(theirs(cells.random())), "stdistill": lambda: step(ours(cells.tiles()))}
    report(f"training, {size}", training, seconds)
    with torch.inference_mode():
        prediction = {"plain": lambda: len(theirs(cells.random())), "stdistill": lambda: len(ours(cells.run()))}
        report(f"prediction, {size}", prediction, seconds)


def compare(n_cells: int, seconds: float, sizes: list[str]) -> None:
    """Print cells per second of both ways."""
    data = make_cells(n_cells)
    plain = Plain(data)
    neighbors = data.indptr[-1] / n_cells
    print(f"{n_cells} cells, {neighbors:.1f} neighbours, {N_FEATURES} features, {torch.get_num_threads()} threads")
    print(f"{'cells per second':<30}{'plain':>10}{'stdistill':>11}{'ratio':>8}")
    compare_gathering(data, plain, seconds)
    for size in sizes:
        compare_networks(data, plain, size, seconds)


def anonymous_bytes() -> int:
    """Measure what this process holds in memory beside mapped files."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def train_and_predict(folder: Path, n_steps: int, n_predicted: int) -> dict[str, float]:
    """Train and predict from a memory map, and watch the memory."""
    from stdistill.models.niche.card import ModelCard
    from stdistill.models.niche.fit_student import train_student
    from stdistill.models.niche.model import NicheModel

    before = peak = anonymous_bytes()
    stopped = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stopped.wait(0.02):
            peak = max(peak, anonymous_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    features = np.load(folder / "features.npy", mmap_mode="r")
    n_cells = len(features)
    centers = tissue(n_cells)
    graph, _ = radius_graph(centers, RADIUS_UM, np.zeros(n_cells, dtype=np.int64))
    indptr, indices = graph.indptr, graph.indices
    del graph, _
    size = {**SIZES["small"], "n_frequencies": 6, "dropout": 0.1, "head": "linear"}
    start = time.perf_counter()
    student = train_student(
        Neighborhoods(features, indptr, indices, centers, RADIUS_UM),
        np.zeros(n_cells, dtype=np.int64),
        np.random.default_rng(0).normal(size=(n_cells, K)).astype(np.float32),
        np.ones(n_cells, dtype=bool),
        k=K,
        size=size,
        temperature=None,
        patience=None,
        arguments={
            **STUDENT_DEFAULTS,
            "batch_size": TRAINING_BATCH,
            "max_epochs": 1,
            "max_steps": n_steps,
            "accelerator": "cpu",
            "progress_bar": False,
        },
    )
    trained = time.perf_counter()
    names = [str(niche) for niche in range(K)]
    card = ModelCard("distillation", K, "X_he", N_FEATURES, RADIUS_UM, names, names, size)
    cells = spatial_order(centers)[:n_predicted]
    logits = NicheModel(student.network, card, student.history).predict(features, indptr, indices, centers, cells=cells)
    predicted = time.perf_counter()
    stopped.set()
    thread.join()
    return {
        "gigabytes": (peak - before) / 2**30,
        "training": trained - start,
        "prediction": predicted - trained,
        "n_predicted": int(np.isfinite(logits[:, 0]).sum()),
    }


def measure_memory(n_cells: int, n_steps: int, n_predicted: int) -> None:
    """Write features to disk, and train and predict from them in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        features = np.lib.format.open_memmap(
            Path(folder) / "features.npy", mode="w+", dtype=np.float16, shape=(n_cells, N_FEATURES)
        )
        rng = np.random.default_rng(0)
        for start in range(0, n_cells, 16_384):
            rows = features[start : start + 16_384]
            rows[:] = rng.standard_normal(rows.shape, dtype=np.float32)
        size = features.nbytes / 2**30
        del features
        command = [
            sys.executable,
            __file__,
            "--only",
            folder,
            "--n-steps",
            str(n_steps),
            "--n-predicted",
            str(n_predicted),
        ]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{n_cells} cells, features of {size:.2f} GB in a memory map")
    print(f"{'peak beyond it':<30}{found['gigabytes']:>10.2f} GB")
    trained, predicted = f"{n_steps} steps of training", f"{found['n_predicted']} cells predicted"
    print(f"{trained:<30}{found['training']:>10.1f} s, reading all features twice included")
    print(f"{predicted:<30}{found['prediction']:>10.1f} s, reading them once included")


def main() -> None:
    """Compare speeds, then measure memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20, help="at least, for each figure")
    parser.add_argument("--sizes", nargs="*", default=["small", "base"])
    parser.add_argument("--n-mapped", type=int, default=1_000_000)
    parser.add_argument("--n-steps", type=int, default=100)
    parser.add_argument("--n-predicted", type=int, default=50_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=Path)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(train_and_predict(arguments.only, arguments.n_steps, arguments.n_predicted)))
        return
    if arguments.quick:
        compare(500, 0.02, ["small"])
        measure_memory(2_000, 3, 200)
        return
    compare(arguments.n_cells, arguments.seconds, arguments.sizes)
    measure_memory(arguments.n_mapped, arguments.n_steps, arguments.n_predicted)


if __name__ == "__main__":
    main()
