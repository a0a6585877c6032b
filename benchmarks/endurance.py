"""Whether results survive what happens to long runs: kills, full disks, vanishing files and clocks that jump.

    python benchmarks/endurance.py kills --n-kills 20
    python benchmarks/endurance.py kills --stages nolan distill --n-kills 5 --n-cells 500
    python benchmarks/endurance.py disks

`kills`: each stage is killed with SIGKILL at random moments of its work, and started again by the same call, until
that was done so many times; whenever it gets to its end, its results must have the same bits as undisturbed, and it
begins in a new folder. `cohort.py kills` does the same to many slides and several processes.
`disks`: what is written to a file system of 256 kB (mounted for it, which takes root on Linux), to folders that an
ordinary user may not write to, to a store that is deleted or cut off on the way, and while the clock jumps by days.
Each must end well, or with an error that names the place; and nothing may be left that looks whole and is not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import torch

import stdistill as sd
from stdistill._cli import main as stdistill

FAST = {"width": 16, "depth": 2, "n_heads": 2, "n_frequencies": 3, "batch_size": 64, "progress_bar": False}
FAST |= {"accelerator": "cpu", "max_epochs": 6}
RUN = ["--k", "3", "--encoder", "texture", "--batch-size", "64", "--expression-epochs", "2", "--teacher-epochs", "2"]
RUN += ["--student-epochs", "2"]
SMALL_DISK_KB = 256
ORDINARY_USER = 65534
A_DAY_S = 86_400.0
FORK = multiprocessing.get_context("fork")
"""What is imported is so once; this process itself computes nothing, so that there are no threads to lose."""


class Given(NamedTuple):
    """What stages start from, in a folder."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """A simulated bundle."""
        return self.folder / "outs"

    @property
    def table(self) -> Path:
        """Its cells with features, latents and a graph."""
        return self.folder / "cells.h5ad"


Stage = Callable[[Given, Path], list[np.ndarray]]


def prepare(given: Given, n_cells: int) -> None:
    """Simulate a slide, and a table of its cells with everything that models need."""
    sd.datasets.simulate_xenium(given.bundle, n_cells=n_cells, seed=3)
    slide = sd.pp.read_xenium(given.bundle)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64)
    cells = slide["table"]
    sd.pp.neighborhoods(cells)
    cells.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(cells.n_obs, 8)).astype("float32")
    cells.obs["side"] = np.where(cells.obsm["spatial"][:, 0] < np.median(cells.obsm["spatial"][:, 0]), "left", "right")
    cells.write_h5ad(given.table)


def embed_he(given: Given, folder: Path) -> list[np.ndarray]:
    """Compute features of the H&E, in a store."""
    slide = sd.pp.read_xenium(given.bundle)
    sd.pp.embed_he(slide, encoder="texture", crop_px=64, batch_size=16, store=folder / "features")
    return [slide["table"].obsm["X_he"]]


def nolan(given: Given, folder: Path) -> list[np.ndarray]:
    """Fit a teacher, with checkpoints."""
    cells = ad.read_h5ad(given.table)
    sd.tl.nolan(cells, k=3, checkpoint_dir=folder / "checkpoints", **FAST)
    return [logits(cells, "teacher")]


def distill(given: Given, folder: Path) -> list[np.ndarray]:
    """Fit a student, with checkpoints."""
    cells = ad.read_h5ad(given.table)
    sd.tl.distill(cells, teacher_key="side", checkpoint_dir=folder / "checkpoints", **FAST)
    return [logits(cells, "student")]


def run(given: Given, folder: Path) -> list[np.ndarray]:
    """Run the command, from the bundle to the report."""
    stdistill(["run", str(given.bundle), *RUN, "--out", str(folder / "run")], standalone_mode=False)
    cells = ad.read_h5ad(folder / "run" / "cells.h5ad")
    return [cells.obsm["X_he"], cells.obsm["X_scVI"], logits(cells, "teacher"), logits(cells, "student")]


def logits(cells: ad.AnnData, key: str) -> np.ndarray:
    """Return the logits (n, k) of a table."""
    return cells.obs.filter(like=f"{key}_logit_").to_numpy()


STAGES: dict[str, Stage] = {"embed_he": embed_he, "nolan": nolan, "distill": distill, "run": run}


def in_child(function: Callable[..., Any], *arguments: Any, log: Path) -> Any:
    """Start a function in a process of its own, which says nothing but into the log."""

    def work() -> None:
        with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
            # Their number follows what is free, and the bits of a training follow their number.
            torch.set_num_threads(1)
            try:
                function(*arguments)
            except BaseException:  # noqa: BLE001 - it goes into the log
                traceback.print_exc()
                sys.exit(1)

    process = FORK.Process(target=work)
    process.start()
    return process


def to_the_end(function: Callable[..., Any], *arguments: Any, log: Path) -> None:
    """Run a function so, and raise with what it said when it fails."""
    child = in_child(function, *arguments, log=log)
    child.join()
    if child.exitcode:
        raise RuntimeError(log.read_text())


def keep(stage: Stage, given: Given, folder: Path) -> None:
    """Run a stage, and keep what came of it."""
    folder.mkdir(exist_ok=True)
    results = stage(given, folder)
    np.savez(folder / "beside.npz", *results)
    (folder / "beside.npz").rename(folder / "results.npz")


def equal(folder: Path, other: Path) -> bool:
    """Whether the results of two folders have the same bits."""
    with np.load(folder / "results.npz") as found, np.load(other / "results.npz") as expected:
        return found.files == expected.files and all(found[k].tobytes() == expected[k].tobytes() for k in found.files)


def measure_kills(scratch: Path, options: argparse.Namespace) -> None:
    """Kill each stage at random moments, and print how its results compare."""
    log, given = scratch / "log.txt", Given(scratch)
    to_the_end(prepare, given, options.n_cells, log=log)
    chance = random.Random(options.seed)
    print(f"{'stage':<10}{'seconds':>9}{'kills':>7}{'runs to the end':>17}{'same bits':>11}")
    for name in options.stages:
        undisturbed = scratch / f"{name}-undisturbed"
        began = time.monotonic()
        to_the_end(keep, STAGES[name], given, undisturbed, log=log)
        seconds = time.monotonic() - began
        n_kills, folders = 0, [scratch / f"{name}-0"]
        while n_kills < options.n_kills or not (folders[-1] / "results.npz").exists():
            if (folders[-1] / "results.npz").exists():
                folders.append(scratch / f"{name}-{len(folders)}")
            child = in_child(keep, STAGES[name], given, folders[-1], log=log)
            child.join(chance.uniform(0, seconds) if n_kills < options.n_kills else None)
            if child.is_alive():
                child.kill()
                child.join()
                n_kills += 1
            elif child.exitcode:
                raise RuntimeError(log.read_text())
        n_equal = sum(equal(folder, undisturbed) for folder in folders)
        print(f"{name:<10}{seconds:>9.1f}{n_kills:>7}{len(folders):>17}{n_equal:>11}", flush=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system that is soon full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_KB}k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def write_all(given: Given, place: Path) -> dict[str, str]:
    """Write each kind of result to a place, and return what was said; results that are whole are "written"."""
    slide, prepared = sd.pp.read_xenium(given.bundle), ad.read_h5ad(given.table)
    del slide.tables["table"]
    slide.tables["table"] = prepared
    student = sd.tl.distill(slide, teacher_key="side", **FAST)
    writers: dict[str, Callable[[], object]] = {
        "store": lambda: embed_he(given, place),
        "checkpoints": lambda: nolan(given, place),
        "model": lambda: student.save(place / "model"),
        "GeoJSON": lambda: sd.io.to_geojson(slide, place / "cells.geojson", key="student_niche"),
        "run": lambda: run(given, place),
    }
    said = {}
    for name, write in writers.items():
        try:
            write()
        except Exception as error:  # noqa: BLE001 - whatever comes is what is looked at
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = "written"
    return said


def looks_whole(place: Path) -> set[str]:
    """Return what is at a place as if it were finished."""
    finished = place / "features" / "finished"
    found = {
        "store": finished.is_file() and bool((np.fromfile(finished, dtype=np.uint8) == 1).all()),
        "model": (place / "model").exists(),
        "GeoJSON": (place / "cells.geojson").exists(),
        "run": (place / "run" / "cells.h5ad").exists(),
    }
    return {name for name, is_whole in found.items() if is_whole}


def report(title: str, said: dict[str, str], place: Path) -> None:
    """Print what was said, whether it names the place, and whether what was left tells the same."""
    print(f"\n{title}")
    whole = looks_whole(place)
    for name, words in said.items():
        if words != "written" and name in whole:
            kind = "LOOKS WHOLE"
        elif words == "written" and name not in whole and name != "checkpoints":  # which are never done
            kind = "IS NOT THERE"
        else:
            kind = "OK" if words == "written" or str(place) in words else "NAMES NO PLACE"
        print(f"  {name:<12}{kind:<15}{' '.join(words.split())[:200]}", flush=True)


def on_a_small_disk(given: Given, scratch: Path) -> None:
    """Write to a disk that is too small."""
    with small_disk(scratch / "small") as place:
        report("a full disk", write_all(given, place), place)


def without_permission(given: Given, scratch: Path) -> None:
    """Write as an ordinary user to a folder of somebody else."""
    rehearsal = scratch / "rehearsal"
    rehearsal.mkdir()
    write_all(given, rehearsal)  # imports what that user may not be allowed to read
    place = scratch / "theirs"
    place.mkdir(mode=0o755)
    home = scratch / "home"
    home.mkdir()
    os.chown(home, ORDINARY_USER, ORDINARY_USER)
    os.environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "MPLCONFIGDIR": str(home)}
    os.setgid(ORDINARY_USER)
    os.setuid(ORDINARY_USER)
    report("no permission to write", write_all(given, place), place)


def with_a_store_that_goes(given: Given, scratch: Path, *, cut: bool) -> None:
    """Embed while the store is deleted, or its matrix cut off."""
    place = scratch / ("cut" if cut else "deleted")
    place.mkdir()
    store = place / "features"

    def spoil() -> None:
        while not (store / "finished").is_file() or not np.fromfile(store / "finished", dtype=np.uint8).any():
            time.sleep(0.01)
        os.truncate(store / "features.npy", 4096) if cut else shutil.rmtree(store)

    other = FORK.Process(target=spoil)
    other.start()
    try:
        (features,) = embed_he(given, place)
    except Exception as error:  # noqa: BLE001 - whatever comes is what is looked at
        said = f"{type(error).__name__}: {error}"
    else:
        kept = ad.read_h5ad(given.table).obsm["X_he"]
        said = "written" if np.array_equal(features, kept) else "OTHER FEATURES, and nothing said"
    other.join()
    report(f"a store that is {'cut off' if cut else 'deleted'} on the way", {"store": said}, place)


def while_the_clock_jumps(given: Given, scratch: Path) -> None:
    """Run everything with a clock that goes forth and back by days."""
    expected = scratch / "by-the-clock"
    place = scratch / "jumping"
    for folder in (expected, place):
        folder.mkdir()
    results = run(given, expected)
    true, chance = time.time, random.Random(0)
    time.time = lambda: true() + chance.choice((-A_DAY_S, 0.0, A_DAY_S))
    found = run(given, place)
    same = all(a.tobytes() == b.tobytes() for a, b in zip(found, results, strict=True))
    report("a clock that jumps", {"run": "written" if same else "OTHER RESULTS"}, place)


def measure_disks(scratch: Path, options: argparse.Namespace) -> None:
    """Try each situation in a process of its own."""
    log, given = scratch / "log.txt", Given(scratch)
    to_the_end(prepare, given, options.n_cells, log=log)
    situations: list[Callable[[], None]] = [
        lambda: with_a_store_that_goes(given, scratch, cut=False),
        lambda: with_a_store_that_goes(given, scratch, cut=True),
        lambda: while_the_clock_jumps(given, scratch),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        scratch.chmod(0o755)
        situations += [lambda: on_a_small_disk(given, scratch), lambda: without_permission(given, scratch)]
    else:
        print("a full disk, and no permission: not tried, that takes root")
    for situation in situations:
        said = scratch / "said.txt"
        child = in_child(situation, log=said)
        child.join()
        print(said.read_text(), flush=True)
        said.unlink()
        if child.exitcode:
            print(f"  ended with exit code {child.exitcode}")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "disks"])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--n-kills", type=int, default=20)
    parser.add_argument("--n-cells", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (measure_kills if options.what == "kills" else measure_disks)(Path(scratch), options)


if __name__ == "__main__":
    main()
