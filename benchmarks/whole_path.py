"""Time and memory of every stage of `stdistill run`, from a bundle on disk to its report.

    python benchmarks/whole_path.py --folder scratch
    python benchmarks/whole_path.py --folder scratch --n-cells 10000 100000 --epochs 1

The bundle has an H&E of matching size, a pyramid of JPEG tiles; both are a piece of a simulated slide, mirrored to and
fro, and are written to `--folder` once. The command runs in a process of its own, without augmented slides, as by
default above 200,000 cells. `--epochs` is how often each model sees its training cells, by default what the command
chooses. A stage lasts from the line that tells of it to the next one; its CPU time and its memory, the largest while it
lasts, are those of the process and its children, looked at ten times a second.

Results are written to `--out` after each stage: what was interrupted goes on after the last one that was finished.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from stages.bundle import write_bundle

N_CELLS = (10_000, 100_000, 1_353_765)
EPOCHS = ("--expression-epochs", "--teacher-epochs", "--student-epochs")
COMMAND = [sys.executable, "-c", "from stdistill._cli import main; main()", "run"]
STARTS = re.compile(r"(?P<stage>\S+) …|Wrote cells\.h5ad, the models and figures")
"""Lines that tell of a stage; the last one is followed by the report."""
INTERVAL_S = 0.1

Runs = dict[str, dict[str, Any]]


def tree(pid: int) -> Iterator[int]:
    """Find a process and its children, as Linux lists them."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from tree(int(child))


def costs(pid: int) -> tuple[float, float]:
    """Add up the CPU time (s) and the resident memory (GB) of a process and its children, of which one may end now."""
    seconds = gigabytes = 0.0
    for each in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # with children that have ended
            gigabytes += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    return seconds, gigabytes


def measure(command: list[str], log: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Run a command and yield each of its stages at its end."""
    with (
        log.open("a") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        cpu = peak = 0.0

        def watch() -> None:
            nonlocal cpu, peak
            while process.poll() is None:
                now, gigabytes = costs(process.pid)
                cpu, peak = max(cpu, now), max(peak, gigabytes)
                time.sleep(INTERVAL_S)

        watching = threading.Thread(target=watch)
        watching.start()
        stage, start, cpu_start = "start", time.monotonic(), 0.0
        for line in process.stdout or ():
            print(f"{time.strftime('%X')} {line}", end="", file=file, flush=True)
            if found := STARTS.match(line):
                yield stage, {"seconds": time.monotonic() - start, "cpu_seconds": cpu - cpu_start, "peak_gb": peak}
                stage, start, cpu_start, peak = found["stage"] or "report", time.monotonic(), cpu, 0.0
        watching.join()
        yield stage, {"seconds": time.monotonic() - start, "cpu_seconds": cpu - cpu_start, "peak_gb": peak}
    if process.returncode:
        raise SystemExit(f"{' '.join(command[3:])} failed: see {log}")


def to_table(runs: Runs) -> str:
    """Write what each stage costs as Markdown; growth, per cell, is from the last size but one."""
    sizes = sorted(runs, key=int)
    tables = {n: pd.DataFrame(runs[n]["stages"]).T for n in sizes}
    for table in tables.values():
        table.loc["all"] = [table["seconds"].sum(), table["cpu_seconds"].sum(), table["peak_gb"].max()]
    (before, last), ratio = (tables[n] for n in (*sizes[:1], *sizes)[-2:]), int(sizes[-1]) / int(sizes[-2:][0])
    growth = last / before / ratio
    header = ["stage", *(name for n in sizes for name in (f"{int(n):,} cells, s", "CPU, s", "GB"))]
    lines = [[*header, "growth", "of CPU"], ["---"] * (len(header) + 2)]
    for stage in last.index:
        line = [stage]
        for table in tables.values():
            seconds, cpu_seconds, peak_gb = table.loc[stage] if stage in table.index else [float("nan")] * 3
            line += [f"{seconds:.1f}", f"{cpu_seconds:.1f}", f"{peak_gb:.2f}"]
        lines.append([*line, *(f"{growth.loc[stage, name]:.2f}" for name in ("seconds", "cpu_seconds"))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Write bundles, run the command on each, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for bundles and runs; they are kept")
    parser.add_argument("--out", type=Path, default=Path("whole_path.json"))
    parser.add_argument("--n-cells", type=int, nargs="+", default=N_CELLS)
    parser.add_argument("--epochs", type=int, help="of each model  [default: those of the command]")
    parser.add_argument("--n-simulated", type=int, default=20_000, help="cells of the slide that the piece is of")
    arguments = parser.parse_args()
    folder, out = arguments.folder, arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--encoder", "texture", "--n-augmented", "0", "--device", "cpu"]
    if arguments.epochs is not None:
        options += [word for name in EPOCHS for word in (name, str(arguments.epochs))]
    found: dict[str, Any] = {"runs": json.loads(out.read_text())["runs"] if out.exists() else {}}
    found["machine"] = {"cores": os.cpu_count(), "torch": version("torch"), "stdistill": version("stdistill")}
    for n in map(str, sorted(arguments.n_cells)):
        bundle, run = folder / f"outs_{n}", folder / f"run_{n}"
        if not bundle.exists():
            write_bundle(bundle, folder / "simulated", int(n), arguments.n_simulated)
        kept = found["runs"].setdefault(n, {"options": options, "stages": {}})
        kept["load_before"] = os.getloadavg()[0]
        for stage, cost in measure([*COMMAND, str(bundle), *options, "--out", str(run)], folder / f"run_{n}.log"):
            kept["stages"][stage] = cost
            out.write_text(json.dumps(found, indent=1))
            print(f"{n:>9}  {stage:<20}{cost['seconds']:>9.1f} s{cost['peak_gb']:>8.2f} GB", flush=True)
    print(to_table(found["runs"]))


if __name__ == "__main__":
    main()
