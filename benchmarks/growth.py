"""How time and memory of every stage grow with the number of cells.

    python benchmarks/growth.py run --folder scratch --out growth.json
    python benchmarks/growth.py run --folder scratch --out growth.json --stages graph measures --sizes 10000 100000
    python benchmarks/growth.py plot growth.json --out docs/_static/growth.png

Slides are synthetic: cells at random, 4,500 per mm²; niches, features and counts follow smooth fields, with noise; the
H&E is a pyramid of JPEG tiles with 0.274 µm per pixel, of a real image that is mirrored to and fro. They are written to
`--folder` once. Each stage runs in a process of its own, which first does the same with 300 cells, so that nothing is
loaded or compiled while it is measured, and then reads its input. Memory is the process's largest while the stage runs,
whole and beyond what it was before. The largest slide is run once, the others `--repeats` times. Runs that `--out`
holds already are not repeated, so that what was interrupted goes on.

Models train for a fixed number of steps. The time of a step, which should not depend on the slide, is the median
between two of them; the rest is preparation, and the prediction of all cells. `plot` prints a table, and draws.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SIZES = (10_000, 100_000, 1_353_765)
WARM_UP = 300
N_STEPS = 50
STAGES = {
    "graph": "neighbourhood graph",
    "features": "H&E features",
    "expression": "expression",
    "teacher": "teacher",
    "student": "student",
    "predict": "predict",
    "measures": "measures",
    "plots": "two maps",
    "report": "report",
    "geojson": "GeoJSON",
}
"""And what they are called."""
PACKAGES = ("stdistill", "torch", "lightning", "scvi-tools", "anndata", "numpy", "numba")
MOST_GROWTH, MOST_GB = 1.3, 12
"""The bars: time per cell over that at 100,000 cells, and memory of the whole process."""
SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def memory_mb(name: str) -> float:
    """Read what Linux says of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024


def clocks() -> tuple[float, float]:
    """Read the time, and how much of it CPUs have spent on this process."""
    return time.perf_counter(), time.process_time()


def measure(prepare: Callable[[], Callable[[], object]]) -> dict[str, Any]:
    """Prepare a stage, then run it: seconds of the whole and of a step of training, and memory."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    stage = prepare()
    gc.collect()
    ends: list[tuple[float, float]] = []
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(clocks()))
    Path("/proc/self/clear_refs").write_text("5")  # the largest memory is that from now on
    before, start = memory_mb("VmRSS"), clocks()
    stage()
    (seconds, cpu_seconds), largest = np.subtract(clocks(), start).tolist(), memory_mb("VmHWM")
    hook.remove()
    step = np.median(np.diff(ends, axis=0), axis=0).tolist() if len(ends) > 1 else [0.0, 0.0]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "n_steps": len(ends),
        "step_seconds": step[0],
        "step_cpu_seconds": step[1],
        "peak_mb": max(largest - before, 0.0),  # Linux adds up what its CPUs count, each a little late
        "process_mb": largest,
        "threads": torch.get_num_threads(),
    }


def run_here(what: str, folder: Path, n_cells: int, image: Path) -> dict[str, Any]:
    """Write a slide; or run a stage of a small one, then of the one that is meant."""
    from stages import models, results, slides
    from stages.inputs import Inputs

    inputs = Inputs(folder / str(n_cells), n_cells, N_STEPS)
    if what == "inputs":
        inputs.make(image)
        return {}
    prepare = next(getattr(module, what) for module in (slides, models, results) if hasattr(module, what))
    if n_cells != WARM_UP:
        measure(lambda: prepare(Inputs(folder / str(WARM_UP), WARM_UP, 2)))
    return measure(lambda: prepare(inputs))


def run_apart(what: str, folder: Path, n_cells: int, image: Path) -> dict[str, Any]:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "here", what, folder, str(n_cells), image]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def run_all(arguments: argparse.Namespace) -> None:
    """Run what is not in the results yet, and write them after each run."""
    out, folder = arguments.out, arguments.folder
    machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    found: dict[str, Any] = {
        "machine": machine | {name: version(name) for name in PACKAGES},
        "runs": json.loads(out.read_text())["runs"] if out.exists() else [],
    }
    for n_cells in sorted({WARM_UP, *arguments.sizes}):
        run_apart("inputs", folder, n_cells, arguments.image)
    for n_cells in sorted(arguments.sizes):
        repeats = 1 if n_cells == max(SIZES) else arguments.repeats
        for name in arguments.stages:
            done = sum((run["stage"], run["n_cells"]) == (name, n_cells) for run in found["runs"])
            for _ in range(done, repeats):
                run = {"stage": name, "n_cells": n_cells, **run_apart(name, folder, n_cells, arguments.image)}
                found["runs"].append(run)
                out.write_text(json.dumps(found, indent=1))
                print(f"{name:<12}{n_cells:>10}{run['seconds']:>9.2f} s {run['peak_mb']:>8.0f} MB", flush=True)


def by_part(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Part the runs that train into their steps and the rest, and name all as readers know them."""
    rows = []
    for run in sorted(runs, key=lambda run: list(STAGES).index(run["stage"])):
        name, n_steps = STAGES[run["stage"]], run["n_steps"]
        steps = {f"{clock}seconds": n_steps * run[f"step_{clock}seconds"] for clock in ("", "cpu_")}
        if n_steps:
            rows.append({**run, "part": f"{name}, {n_steps} steps", "per_cell": False, **steps})
            name += ", all cells"
        rest = {clock: run[clock] - spent for clock, spent in steps.items()}
        rows.append({**run, "part": name, "per_cell": True, **rest})
    return pd.DataFrame(rows)


def growth(seconds: pd.Series, reference: int, *, per_cell: bool) -> pd.Series:
    """Divide seconds, by number of cells, by those of `reference` cells; per cell, or as those of a step."""
    each = seconds / seconds.index if per_cell else seconds
    return each / each.get(reference, np.nan)


def to_table(parts: pd.DataFrame) -> str:
    """Write the median of each part at each size, with the range of several runs, as Markdown.

    Growth is from the last size but one to the last, of time per cell or per step and of CPU time; the process's memory
    that at the last.
    """
    sizes = sorted(parts["n_cells"].unique())
    reference = sizes[-2:][0]
    header = [
        "stage",
        *(f"{n:,} cells, s" for n in sizes),
        "growth",
        "of CPU",
        *(f"{n:,}, MB" for n in sizes),
        "process, GB",
    ]
    lines = [header, ["---"] * len(header)]
    for part, rows in parts.groupby("part", sort=False):
        by_size = rows.groupby("n_cells")
        found, memory = by_size["seconds"].agg(["median", "min", "max", "size"]), by_size["peak_mb"].median()
        line = [str(part)]
        for n in sizes:
            if n not in found.index:
                line.append("–")
                continue
            median, least, most, n_runs = found.loc[n]
            line.append(f"{median:.3g}" + (f" ({least:.3g} to {most:.3g})" if n_runs > 1 else ""))
        is_whole = sizes[-1] in found.index
        for clock in ("seconds", "cpu_seconds"):
            ratio = growth(by_size[clock].median(), reference, per_cell=bool(rows["per_cell"].iloc[0])).iloc[-1]
            line.append(f"{ratio:.2f}" if is_whole and np.isfinite(ratio) else "–")
        line += [f"{memory[n]:,.0f}" if n in memory.index else "–" for n in sizes]
        line.append(f"{by_size['process_mb'].median().iloc[-1] / 1024:.1f}" if is_whole else "–")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(parts: pd.DataFrame, path: Path) -> None:
    """Draw seconds, growth of the time per cell, and memory against the number of cells."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    figure, (times, ratios, memories) = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    sizes = sorted(parts["n_cells"].unique())
    colors = dict(zip(STAGES.values(), plt.get_cmap("tab10").colors, strict=True))
    for part, rows in parts.groupby("part", sort=False):
        per_cell, color = bool(rows["per_cell"].iloc[0]), colors[str(part).split(",")[0]]
        style = {"color": color, "marker": "o" if per_cell else "s", "ls": "-" if per_cell else ":", "ms": 4, "lw": 1.3}
        by_size = rows.groupby("n_cells")
        seconds = by_size["seconds"].median()
        times.plot(seconds.index, seconds, label=part, **style)
        ratios.plot(seconds.index, growth(seconds, sizes[-2:][0], per_cell=per_cell), **style)
        if per_cell:
            memory = by_size["process_mb"].max() / 1024
            memories.plot(memory.index, memory, **style)
    ratios.axhline(MOST_GROWTH, color="black", lw=1, ls="--")
    memories.axhline(MOST_GB, color="black", lw=1, ls="--")
    for axes, title, ticks in (
        (times, "seconds", [0.1, 1, 10, 100, 1000]),
        (ratios, "seconds per cell or step, relative", [0.1, 0.2, 0.5, 1, MOST_GROWTH, 2, 5]),
        (memories, "memory of the process, GB", [1, 2, 4, 8, MOST_GB]),
    ):
        axes.set(xscale="log", yscale="log", xlabel="cells")
        axes.set_title(title, fontsize=10)
        low, high = axes.get_ylim()
        axes.set_xticks(sizes, labels=[f"{n:,}" for n in sizes])
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_ylim(low, high)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=200)


def main() -> None:
    """Run, or plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | plot")
    run = commands.add_parser("run", help="measure")
    run.add_argument("--folder", type=Path, required=True, help="for the slides, some GB; they are kept")
    run.add_argument("--out", type=Path, default=Path("growth.json"))
    run.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    run.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    run.add_argument("--repeats", type=int, default=3)
    run.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    plot = commands.add_parser("plot", help="draw, and print a table")
    plot.add_argument("results", type=Path)
    plot.add_argument("--out", type=Path, required=True)
    here = commands.add_parser("here")  # what `run` runs, each in a process of its own
    for name, kind in {"what": str, "folder": Path, "n_cells": int, "image": Path}.items():
        here.add_argument(name, type=kind)
    arguments = parser.parse_args()
    if arguments.command == "run":
        run_all(arguments)
    elif arguments.command == "plot":
        parts = by_part(json.loads(arguments.results.read_text())["runs"])
        print(to_table(parts))
        draw(parts, arguments.out)
    else:
        warnings.simplefilter("ignore")
        print(json.dumps(run_here(arguments.what, arguments.folder, arguments.n_cells, arguments.image)))


if __name__ == "__main__":
    main()
