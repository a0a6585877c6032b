"""Students of one slide and of four, asked for a fifth: sections of one simulated tissue from five laboratories.

    python benchmarks/leave_one_slide_out.py --out several
    python benchmarks/leave_one_slide_out.py --quick

Each section is stained and scanned as another laboratory would, and is left out once. Students learn the true niches,
as labels, of the four others ("others"), or of the next of them alone ("one"): about as many steps, fewer cells. Cells
are given, so that all that differs is how the H&E looks. The features are the built-in encoder's,

- plain: as they are;
- looks: with four augmented slides of each (`embed_he(n_augmented=4)`);
- normalised: every slide brought to the colours of the first, that which is left out, too (Reinhard, by squidpy, whose
  Macenko refuses some of these slides).

Features are brought to one mean and spread by all training cells ("training"), or on each slide by its own cells
("slide"), but for the normalised ones. "halves" is the student asked for the left and the right half of the slide as
if each was a slide: they hold other parts of the tissue than the whole.

Beside each student is the logistic regression on the mean features of the neighbourhood, of the same slides; it does
not learn from looks. Accuracy on the slide that is left out; the spread is the standard deviation over the five.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from squidpy.experimental import im
from transfer import true_niches, with_tissue

import stdistill as sd

LABORATORY = 1_000
"""Added to the number of a slide, and to the seed of the tissue, it is that of its stain and scanner."""
METHODS = {"student": "student", "regression": "logistic"}
"""Names, and the prefixes of what they write."""
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {"n_augmented": 0},
    "looks": {"n_augmented": 4},
    "normalised": {"n_augmented": 0},
}


STANDARDIZED = {"plain": ("training", "slide"), "looks": ("training", "slide"), "normalised": ("training",)}


def section(folder: Path, seed: int, number: int, options: argparse.Namespace) -> Path:
    """Simulate a section of the tissue in a laboratory of its own, once."""
    path = folder / f"section_{number}"
    if not path.exists():
        laboratory = seed + LABORATORY + number
        # Another number of cells is another section of the tissue.
        sd.datasets.simulate_xenium(
            path, n_cells=options.n_cells + number, seed=seed, stain_seed=laboratory, scanner_seed=laboratory
        )
    return path


def describe(folder: Path, bundles: list[Path], features: str, options: argparse.Namespace) -> list[ad.AnnData]:
    """Read the slides with their true niches and their features."""
    slides = [sd.pp.read_xenium(bundle) for bundle in bundles]
    how = dict(FEATURES[features])
    if features == "normalised":
        how["stain_normalization"] = im.fit_stain_reference(with_tissue(slides[0]), "he", method="reinhard")
    for slide, bundle in zip(slides, bundles, strict=True):
        store = folder / f"{bundle.name}_{features}"
        sd.pp.embed_he(slide, encoder="texture", crop_px=options.crop_px, store=store, **how)
        slide["table"].obs["truth"] = true_niches(slide, bundle)["niche"].to_numpy()
    return [slide["table"] for slide in slides]


def ask(
    slides: list[ad.AnnData], left_out: int, training: int, standardize: Any, options: argparse.Namespace
) -> dict[str, float]:
    """Fit a student and a regression to the slides that follow, and measure their accuracy on the one left out."""
    fitted = [slides[(left_out + 1 + step) % len(slides)].copy() for step in range(training)]
    asked = slides[left_out].copy()
    truth = asked.obs["truth"].astype(str)
    asked.obs["truth"] = pd.Categorical([None] * asked.n_obs)
    how: dict[str, Any] = {"teacher_key": "truth", "standardize": standardize}
    student = sd.tl.distill(fitted, max_epochs=options.epochs, progress_bar=False, **how)
    sd.tl.logistic_niches([*fitted, asked], **how)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The H&E features of this slide")  # what is measured here
        sd.tl.predict(asked, student)
        niches = {name: asked.obs[f"{key}_niche"] for name, key in METHODS.items()}
        niches["halves"] = pd.concat([half.obs["student_niche"] for half in predicted_halves(asked, student)])
    return {name: float((found.astype(str) == truth.loc[found.index]).mean()) for name, found in niches.items()}


def predicted_halves(slide: ad.AnnData, student: sd.models.NicheModel) -> Iterator[ad.AnnData]:
    """Ask the student for the left and the right half of the cells, each alone."""
    x = slide.obsm["spatial"][:, 0]
    for half in (x < np.median(x), x >= np.median(x)):
        part = slide[half].copy()
        sd.pp.neighborhoods(part, radius_um=student.radius_um)
        sd.tl.predict(part, student)
        yield part


def compare(folder: Path, seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Leave out each slide of a tissue, and yield what the students and regressions of the others say of it."""
    bundles = [section(folder, seed, number, options) for number in range(options.n_slides)]
    for features in options.features:
        slides = describe(folder, bundles, features, options)
        numbers = {"one": 1, "others": options.n_slides - 1}
        for standardize, name, left_out in product(STANDARDIZED[features], numbers, range(options.n_slides)):
            found = ask(slides, left_out, numbers[name], standardize, options)
            row = {"seed": seed, "features": features, "by": standardize, "slides": name, "left out": left_out, **found}
            print(row, flush=True)
            yield row


def main() -> None:
    """Compare on each tissue, and print means and spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[51, 52, 53], help="of tissues")
    parser.add_argument("--n-slides", type=int, default=5, help="of each tissue")
    parser.add_argument("--n-cells", type=int, default=2_000, help="of each section")
    parser.add_argument("--features", nargs="+", default=list(FEATURES), choices=list(FEATURES))
    parser.add_argument("--crop-px", type=int, default=224)
    parser.add_argument("--epochs", type=int, help="of the students, by default their default")
    parser.add_argument("--out", type=Path, help="folder to keep, with leave_one_slide_out.csv")
    parser.add_argument("--quick", action="store_true", help="three small sections, small crops, three epochs")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.n_slides, options.n_cells = [0], 3, 150
        options.crop_px, options.epochs = 64, 3
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        rows = pd.DataFrame([row for seed in options.seeds for row in compare(folder / f"seed_{seed}", seed, options)])
        rows.to_csv(folder / "leave_one_slide_out.csv", index=False)
    groups = rows.groupby(["seed", "features", "by", "slides"], sort=False)[[*METHODS, "halves"]]
    print(f"\n{groups.agg(['mean', 'std', 'min']).round(3).to_string()}")
    if len(options.seeds) > 1:
        mean = groups.mean().groupby(["features", "by", "slides"], sort=False).mean()
        print(f"\nMean over tissues\n{mean.round(3).to_string()}")


if __name__ == "__main__":
    main()
