"""Whether `sd.tl.verdict` is right, on simulated slides of which the true niches are known.

    python benchmarks/verdicts.py --out verdicts
    python benchmarks/verdicts.py --quick

A student learns the true niches of one slide, as in `transfer.py`, and is asked for those of slides that are good, in
another stain, from another scanner, blurred, dark, in another hue, under pen, blank, or given with the wrong µm per
pixel. What a verdict ought to be follows from what became of the niches, by a rule that was set before anything was
measured: accuracy as a share of that on the student's own test strip of at least .8 is "usable", of at least .5
"partly", below "not"; what has no niches of the training (another tissue, no tissue) is "not".

A verdict is `right` when it is that, and `safe` when it is no better than that: a careful verdict costs work, a
careless one results. `of the section` is accuracy as a share of that on the section as it is: what the change took.
`--quick` takes a few slides of a small tissue.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData
from tifffile import imwrite
from transfer import SAME, Pixels, Slides, Tissue, nearest_niches, shift_hue, true_niches

import stdistill as sd

ORDER = ("usable", "partly", "not")
USABLE, PARTLY = 0.8, 0.5
HE_MPP = 0.274
"""Of the simulated slides."""
QUICK = (SAME, "hue +.05", "blank", "µm per pixel x2")


def draw_pen(pixels: Pixels) -> Pixels:
    """Cover the upper third with blue ink, through which one sees."""
    drawn = pixels.astype(float)
    part = drawn[: len(drawn) // 3]
    part *= np.array([0.25, 0.35, 0.9])
    return drawn.astype(np.uint8)


def blur_half(pixels: Pixels) -> Pixels:
    """Blur the left half by 4 px."""
    blurred = pixels.copy()
    half = pixels.shape[1] // 2
    blurred[:, :half] = gaussian_filter(pixels, (4, 4, 0))[:, :half]
    return blurred


MORE_CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "hue +.02": lambda pixels: shift_hue(pixels, 0.02),
    "brightness x.9": lambda pixels: np.rint(pixels * 0.9).astype(np.uint8),
    "blur, 1 px": lambda pixels: gaussian_filter(pixels, (1, 1, 0)),
    "blur, 4 px": lambda pixels: gaussian_filter(pixels, (4, 4, 0)),
    "left half blurred, 4 px": blur_half,
    "pen over a third": draw_pen,
}


class JudgedSlides(Slides):
    """The slides of `transfer.py`, and those that there are no niches to compare on."""

    def __init__(self, tissue: Tissue, training: SpatialData) -> None:
        super().__init__(tissue, training)
        self.makers = {name: make for name, make in self.makers.items() if "normalised" not in name}
        self.makers |= {name: lambda change=change: self.changed(change) for name, change in MORE_CHANGES.items()}
        self.makers |= {
            "blank": lambda: self.written("blank", np.full((1500, 1500, 3), 240, np.uint8)),
            "black": lambda: self.written("black", np.full((1500, 1500, 3), 8, np.uint8)),
            "µm per pixel x2": lambda: self.wrong_scale(2),
            "µm per pixel x.5": lambda: self.wrong_scale(0.5),
        }

    def written(self, name: str, pixels: Pixels) -> SpatialData:
        """Write a slide without niches, a little noisy as scanners are, and read it."""
        path = self.tissue.folder / f"{name}.tif"
        noise = np.random.default_rng(0).integers(-3, 4, pixels.shape)
        imwrite(path, np.clip(pixels + noise, 0, 255).astype(np.uint8), photometric="rgb")
        return sd.pp.read_slide(path, mpp=HE_MPP)

    def wrong_scale(self, factor: float) -> SpatialData:
        """Read the other section as if its pixels were larger."""
        bundle = self.section()
        slide = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif", mpp=HE_MPP * factor)
        sd.pp.detect_nuclei(slide)
        cells = true_niches(sd.pp.read_xenium(bundle), bundle)
        slide["table"].obs["truth"] = nearest_niches(slide["table"].obsm["spatial"] / factor, cells)
        return slide


def judge(tissue: Tissue, name: str, make: Callable[[], SpatialData], strip: float) -> dict[str, object]:
    """Ask for niches and a verdict, and compare both with what is true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slide = make()
        verdict = sd.tl.verdict(slide, tissue.folder / "student")
    table = slide.tables.get("table")
    known = pd.DataFrame() if table is None or "student_niche" not in table.obs else table.obs
    columns = [column for column in ("truth", "student_niche") if column in known]
    known = known[columns].dropna().astype(str)
    share = (known["truth"] == known["student_niche"]).mean() / strip if len(columns) == 2 and len(known) else np.nan
    expected = "usable" if share >= USABLE else "partly" if share >= PARTLY else "not"
    return {
        "slide": name,
        "of the strip": share,
        "expected": expected,
        "verdict": verdict.verdict,
        "right": verdict.verdict == expected,
        "safe": ORDER.index(verdict.verdict) >= ORDER.index(expected),
        "reasons": "; ".join(verdict.reasons),
    }


def main() -> None:
    """Judge all slides of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31], help="of tissues, and of all fitted")
    parser.add_argument("--n-cells", type=int, default=4_000, help="of the training slide")
    parser.add_argument("--n-other", type=int, default=800, help="of the slides that are judged")
    parser.add_argument("--n-field", type=int, default=400, help="of fields with changed pixels, and of other tissue")
    parser.add_argument("--n-augmented", type=int, default=0, help="augmented slides that the student learns from, too")
    parser.add_argument(
        "--standardize", choices=("training", "slide"), default="training", help="by what cells features are"
    )
    parser.add_argument("--out", type=Path, help="folder to keep, with verdicts.csv")
    parser.add_argument("--quick", action="store_true", help="small slides, small crops, two epochs")
    options = parser.parse_args()
    options.crop_px, options.epochs = 224, None
    if options.quick:
        options.seeds, options.n_cells, options.n_other, options.n_field = [0], 800, 150, 80
        options.crop_px, options.epochs = 64, 2
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        for seed in options.seeds:
            tissue = Tissue(folder, seed, options)
            training, trained = tissue.train()
            test = trained.obs.loc[trained.obs["split"] == "test", ["truth", "student_niche"]].dropna().astype(str)
            strip = (test["truth"] == test["student_niche"]).mean()
            print(f"seed {seed}: {strip:.3f} of the test strip are right", flush=True)
            for name, make in JudgedSlides(tissue, training).makers.items():
                if not options.quick or name in QUICK:
                    rows.append({"seed": seed, **judge(tissue, name, make, strip)})
                    print({key: value for key, value in rows[-1].items() if key != "seed"}, flush=True)
        table = pd.DataFrame(rows)
        whole = table[table["slide"] == SAME].set_index("seed")["of the strip"]
        table.insert(3, "of the section", table["of the strip"] / table["seed"].map(whole))
        table.to_csv(folder / "verdicts.csv", index=False)
    print(f"\n{table.drop(columns='reasons').round(2).to_string(index=False)}")
    print(f"\nright: {table['right'].sum()} of {len(table)}; safe: {table['safe'].sum()} of {len(table)}")
    print(pd.crosstab(table["expected"], table["verdict"]).to_string())


if __name__ == "__main__":
    main()
