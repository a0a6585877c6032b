"""The report of a slide: seconds, bytes and memory of its writer, the first view in a browser, and panning.

    python benchmarks/report.py --bundle FOLDER
    python benchmarks/report.py --n-cells 2000000 --memory

The slide is simulated, with as many cells as asked for, and its niches are the simulator's; `--bundle` keeps it for the
next time. With `--memory` cells are round and lie on a white image, as in ``exports.py``: the peaks of the report's and
of the GeoJSON's writer beyond the table with its outlines.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from exports import make_slide

import stdistill as sd
from stdistill._report.layers import find_layers
from stdistill._report.slide import write_slide
from stdistill._report.source import Outlines, Slide
from stdistill._report.store import FolderStore
from stdistill._report.write import write_report
from stdistill._slide.affine import affine_scale
from stdistill._table.he.images import slide_levels
from stdistill._table.he.outlines import cell_outlines
from stdistill._table.he.stored import write_without_images

MPP_OF_PAN = 0.5
"""µm per screen pixel while panning."""


def make_run(folder: Path, bundle: Path) -> None:
    """Write what a prediction leaves, with the simulator's niches."""
    slide = sd.pp.read_xenium(bundle)
    sd.pp.find_tissue(slide)
    cells = slide["table"]
    rng = np.random.default_rng(0)
    truth = pd.read_parquet(bundle.parent / f"{bundle.name}_truth.parquet").set_index("cell_id")["niche"]
    cells.obs["student_niche"] = pd.Categorical(cells.obs["cell_id"].map(truth).astype(str))
    cells.obs["student_confidence"] = rng.beta(5, 2, cells.n_obs).astype(np.float32)
    cells.obs["student_ood"] = rng.lognormal(0, 0.4, cells.n_obs).astype(np.float32)
    niches = ad.AnnData(obs=cells.obs, obsm={"spatial": cells.obsm["spatial"]}, uns=dict(cells.uns))
    slide.tables["table"] = niches
    folder.mkdir()
    niches.write_h5ad(folder / "niches.h5ad")
    write_without_images(slide, folder / "niches.zarr")
    (folder / "manifest.json").write_text(json.dumps({"command": "predict", "asked": {"data": str(bundle)}}))


def measure_report(n_cells: int, bundle: Path | None) -> None:
    """Write both kinds of report of a simulated slide, and open the folder in a browser."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "outs" if bundle is None else bundle
        if not bundle.exists():
            sd.datasets.simulate_xenium(bundle, n_cells=n_cells)
        run = Path(scratch) / "run"
        make_run(run, bundle)
        for name, single_file in (("folder", False), ("single file", True)):
            start, cpu = time.perf_counter(), time.process_time()
            page = write_report(run, single_file=single_file)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            files = [page] if single_file else [path for path in page.parent.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 1e6
            print(f"{name:<14}{seconds:>8.1f} s {cpu:>8.1f} CPU s {size:>8.1f} MB {len(files):>7} files", flush=True)
        open_report(run / "report" / "index.html")


def open_report(page: Path) -> None:
    """Print how long the first view takes, and how many pictures a second are drawn while panning."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        print("no browser: playwright is not installed")
        return
    with sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        try:
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error:
            print("no browser")
            return
        view = browser.new_context(viewport={"width": 1380, "height": 900}, offline=True).new_page()
        view.goto("about:blank")
        start = time.perf_counter()
        view.goto(page.as_uri(), wait_until="commit")
        view.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        view.wait_for_function(
            "(() => { const w = stdistillViewer.world; for (let i = 0; i < w.getItemCount(); i++)"
            " if (w.getItemAt(i).getOpacity() > 0 && !w.getItemAt(i).getFullyLoaded()) return false; return true; })()"
        )
        print(f"first view    {time.perf_counter() - start:>8.2f} s, all tiles of it drawn", flush=True)
        frames = view.evaluate(
            """async (mpp) => {
                const viewer = stdistillViewer;
                const slide = JSON.parse(document.getElementById('viewer-data').textContent);
                const across = viewer.container.clientWidth;
                viewer.viewport.zoomTo(slide.width * slide.mpp / (across * mpp), undefined, true);
                let n = 0, loaded = 0;
                viewer.addHandler('tile-loaded', () => { loaded += 1; });
                const begin = performance.now();
                while (performance.now() - begin < 5000) {
                    viewer.viewport.panBy(new OpenSeadragon.Point(0.004, 0.002), true);
                    await new Promise(requestAnimationFrame);
                    n += 1;
                }
                return [n / 5, loaded];
            }""",
            MPP_OF_PAN,
        )
        print(f"panning       {frames[0]:>8.1f} pictures a second, {frames[1]} tiles loaded on the way", flush=True)
        browser.close()


@contextmanager
def peak(name: str) -> Iterator[None]:
    """Print seconds, and the peak of memory beyond what there was, looked at every 20 ms."""
    before, largest, is_over = resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            largest[0] = max(largest[0], resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    print(f"{name:<14}{time.perf_counter() - start:>8.1f} s, peak +{largest[0] - before:.0f} MB", flush=True)


def resident_mb() -> float:
    """Return the memory of this process, as Linux tells it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure_memory(n_cells: int) -> None:
    """Write report and GeoJSON of round cells that are in memory."""
    for n, label in ((1000, "warming up"), (n_cells, f"{n_cells:,} cells")):
        data = make_slide(n)
        print(f"{label}: {resident_mb():.0f} MB with the table and its outlines", flush=True)
        known = cell_outlines(data, image_key="he", table_key="table")
        image = slide_levels(data["he"], "he")
        slide = Slide(
            Path(), {}, data["table"], data, known.frame, image, "", Outlines(known.frame.cells, known.polygons), None
        )
        with tempfile.TemporaryDirectory() as folder:
            with peak("report"):
                write_slide(slide, FolderStore(Path(folder)))
            with peak("to_geojson"):
                sd.io.to_geojson(data, Path(folder) / "cells.geojson.gz", key="student_niche")
    print(f"{len(find_layers(data['table']))} layers, {1 / affine_scale(known.frame.um_to_px):.2f} µm per pixel")


def main() -> None:
    """Measure the report of a slide, or the memory of its writers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-cells", type=int, default=100_000)
    parser.add_argument("--bundle", type=Path, help="simulated bundle, written where it is not there")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.n_cells)
    else:
        measure_report(arguments.n_cells, arguments.bundle)


if __name__ == "__main__":
    main()
