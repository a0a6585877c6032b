"""Nuclei as GeoJSON for QuPath: time, size and memory beside ``GeoDataFrame.to_file``.

    python benchmarks/exports.py
    python benchmarks/exports.py --n-cells 2000000 --alone

Both are given polygons, classes, colours and a confidence; ours also brings the polygons from µm to pixels. The peer,
whose polygons are in pixels, writes the classes as JSON inside of a string, with two decimals as ours.
Reading is ours beside ``geopandas.read_file``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

import stdistill as sd
from stdistill._formats.outlines import read_outlines

MPP, SPACING_UM, N_VERTICES, N_NICHES = 0.5, 10.0, 17, 20


def make_slide(n_cells: int) -> SpatialData:
    """Make a slide of round nuclei, whose niches lie in stripes."""
    rng = np.random.default_rng(0)
    side = np.sqrt(n_cells) * SPACING_UM
    centers = rng.uniform(0, side, (n_cells, 2))
    angles = np.linspace(0, 2 * np.pi, N_VERTICES)
    corners = centers[:, None] + 3.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners[:, -1] = corners[:, 0]
    names = pd.RangeIndex(1, n_cells + 1)
    obs = pd.DataFrame(
        {
            "region": pd.Categorical(["nuclei"]).repeat(n_cells),
            "instance_id": names,
            "student_niche": pd.Categorical((centers[:, 0] / 100).astype(int) % N_NICHES).rename_categories(str),
            "student_confidence": rng.random(n_cells).astype(np.float32),
        },
        index=names.astype(str),
    )
    table = ad.AnnData(np.zeros((n_cells, 1), np.float32), obs=obs, obsm={"spatial": centers})
    pixels = da.zeros((3, round(side / MPP), round(side / MPP)), dtype=np.uint8, chunks=(3, 4096, 4096))
    image = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), transformations={"global": Scale([MPP, MPP], axes=("x", "y"))}
    )
    nuclei = gpd.GeoDataFrame(geometry=shapely.polygons(corners), index=names)
    return SpatialData.init_from_elements(
        {
            "he": image,
            "nuclei": ShapesModel.parse(nuclei, transformations={"global": Identity()}),
            "table": TableModel.parse(table, region="nuclei", region_key="region", instance_key="instance_id"),
        }
    )


def make_frame(slide: SpatialData) -> gpd.GeoDataFrame:
    """Make what others write: a frame in pixels, with the classification as JSON in a column."""
    table = slide["table"]
    classes = [
        json.dumps({"name": name, "color": [int(255 * each) for each in color]})
        for name, color in zip(map(str, range(N_NICHES)), np.random.default_rng(0).random((N_NICHES, 3)), strict=True)
    ]
    columns = {
        "objectType": "detection",
        "classification": np.array(classes)[table.obs["student_niche"].cat.codes],
        "student_confidence": table.obs["student_confidence"].to_numpy(),
    }
    return gpd.GeoDataFrame(
        columns, geometry=shapely.transform(slide["nuclei"].geometry.to_numpy(), lambda um: um / MPP)
    )


def measure(name: str, function: Callable[[], Any], path: Path) -> None:
    """Print the seconds of a call, of the clock and of the CPU, the size of the file and the growth of peak memory."""
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    function()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    size = path.stat().st_size / 2**20
    print(f"{name:<28}{seconds:>9.2f}{cpu:>9.2f}{size:>9.1f}{peak_mb() - before:>10.0f}", flush=True)


def peak_mb() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write and read a slide's nuclei."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=100_000)
    parser.add_argument("--alone", action="store_true", help="without the peer, and without reading")
    parser.add_argument("--quick", action="store_true", help="5,000 nuclei")
    arguments = parser.parse_args()
    n_cells = 5_000 if arguments.quick else arguments.n_cells
    warnings.simplefilter("ignore")
    slide = make_slide(n_cells)
    with tempfile.TemporaryDirectory() as folder:
        ours, packed, regions, theirs = (
            Path(folder) / name for name in ("a.geojson", "a.geojson.gz", "r.geojson", "b.geojson")
        )
        key = "student_niche"
        sd.io.to_geojson(slide, regions, key=key, as_regions=True)  # loads what is needed
        print(f"{n_cells} nuclei of {N_VERTICES} vertices, {N_NICHES} niches")
        print(f"{'way':<28}{'seconds':>9}{'CPU s':>9}{'MB':>9}{'peak +MB':>10}")
        measure("to_geojson", lambda: sd.io.to_geojson(slide, ours, key=key), ours)
        measure("to_geojson, .gz", lambda: sd.io.to_geojson(slide, packed, key=key), packed)
        measure("to_geojson, regions", lambda: sd.io.to_geojson(slide, regions, key=key, as_regions=True), regions)
        if not arguments.alone:
            frame = make_frame(slide)
            options = {"driver": "GeoJSON", "COORDINATE_PRECISION": 2}
            measure("GeoDataFrame.to_file", lambda: frame.to_file(theirs, **options), theirs)
            measure("read_outlines", lambda: read_outlines(ours, "px"), ours)
            measure("geopandas.read_file", lambda: gpd.read_file(ours), ours)


if __name__ == "__main__":
    main()
