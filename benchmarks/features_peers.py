"""H&E features beside LazySlide: the same crops of one slide through the same network, on one thread of a CPU.

    python benchmarks/features_peers.py --peers lazyslide --out peers
    python benchmarks/features_peers.py --quick --out peers

The slide is a pyramid of JPEG tiles of 512 px, of a real H&E that is mirrored to and fro, at 0.274 µm per pixel. Crops
of 224 px lie around cells at random, 4,500 per mm², so that they overlap, or side by side as tiles do. Those around
cells come tile after tile of the slide, which suits readers that keep tiles in memory. Networks are timm's, untrained,
with the same weights for all.

Each method is a script of `peers/`, run in a process of its own, of which the memory is the peak; that of another
package in an environment of its own, which `uv run` makes from what the script names. What is timed begins with the
opened slide and ends with the features in memory. The methods take turns, `--repeats` times.

Written to `--out`: `features.json` with all runs and, of each arrangement, network and peer, the ratio of its seconds
and CPU seconds to ours of the same turn (median, least and most), and how alike the features are: their correlation,
each about its mean over the crops.

`--quick` takes few crops and our method, in this process: it shows that the script works, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from read_crops import TILE, write_slide
from stages.inputs import CELLS_PER_MM2, MPP, darkest_square

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDER = Path(__file__).parent / "peers"
OURS = "embed_he"
PEERS = {"lazyslide": "with_lazyslide"}
CROP = 224
ARRANGEMENTS = ("cells", "grid")
CLOCKS = ["seconds", "cpu_seconds"]

Corners = npt.NDArray[np.int64]


def lay_crops(arrangement: str, n_crops: int) -> Corners:
    """Return x and y of the upper left corner of each crop."""
    if arrangement == "grid":
        rows, columns = np.divmod(np.arange(n_crops), side_of_grid(n_crops))
        return CROP * np.column_stack([columns, rows])
    side = round(1000 * np.sqrt(n_crops / CELLS_PER_MM2) / MPP)
    corners = np.random.default_rng(0).integers(0, side, (n_crops, 2))
    column, row = (corners // TILE).T
    return corners[np.lexsort([column, row])]


def side_of_grid(n_crops: int) -> int:
    """Return how many crops stand beside each other."""
    return int(np.ceil(np.sqrt(n_crops)))


def run_method(
    name: str, slide: Path, corners: Corners, network: str, *, quick: bool
) -> tuple[dict[str, Any], npt.NDArray[np.floating]]:
    """Run a method on a slide; what it costs, and its features."""
    script = FOLDER / f"{PEERS.get(name, name)}.py"
    if quick:
        sys.path.insert(0, str(FOLDER))
        try:
            prepare = runpy.run_path(str(script))["prepare"]
            from features_runner import run
        finally:
            sys.path.remove(str(FOLDER))
        costs, features = run(prepare, slide, corners, CROP, network)
        return {"version": "this", **costs}, features
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch) / "corners.npy", Path(scratch) / "features"
        np.save(given, corners)
        start = ["uv", "run", "--no-project", "--script"] if name in PEERS else [sys.executable]
        options = ["--corners", given, "--crop-px", str(CROP), "--network", network, "--out", out]
        subprocess.run([*start, script, slide, *options], check=True)
        return json.loads(out.with_suffix(".json").read_text()), np.load(out.with_suffix(".npy"))


def likeness(ours: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]) -> float:
    """Correlate features, each about its mean over the crops."""
    deviations = [(each - each.mean(axis=0)).ravel() for each in (ours.astype(float), theirs.astype(float))]
    return float(np.corrcoef(deviations)[0, 1])


def compare(slide: Path, arrangement: str, network: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the methods take turns; a row for each run."""
    corners = lay_crops(arrangement, options.n_crops)
    rows = []
    for turn in range(options.repeats):
        for name in [OURS, *options.peers]:
            costs, features = run_method(name, slide, corners, network, quick=options.quick)
            if name == OURS:
                ours = features
            about = {"crops": arrangement, "n_crops": len(corners), "network": network, "method": name, "turn": turn}
            rows.append({**about, **costs, "likeness": likeness(ours, features), "load": os.getloadavg()[0]})
            print(f"{arrangement}, {network}, {name}: {costs['seconds']:.1f} s", file=sys.stderr, flush=True)
    return rows


def summarise(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Give each peer, arrangement and network its medians, and the ratios to ours of the same turn."""
    keys = ["crops", "network", "turn"]
    paired = rows[rows["method"] != OURS].merge(rows[rows["method"] == OURS], on=keys, suffixes=("", "_ours"))
    summary = []
    for about, turns in paired.groupby(["crops", "network", "method"], sort=False):
        found: dict[str, Any] = dict(zip(("crops", "network", "method"), about, strict=True))
        for clock in CLOCKS:
            ratios = turns[clock] / turns[f"{clock}_ours"]
            found[clock] = {"ours": turns[f"{clock}_ours"].median(), "theirs": turns[clock].median()}
            found[clock] |= {"ratio": ratios.median(), "least": ratios.min(), "most": ratios.max()}
        memory = {"ours": turns["memory_gib_ours"].max(), "theirs": turns["memory_gib"].max()}
        summary.append({**found, "memory_gib": memory, "likeness": turns["likeness"].min()})
    return summary


def to_table(summary: list[dict[str, Any]]) -> str:
    """Write the summary as Markdown."""
    lines = [
        "| crops | network | beside | s, ours / theirs | ratio | of CPU time | GiB, ours / theirs | correlation |",
        "|" + "---|" * 8,
    ]
    for row in summary:
        ratios = [
            f"{row[clock]['ratio']:.2f} ({row[clock]['least']:.2f} to {row[clock]['most']:.2f})" for clock in CLOCKS
        ]
        seconds, memory = (f"{row[of]['ours']:.1f} / {row[of]['theirs']:.1f}" for of in ("seconds", "memory_gib"))
        cells = [row["crops"], row["network"], row["method"], seconds, *ratios, memory, f"{row['likeness']:.4f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-crops", type=int, default=1024)
    parser.add_argument("--networks", nargs="+", default=["mobilenetv3_small_050", "resnet18"], help="of timm")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=[], help="packages to run beside ours")
    parser.add_argument("--image", type=Path, default=SHARED_DATA / "he_small_images" / "CMU-1-Small-Region.svs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works")
    options = parser.parse_args()
    if options.quick:
        options.n_crops, options.networks, options.repeats, options.peers = 50, ["mobilenetv3_small_050"], 1, []
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        slide = Path(scratch) / "slide.ome.tif"
        write_slide(slide, CROP * side_of_grid(options.n_crops), darkest_square(options.image))
        for network in options.networks:
            for arrangement in ARRANGEMENTS:
                rows += compare(slide, arrangement, network, options)
                summary = summarise(pd.DataFrame(rows))
                (options.out / "features.json").write_text(json.dumps({"summary": summary, "runs": rows}, indent=1))
    means = pd.DataFrame(rows).groupby(["network", "crops", "method"], sort=False)[[*CLOCKS, "memory_gib"]].median()
    print(means.round(2).to_string())
    if summary:
        print(to_table(summary))


if __name__ == "__main__":
    main()
