"""A cohort under kills, and how much of the time its encoder is busy.

    python benchmarks/cohort.py kills --n-slides 10 --n-kills 10
    python benchmarks/cohort.py busy --n-slides 10 --workers 2

Slides are cut from a simulated H&E. `kills`: two processes map the same cohort; one of them, chosen at random, is
killed with SIGKILL at a random moment and started again, until that was done so many times. Then every slide must have
been finished once, and its results be those of an undisturbed run. `busy`: the encoder is replaced by one that sleeps
as long as a GPU would compute (--crops-per-s), so that what the processor does beside it can be told without a GPU;
printed is the share of the wall time, from the first call of an encoder to the last, in which a process is in it.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import tempfile
import time
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import tifffile
import torch
from torch import nn

import stdistill as sd
from stdistill._cli import main as stdistill
from stdistill._runs.cohort import CohortFolder
from stdistill.encoders import Encoder

SLEEPING = "sleeping"
CROPS_PER_S, CALLS = "COHORT_CROPS_PER_S", "COHORT_CALLS"
"""Variables by which the encoder is told how fast it is, and where to write when it was called."""
MPP = 0.274
FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "max_epochs": 2, "batch_size": 128}


class Sleeping(nn.Module):
    """Means of the four quarters of a crop; it takes the time of a GPU."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Encode (b, 3, side, side) as (b, 12)."""
        start = time.time()
        if CALLS in os.environ:
            time.sleep(len(crops) / float(os.environ[CROPS_PER_S]))
            with open(os.environ[CALLS], "a") as file:
                file.write(f"{start} {time.time()}\n")
        return nn.functional.adaptive_avg_pool2d(crops, 2).flatten(1)


# Here, and not in a function: workers import this file, and have the encoder as well.
sd.encoders.register(
    Encoder(name=SLEEPING, dim=12, load=Sleeping, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), overwrite=True
)


def make(folder: Path, n_slides: int, side: int, n_cells: int, encoder: str) -> tuple[Path, Path, Path]:
    """Write slides, a table of them with their nuclei, and a student; return where table, slides and student are."""
    bundle = sd.datasets.simulate_xenium(folder / "outs", n_cells=n_cells, seed=1)
    data = sd.pp.read_xenium(bundle)
    sd.pp.embed_he(data, encoder=encoder, crop_px=64)
    cells = data["table"]
    x = cells.obsm["spatial"][:, 0]
    cells.obs["side"] = np.where(x < np.median(x), "left", "right")
    student = folder / "student"
    sd.tl.distill(cells, teacher_key="side", progress_bar=False, accelerator="cpu", **FAST).save(student)
    pixels = tifffile.imread(next(bundle.glob("*he_image.ome.tif")))
    height, width = pixels.shape[:2]
    slides = folder / "slides"
    slides.mkdir()
    centers = cells.obsm["spatial"] @ cells.uns["stdistill"]["slide"]["um_to_px"][:2, :2].T
    centers += cells.uns["stdistill"]["slide"]["um_to_px"][:2, 2]
    rows = []
    for number in range(n_slides):
        top, left = (int(number / n_slides * (extent - side)) for extent in (height, width))
        path = slides / f"s{number}.tif"
        scale = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
        crop = pixels[top : top + side, left : left + side]
        tifffile.imwrite(path, crop, tile=(256, 256), photometric="rgb", compression="jpeg", **scale)
        own = centers - (left, top)
        own = own[((own > 0) & (own < side)).all(axis=1)]
        nuclei = path.with_suffix(".csv")
        pd.DataFrame(own, columns=["x", "y"]).to_csv(nuclei, index=False)
        rows.append({"slide": path, "nuclei": nuclei})
    pd.DataFrame(rows).to_csv(folder / "slides.csv", index=False)
    return folder / "slides.csv", slides, student


def run(student: Path, slides: Path, out: Path, log: Path) -> None:
    """Run the command in this process."""
    with log.open("a") as file, redirect_stdout(file):
        stdistill(["predict", str(student), str(slides), "--method", "tree", "--out", str(out)])


def start(*arguments: Path) -> BaseProcess:
    """Run the command in a process of its own, which has the library loaded: kills shall meet the work."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["stdistill._flows.cohort.work", "stdistill._flows.cohort.begin"])
    process = context.Process(target=run, args=arguments)
    process.start()
    return process


def measure_kills(folder: Path, slides: Path, student: Path, options: argparse.Namespace) -> None:
    """Map a cohort undisturbed and under kills, and compare."""
    began = time.monotonic()
    start(student, slides, folder / "undisturbed", folder / "undisturbed.log").join()
    seconds = time.monotonic() - began
    print(f"undisturbed, one process: {seconds:.0f} s", flush=True)

    chance = random.Random(options.seed)
    out, log = folder / "disturbed", folder / "disturbed.log"
    began = time.monotonic()
    processes = [start(student, slides, out, log) for _ in range(2)]
    n_kills = 0
    while n_kills < options.n_kills:
        time.sleep(chance.uniform(0.1, 1) * seconds / options.n_slides * options.patience)
        victim = chance.randrange(2)
        if processes[victim].is_alive():
            processes[victim].kill()
            processes[victim].join()
            n_kills += 1
        elif processes[victim].exitcode:
            msg = f"A process ended by itself, with exit code {processes[victim].exitcode}:\n{log.read_text()}"
            raise RuntimeError(msg)
        elif (CohortFolder.open(out).statuses()["status"] != "waiting").all():
            break  # there is nothing left to disturb
        processes[victim] = start(student, slides, out, log)
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    print(f"disturbed, two processes, {n_kills} kills: {time.monotonic() - began:.0f} s, exit codes {codes}")

    cohorts = [CohortFolder.open(folder / name) for name in ("undisturbed", "disturbed")]
    statuses = cohorts[1].statuses()["status"]
    lines = [line for line in log.read_text().splitlines() if line.startswith("[")]
    said = pd.Series([line.partition("] ")[2].partition(":")[0] for line in lines]).value_counts()
    equal = {slide_id: same(*(cohort.result(slide_id) for cohort in cohorts)) for slide_id in statuses.index}
    print(f"done: {(statuses == 'done').sum()} of {len(statuses)}; slides finished more than once: {(said > 1).sum()}")
    print(f"equal to the undisturbed run: {sum(equal.values())} of {len(equal)}")


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same results: cells, features, verdict, and what QuPath reads."""
    if not (one.is_dir() and other.is_dir()):
        return False
    cells, others = (ad.read_h5ad(folder / "niches.h5ad") for folder in (one, other))
    features, other_features = (np.load(folder / "features" / "features.npy") for folder in (one, other))
    texts = [gzip.decompress((folder / "niches.geojson.gz").read_bytes()) for folder in (one, other)]
    verdicts = [(folder / "verdict.csv").read_bytes() for folder in (one, other)]
    return (
        cells.obs.equals(others.obs)
        and np.array_equal(cells.obsm["spatial"], others.obsm["spatial"])
        and np.array_equal(features, other_features, equal_nan=True)
        and texts[0] == texts[1]
        and verdicts[0] == verdicts[1]
    )


def measure_busy(folder: Path, options: argparse.Namespace) -> None:
    """Map a cohort with an encoder that sleeps, and print the share of the time in which one does."""
    table, _, student = make(folder, options.n_slides, options.side, options.n_cells, SLEEPING)
    os.environ |= {CALLS: str(folder / "calls.txt"), CROPS_PER_S: str(options.crops_per_s)}
    arguments = ["predict", student, table, "--out", folder / "out", "--workers", options.workers]
    began = time.monotonic()
    stdistill(list(map(str, arguments)), standalone_mode=False)
    seconds = time.monotonic() - began
    calls = np.loadtxt(folder / "calls.txt", ndmin=2)
    calls = calls[np.argsort(calls[:, 0])]
    ends = np.maximum.accumulate(calls[:, 1])
    idle = np.maximum(calls[1:, 0] - ends[:-1], 0).sum()
    span = ends[-1] - calls[0, 0]
    cells = CohortFolder.open(folder / "out").statuses()["n_cells"].sum()
    print(f"{options.n_slides} slides, {cells:,} cells, {options.workers} workers: {seconds:.0f} s in all")
    print(f"an encoder is busy in {1 - idle / span:.0%} of {span:.0f} s; {seconds - span:.0f} s before and after")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "busy"])
    parser.add_argument("--n-slides", type=int, default=10)
    parser.add_argument("--n-kills", type=int, default=10)
    parser.add_argument("--patience", type=float, default=2.0, help="time between kills, in those of a slide")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=2000, help="of a slide, in pixels")
    parser.add_argument("--n-cells", type=int, default=6000, help="of the tissue that slides are cut from")
    parser.add_argument("--crops-per-s", type=float, default=100.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "kills":
            _, slides, student = make(Path(folder), options.n_slides, 640, 800, "texture")
            measure_kills(Path(folder), slides, student, options)
        else:
            measure_busy(Path(folder), options)


if __name__ == "__main__":
    main()
