"""Nuclei in H&E: the shipped network and the component tree beside two classical ways; accuracy, tiles, speed.

    for fold in 0 1 2 3; do python benchmarks/train_nuclei.py folds/$fold.safetensors --leave-out $fold; done
    python benchmarks/nuclei.py --folds folds
    python benchmarks/nuclei.py --quick

Real images (`nuclei_data.py`) are found by networks that were trained without them. How large nuclei are on them is
not known, so that it is estimated from the image; once more with the true diameter, as a slide that states its µm per
pixel would have it. Simulated slides are of seeds that no training has seen. F1 is pooled over the nuclei of a group: a
nucleus is found when the intersection over union is above one half, or by its centre, when one is within 6 px of it.

Fold 0 served for development, so it is shown apart. The classical ways: Otsu's threshold of haematoxylin (Ruifrok and
Johnston 2001) and connected components; and the same with a watershed from the peaks of the distance to the border, as
squidpy segments.

`--quick` takes six images and the shipped network, which has seen them: it shows that the script works, not how good
the network is.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from nuclei_augmentation import Source
from nuclei_data import N_FOLDS, SHARED_DATA, TEST_SLIDES, TYPICAL_UM, Field, fold_of, read_real, read_simulated
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed
from torch.nn import functional
from train_nuclei import train

from stdistill._measures.instances import Matches, match_overlaps, match_places
from stdistill._nuclei import tiles
from stdistill._nuclei.density import NUCLEUS_PX, resized_density
from stdistill._nuclei.methods import Find, find_by_network, load_method
from stdistill._nuclei.network import WEIGHTS, load_network
from stdistill._nuclei.nuclei import Nuclei, join_nuclei
from stdistill._nuclei.scale import estimate_diameter_px, typical_diameter_px
from stdistill._support.cpus import n_cpus

Labels = npt.NDArray[np.integer]
Segment = Callable[[Field], Labels]
CENTRE_PX = 6
SPEED_PX, SPEED_MPP = 10_000, 0.274


def at_diameter(find: Find, field: Field, diameter_px: float) -> Labels:
    """Find nuclei after resizing a field, and bring their labels back to its size."""
    height, width = (max(round(side * NUCLEUS_PX / diameter_px), 1) for side in field.labels.shape)
    labels = torch.from_numpy(find(resized_density(field.pixels, height, width)))
    return functional.interpolate(labels[None, None].double(), size=field.labels.shape)[0, 0].numpy().astype(int)


def estimated(find: Find, network: Find) -> Segment:
    """Find at the diameter that a network estimates from the image."""

    def segment(field: Field) -> Labels:
        diameter = estimate_diameter_px([field.pixels], network)
        return np.zeros_like(field.labels) if diameter is None else at_diameter(find, field, diameter)

    return segment


def known(find: Find) -> Segment:
    """Find at the true diameter."""
    return lambda field: at_diameter(find, field, field.diameter_px)


def at_mpp(find: Find) -> Segment:
    """Find at the diameter that µm per pixel of a simulated slide let expect."""
    return lambda field: at_diameter(find, field, typical_diameter_px(TYPICAL_UM / field.diameter_px))


def otsu_components(field: Field) -> Labels:
    """Threshold haematoxylin, take connected components."""
    return ndimage.label(_otsu_mask(field))[0]


def otsu_watershed(field: Field) -> Labels:
    """Threshold haematoxylin, divide by a watershed from the peaks of the distance to the border."""
    mask = _otsu_mask(field)
    distance = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=5, labels=mask.astype(int))
    markers = np.zeros(mask.shape, dtype=int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=mask)


def _otsu_mask(field: Field) -> npt.NDArray[np.bool_]:
    haematoxylin = gaussian(rgb2hed(field.pixels)[..., 0], 1)
    return remove_small_objects(haematoxylin > threshold_otsu(haematoxylin), max_size=20)


def centres(labels: Labels) -> npt.NDArray[np.float64]:
    """Centres of mass (n, 2) of the labels."""
    numbers = np.unique(labels[labels > 0])
    return np.array(ndimage.center_of_mass(labels > 0, labels, numbers)).reshape(-1, 2)


def compare(field: Field, found: Labels) -> npt.NDArray[np.object_]:
    """Match by overlap and by centre."""
    by_place = match_places(centres(field.labels), centres(found), radius=CENTRE_PX)
    return np.array([match_overlaps(field.labels, found), by_place])


def print_scores(title: str, fields: list[Field], methods: dict[str, Callable[[int], Segment]], *, by: str) -> None:
    """Print F1 of the methods, pooled over groups of fields; a method is made for the number of a field."""
    groups = list(dict.fromkeys(getattr(field, by) for field in fields))
    print(f"\n{title}: F1 at IoU 0.5 / of centres within {CENTRE_PX} px")
    print(f"{'':<30}" + "".join(f"{group:>20}" for group in [*groups, "purple"][: len(groups) + (by == "group")]))
    for name, make in methods.items():
        totals = {group: np.array([Matches(0, 0, 0)] * 2) for group in groups}
        for number, field in enumerate(fields):
            totals[getattr(field, by)] += compare(field, make(number)(field))
        if by == "group":
            totals["purple"] = sum(
                (total for group, total in totals.items() if group.startswith("purple")),
                np.array([Matches(0, 0, 0)] * 2),
            )
        print(f"{name:<30}" + "".join(f"{total[0].f1:>13.3f} /{total[1].f1:>5.3f}" for total in totals.values()))


def score_real(data: Path, folds: Path | None) -> None:
    """Score all methods on the real images, the folds for report before that of development."""
    fields = read_real(data / "nuclei_dsb2018")
    fold = fold_of(fields)
    weights = [WEIGHTS if folds is None else folds / f"{number}.safetensors" for number in range(N_FOLDS)]
    nets = [find_by_network(load_network(path)) for path in weights]
    tree = load_method("tree")
    parts = {"Folds 1 to 3": np.flatnonzero(fold > 0), "Fold 0, of development": np.flatnonzero(fold == 0)}
    if folds is None:
        purple = [i for i, field in enumerate(fields) if field.group.startswith("purple")]
        parts = {"Six images, seen in training": np.array(purple[::9])}
    for title, chosen in parts.items():
        own = [nets[fold[i]] for i in chosen]
        methods: dict[str, Callable[[int], Segment]] = {
            "Otsu, components": lambda _: otsu_components,
            "Otsu, watershed": lambda _: otsu_watershed,
            "tree": lambda i, own=own: estimated(tree, own[i]),
            "tree, true diameter": lambda _: known(tree),
            "unet": lambda i, own=own: estimated(own[i], own[i]),
            "unet, true diameter": lambda i, own=own: known(own[i]),
        }
        print_scores(title, [fields[i] for i in chosen], methods, by="group")


def score_simulated(cache: Path) -> None:
    """Score all methods on simulated slides, at their µm per pixel."""
    methods: dict[str, Callable[[int], Segment]] = {
        "Otsu, components": lambda _: otsu_components,
        "Otsu, watershed": lambda _: otsu_watershed,
        "tree": lambda _: at_mpp(load_method("tree")),
        "unet": lambda _: at_mpp(load_method("unet")),
    }
    print_scores("Simulated slides", read_simulated(cache, TEST_SLIDES), methods, by="name")


def detect(pixels: npt.NDArray[np.uint8], mpp: float, find: Find) -> Nuclei:
    """Find the nuclei of an image that is in memory, tile by tile."""
    shape = pixels.shape[:2]
    plan = tiles.plan_tiles(shape, mpp)
    seen = (tiles.seen_from(tile, shape, mpp) for tile in plan)
    windows = (pixels[part.top : part.top + part.height, part.left : part.left + part.width] for part in seen)
    return join_nuclei([nuclei for _, nuclei in tiles.detect_nuclei(plan, windows, shape, mpp, find)])


def score_tiles(pixels: npt.NDArray[np.uint8], mpp: float) -> None:
    """Compare small tiles with the whole image at once: the same centres to a hundredth of a pixel."""
    usual = tiles.TILE_BLOCKS
    for name in ("unet", "tree"):
        find = load_method(name)
        found = []
        for tiles.TILE_BLOCKS in (3, 10_000):
            found.append(detect(pixels, mpp, find))
        same = match_places(found[1].centroids, found[0].centroids, radius=0.01)
        print(f"tiles against whole, {name}: F1 {same.f1:.4f} of {same.n_true} nuclei")
    tiles.TILE_BLOCKS = usual


def check_repeats(fields: list[Field]) -> None:
    """Train a few steps twice, the second time with a stop in between, and compare the bits."""
    sources = [Source(field) for field in fields]
    with tempfile.TemporaryDirectory() as folder:
        once = train(sources, None, steps=4)
        checkpoint = Path(folder) / "weights.checkpoint"
        train(sources, checkpoint, steps=4, stop=2, every=2)
        again = train(sources, checkpoint, steps=4, every=2)
    pairs = zip(once.state_dict().values(), again.state_dict().values(), strict=True)
    print(f"training repeats to the same bits: {all(torch.equal(a, b) for a, b in pairs)}")


def time_slide(pixels: npt.NDArray[np.uint8], side: int) -> None:
    """Measure time and memory on a field repeated to a slide."""
    height, width = pixels.shape[:2]

    plan = tiles.plan_tiles((side, side), SPEED_MPP)

    def windows() -> Iterator[npt.NDArray[np.uint8]]:
        for tile in plan:
            seen = tiles.seen_from(tile, (side, side), SPEED_MPP)
            rows, columns = np.arange(seen.top, seen.top + seen.height), np.arange(seen.left, seen.left + seen.width)
            yield pixels[rows[:, None] % height, columns % width]

    for name in ("unet", "tree"):
        find = load_method(name)
        load = os.getloadavg()[0]
        wall, cpu = time.perf_counter(), time.process_time()
        found = tiles.detect_nuclei(plan, windows(), (side, side), SPEED_MPP, find)
        n = sum(len(nuclei) for _, nuclei in found)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name}: {side} × {side} px at {SPEED_MPP} µm, {n} nuclei: {wall:.0f} s on {n_cpus()} CPUs, "
            f"{cpu:.0f} CPU s, peak {peak:.2f} GB; load before {load:.1f}"
        )


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--cache", type=Path, default=Path("nuclei_cache"), help="folder of the simulated slides")
    parser.add_argument("--folds", type=Path, help="folder of the weights trained without a fold: 0.safetensors …")
    parser.add_argument("--speed", action="store_true", help="time and memory alone")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        score_real(arguments.data, None)
        field = read_real(arguments.data / "nuclei_dsb2018")[0]
        pixels = np.tile(field.pixels, (4, 4, 1))
        score_tiles(pixels, TYPICAL_UM / field.diameter_px)
        check_repeats([field, replace(field, group="simulated")])
        time_slide(pixels, 1500)
        return
    if not arguments.speed:
        score_real(arguments.data, arguments.folds)
        score_simulated(arguments.cache)
        score_tiles(read_simulated(arguments.cache, {11: 0.274})[0].pixels, 0.274)
        check_repeats(read_real(arguments.data / "nuclei_dsb2018")[:4] + read_simulated(arguments.cache, {11: 0.274}))
    time_slide(read_simulated(arguments.cache, {11: 0.274})[0].pixels, SPEED_PX)


if __name__ == "__main__":
    main()
