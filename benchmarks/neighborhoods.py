"""Neighbourhood graph: time and peak memory beside squidpy and scikit-learn.

    python benchmarks/neighborhoods.py --n-cells 1000000

Every method runs in a process of its own, so that peak memories do not mix; ours once more with the compiled kernels
warm. The tissue is clustered, with holes. Prints a table, and checks that the edges are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import anndata as ad
import numpy as np
from scipy.sparse import csr_matrix
from tissue import tissue


def run(method: str, n_cells: int, radius_um: float) -> dict[str, Any]:
    """Build the graph and measure it, beyond what the process held before."""
    cells = ad.AnnData(csr_matrix((n_cells, 1)), obsm={"spatial": tissue(n_cells)})
    if method.startswith("stdistill"):
        import stdistill as sd

        warm = ad.AnnData(csr_matrix((1000, 1)), obsm={"spatial": tissue(1000)})
        if "first call" not in method:
            sd.pp.neighborhoods(warm, radius_um=60)
    elif method == "squidpy":
        import squidpy as sq
    else:
        from sklearn.neighbors import radius_neighbors_graph
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if method == "squidpy":
        sq.gr.spatial_neighbors_radius(cells, radius=radius_um)
    elif method == "scikit-learn":
        graph = radius_neighbors_graph(cells.obsm["spatial"], radius_um, mode="distance")
        cells.obsp["spatial_distances"], cells.obsp["spatial_connectivities"] = graph, graph.sign()
    elif "search" in method:
        sd.pp.neighborhoods(cells, n_neighbors=50)
    else:
        sd.pp.neighborhoods(cells, radius_um=radius_um)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    matrices = [cells.obsp["spatial_connectivities"], cells.obsp["spatial_distances"]]
    size = sum(part.nbytes for m in matrices for part in (m.data, m.indices, m.indptr))
    graph = matrices[0]
    graph.sort_indices()
    edges = hashlib.sha256(graph.indptr.astype(np.int64)).hexdigest()
    edges += hashlib.sha256(graph.indices.astype(np.int64)).hexdigest()
    return {
        "method": method,
        "seconds": seconds,
        "peak_over_returned": peak / size,
        "neighbors": graph.nnz / n_cells,
        "edges": edges,
        "radius_um": cells.uns.get("spatial_neighbors", {}).get("params", {}).get("radius", radius_um),
    }


def run_apart(method: str, n_cells: int, radius_um: float) -> dict[str, Any]:
    """Run in a fresh process."""
    command = [sys.executable, __file__, "--n-cells", str(n_cells), "--radius-um", str(radius_um), "--only", method]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Run all methods at the radius that ours finds, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-cells", type=int, default=1_000_000)
    parser.add_argument("--radius-um", type=float)
    parser.add_argument("--only")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.only:
        warnings.simplefilter("ignore")
        print(json.dumps(run(arguments.only, arguments.n_cells, arguments.radius_um)))
        return
    found = run_apart("stdistill, with search", arguments.n_cells, 0.0)
    radius_um = found["radius_um"]
    print(f"{arguments.n_cells} cells, radius {radius_um:.2f} µm, {found['neighbors']:.1f} neighbours per cell")
    print(f"{'method':<28}{'seconds':>9}{'squidpy / it':>14}{'peak / returned':>17}  same edges")
    reference: dict[str, Any] = {}
    for method in ("squidpy", "scikit-learn", "stdistill", "stdistill, with search", "stdistill, first call"):
        repeats = 1 if method == "scikit-learn" else arguments.repeats
        runs = sorted(
            (run_apart(method, arguments.n_cells, radius_um) for _ in range(repeats)), key=lambda r: r["seconds"]
        )
        median = runs[len(runs) // 2]
        reference = reference or median
        print(
            f"{method:<28}{median['seconds']:>9.2f}{reference['seconds'] / median['seconds']:>14.1f}"
            f"{median['peak_over_returned']:>17.2f}  {median['edges'] == reference['edges']}"
        )


if __name__ == "__main__":
    main()
