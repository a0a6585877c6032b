"""Whether a student carries over to other slides from their H&E alone, on simulated slides with known niches.

    python benchmarks/transfer.py --out transfer
    python benchmarks/transfer.py --quick

A student learns the true niches, as labels, on one slide: what is measured is the way from H&E to niche, without a
teacher's own mistakes. All is with defaults, but for the encoder, which is the built-in one. It is asked for the niches
of

- its own slide's test strip;
- another section of the tissue, with the stain and the scanner of the first: with the cells' places given, and from the
  H&E alone, as `predict` does it, its nuclei found first;
- that section in another stain, from another scanner, and at 0.5 µm per pixel, from the H&E alone;
- another tissue, in its own stain;
- a field in the middle of that section with its pixels changed, and its nuclei as they were found before: so that all
  that differs is what the student sees.

Slides that look different are also brought to the stain of the training slide by squidpy (Macenko), nuclei as before,
and given to the same student.

A nucleus that was found has the niche of the true cell nearest to it, within 8 µm; without one it is left out.
Agreement is accuracy and ARI; `of the strip` is accuracy as a share of that on the test strip. `unusual` is the
median of `student_ood`, `rare` the share of cells above what one of a hundred is above on the test strip. AUROC is of
`student_ood`: cells of the slide against those of the other section, found and unchanged; one half is alike.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import warnings
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from skimage.color import hsv2rgb, rgb2hsv
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation
from squidpy.experimental import im

import stdistill as sd

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3)."""
Row = dict[str, Any]

MATCH_UM = 8.0
OTHER = 100
"""Added to a seed, it is that of another stain, scanner and tissue."""
SAME = "nuclei found"
"""The slide that all others are compared with."""
STRIP = "test strip"
FIELD = "field, unchanged"


def shift_hue(pixels: Pixels, by: float) -> Pixels:
    """Turn the hue, of 0 to 1."""
    hsv = rgb2hsv(pixels)
    hsv[..., 0] = (hsv[..., 0] + by) % 1
    return np.rint(hsv2rgb(hsv) * 255).astype(np.uint8)


def compress(pixels: Pixels) -> Pixels:
    """Write as JPEG of quality 15, and read it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=15)
    return np.asarray(Image.open(file))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "hue +.05": lambda pixels: shift_hue(pixels, 0.05),
    "hue -.05": lambda pixels: shift_hue(pixels, -0.05),
    "brightness x.8": lambda pixels: np.rint(pixels * 0.8).astype(np.uint8),
    "blur, 2 px": lambda pixels: gaussian_filter(pixels, (2, 2, 0)),
    "JPEG 15": compress,
    "inverted": lambda pixels: 255 - pixels,
}
QUICK = [SAME, "other stain", "other stain, normalised", "hue +.05", FIELD]
"""What the short variant looks at."""
BARS: list[tuple[str, str, str, float]] = [
    (SAME, "of the strip", "at least", 0.8),
    ("0.5 µm per pixel", "of the strip", "at least", 0.7),
    ("other stain", "of the strip", "at least", 0.7),
    (SAME, "rare", "below", 0.1),
    *((name, "AUROC", "at least", 0.99) for name in ("other tissue", *CHANGES) if name != "JPEG 15"),
    (STRIP, "ECE after", "at most", 0.08),
]
"""What was to be reached, set before anything was measured."""


class Tissue:
    """Slides of one simulated tissue, and a student of one of them; all that is made is kept in a folder."""

    def __init__(self, folder: Path, seed: int, options: argparse.Namespace) -> None:
        self.folder, self.seed, self.options = folder / f"seed_{seed}", seed, options

    def bundle(self, name: str, n_cells: int, *, tissue: int = 0, **look: Any) -> Path:
        """Simulate a slide, once."""
        path = self.folder / "slides" / name
        if not path.exists():
            sd.datasets.simulate_xenium(path, n_cells=n_cells, seed=self.seed + tissue, **look)
        return path

    def kept(self, name: str, make: Callable[[], ad.AnnData]) -> ad.AnnData:
        """Make a table, once."""
        path = self.folder / "tables" / f"{name.replace(' ', '_')}.h5ad"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            table, part = make(), path.with_suffix(".part")
            table.write_h5ad(part)
            part.replace(path)
        return ad.read_h5ad(path)

    def train(self) -> tuple[SpatialData, ad.AnnData]:
        """Train on all strips but one."""
        bundle = self.bundle("training", self.options.n_cells)
        slide = sd.pp.read_xenium(bundle)

        def make() -> ad.AnnData:
            sd.pp.embed_he(
                slide,
                encoder="texture",
                crop_px=self.options.crop_px,
                n_augmented=self.options.n_augmented,
                store=self.folder / "training_features",
            )
            sd.pp.split_strips(slide, crop_px=self.options.crop_px)
            slide["table"].obs["truth"] = true_niches(slide, bundle)["niche"].to_numpy()
            student = sd.tl.distill(
                slide,
                teacher_key="truth",
                standardize=self.options.standardize,
                max_epochs=self.options.epochs,
                seed=self.seed,
                progress_bar=False,
            )
            student.save(self.folder / "student", overwrite=True)
            return slide["table"]

        return slide, self.kept("training", make)

    def find(self, bundle: Path) -> SpatialData:
        """Read the H&E of a slide, and find its nuclei, once; the true niche of each goes with it."""
        slide = sd.pp.read_slide(bundle / "simulated_he_image.ome.tif")
        sd.pp.detect_nuclei(slide, store=self.folder / "nuclei" / bundle.name)
        cells = true_niches(sd.pp.read_xenium(bundle), bundle)
        slide["table"].obs["truth"] = nearest_niches(slide["table"].obsm["spatial"], cells)
        return slide

    def predict(self, slide: SpatialData) -> ad.AnnData:
        """Ask the student, which makes what is missing of it: the nuclei's features and neighbourhoods."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The H&E features of this slide")  # what is measured here
            sd.tl.predict(slide, self.folder / "student")
        return slide["table"]


def true_niches(slide: SpatialData, bundle: Path) -> pd.DataFrame:
    """Places on the H&E, in its µm, and niches of the cells, in the order of the table."""
    truth = pd.read_parquet(bundle.with_name(f"{bundle.name}_truth.parquet")).set_index("cell_id")
    cells = sd.get.he_pixels(slide)
    cells[["x", "y"]] *= cells[["mpp"]].to_numpy()
    return cells.assign(niche=truth["niche"].astype(str).loc[cells.index])


def nearest_niches(centers: npt.NDArray[np.floating], cells: pd.DataFrame) -> pd.Categorical:
    """Niche of the true cell nearest to each centre (n, 2), µm on the H&E; missing without one within 8 µm."""
    distance, nearest = cKDTree(cells[["x", "y"]].to_numpy()).query(centers, distance_upper_bound=MATCH_UM)
    niches = np.append(cells["niche"].to_numpy(dtype=object), None)
    return pd.Categorical(niches[np.where(np.isfinite(distance), nearest, len(cells))])


def given(bundle: Path) -> SpatialData:
    """Read a slide with its cells, whose niches are known."""
    slide = sd.pp.read_xenium(bundle)
    slide["table"].obs["truth"] = true_niches(slide, bundle)["niche"].to_numpy()
    return slide


def pixels_of(slide: SpatialData) -> Pixels:
    """Read the H&E whole."""
    return np.moveaxis(slide["he"]["scale0"]["image"].to_numpy(), 0, -1)


def with_pixels(slide: SpatialData, pixels: Pixels, rows: slice | npt.NDArray[np.integer] = slice(None)) -> SpatialData:
    """Return the slide with another H&E, some of its nuclei, and nothing that was computed of them."""
    table = slide["table"][rows]
    bare = ad.AnnData(
        obs=table.obs[["region", "instance_id", "truth"]].copy(), obsm={"spatial": table.obsm["spatial"].copy()}
    )
    bare.uns["spatialdata_attrs"] = dict(slide["table"].uns["spatialdata_attrs"])
    image = Image2DModel.parse(
        pixels, dims=("y", "x", "c"), transformations=get_transformation(slide["he"], get_all=True), chunks=512
    )
    return SpatialData(
        images={"he": image}, shapes={"nuclei": slide["nuclei"]}, tables={"table": bare}, attrs=slide.attrs
    )


def with_tissue(slide: SpatialData) -> SpatialData:
    """Return the H&E with the mask of its tissue, within which squidpy looks for stains."""
    slide = SpatialData(images={"he": slide["he"]})
    im.detect_tissue(slide, "he", new_labels_key="he_tissue")
    return slide


def middle(table: ad.AnnData, n_cells: int) -> npt.NDArray[np.integer]:
    """Rows of so many cells in a square around the middle."""
    centers = table.obsm["spatial"]
    distance = np.abs(centers - (centers.min(axis=0) + centers.max(axis=0)) / 2).max(axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:n_cells])


def measure(name: str, table: ad.AnnData, *, rare: float, same: ad.AnnData) -> Row:
    """Compare the student's niches with the truth, and how unusual the cells are with those of the same tissue."""
    known = table.obs[["truth", "student_niche"]].dropna().astype(str)
    unusual, usual = (cells.obs["student_ood"].dropna() for cells in (table, same))
    is_other = np.repeat([0, 1], [len(usual), len(unusual)])
    return {
        "slide": name,
        "cells": table.n_obs,
        "matched": table.obs["truth"].notna().mean(),
        "accuracy": (known["truth"] == known["student_niche"]).mean(),
        "ARI": adjusted_rand_score(known["truth"], known["student_niche"]) if len(known) else np.nan,
        "unusual": unusual.median(),
        "rare": (unusual > rare).mean(),
        "AUROC": roc_auc_score(is_other, np.concatenate([usual, unusual])),
    }


class Slides:
    """The slides that a student is asked for, by name; each is made when it is asked for."""

    def __init__(self, tissue: Tissue, training: SpatialData) -> None:
        self.tissue, self.training, self.options = tissue, training, tissue.options
        seed = tissue.seed + OTHER
        self.makers: dict[str, Callable[[], SpatialData]] = {
            "cells given": lambda: given(self.section()),
            SAME: lambda: tissue.find(self.section()),
            "other stain": lambda: tissue.find(self.section(stain_seed=seed)),
            "other scanner": lambda: tissue.find(self.section(scanner_seed=seed)),
            "0.5 µm per pixel": lambda: tissue.find(self.section(he_mpp=0.5)),
            "other tissue": self.other_tissue,
        }
        self.makers |= {name: partial(self.changed, change) for name, change in CHANGES.items()}
        for name in ("field, unchanged", "other stain", "other scanner", "hue +.05"):
            self.makers[f"{name}, normalised"] = partial(self.normalised, name)
        self.makers[FIELD] = self.unchanged

    def section(self, **look: Any) -> Path:
        """Simulate another section of the tissue."""
        name = "_".join(["other", *look])
        return self.tissue.bundle(name, self.options.n_other, **look)

    def other_tissue(self) -> SpatialData:
        """Find the nuclei of another tissue, whose niches are others."""
        slide = self.tissue.find(self.tissue.bundle("other_tissue", self.options.n_field, tissue=OTHER))
        slide["table"].obs["truth"] = pd.Categorical([None] * slide["table"].n_obs)
        return slide

    @cached_property
    def found(self) -> tuple[SpatialData, Pixels]:
        """The other section with its nuclei, and its pixels."""
        slide = self.tissue.find(self.section())
        return slide, pixels_of(slide)

    def changed(self, change: Callable[[Pixels], Pixels]) -> SpatialData:
        """Change the pixels of the other section, and keep the nuclei of its middle."""
        slide, pixels = self.found
        return with_pixels(slide, change(pixels), middle(slide["table"], self.options.n_field))

    def unchanged(self) -> SpatialData:
        """Keep the nuclei of its middle."""
        return self.changed(lambda pixels: pixels)

    @cached_property
    def reference(self) -> im.StainReference:
        """The stain of the training slide."""
        return im.fit_stain_reference(with_tissue(self.training), "he")

    def normalised(self, name: str) -> SpatialData:
        """Bring a slide to the stain of the training slide."""
        slide = self.makers[name]()
        pixels = im.normalize_stains(with_tissue(slide), "he", self.reference, inplace=False)
        return with_pixels(slide, np.moveaxis(pixels.to_numpy(), 0, -1))


def compare(tissue: Tissue) -> list[Row]:
    """Measure one student on all slides."""
    training, trained = tissue.train()
    cells = trained[trained.obs["split"] == "test"]
    record = trained.uns["stdistill"]["distill"]
    slides = Slides(tissue, training).makers
    names = [name for name in slides if not tissue.options.quick or name in QUICK]
    tables = {name: tissue.kept(name, lambda name=name: tissue.predict(slides[name]())) for name in names}
    rare = float(np.percentile(cells.obs["student_ood"].dropna(), 99))
    strip = measure(STRIP, cells, rare=rare, same=tables[SAME])
    rows = [strip, *(measure(name, tables[name], rare=rare, same=tables[SAME]) for name in names)]
    for row in rows:
        row["of the strip"] = row["accuracy"] / strip["accuracy"]
    strip |= {"ECE before": record["ece_before"], "ECE after": record["ece_after"]}
    return rows


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each seed with what was to be reached."""
    found = []
    for slide, column, relation, bar in BARS:
        values = table.loc[table["slide"] == slide, column]
        if values.empty:
            continue
        hold = {"at least": values >= bar, "at most": values <= bar, "below": values < bar}[relation]
        found.append(
            {
                "slide": slide,
                "what": f"{column} {relation} {bar:g}",
                "mean": values.mean(),
                "worst": values.min() if relation == "at least" else values.max(),
                "holds": f"{hold.sum()} of {len(hold)}",
            }
        )
    return pd.DataFrame(found)


def main() -> None:
    """Compare for each seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23], help="of tissues, and of all fitted")
    parser.add_argument("--n-cells", type=int, default=5_000, help="of training slides")
    parser.add_argument("--n-other", type=int, default=1_200, help="of the slides that are predicted")
    parser.add_argument("--n-field", type=int, default=400, help="of fields with changed pixels, and of other tissue")
    parser.add_argument("--crop-px", type=int, default=224)
    parser.add_argument("--n-augmented", type=int, default=0, help="augmented slides that the student learns from, too")
    parser.add_argument(
        "--standardize", choices=("training", "slide"), default="training", help="by what cells features are"
    )
    parser.add_argument("--epochs", type=int, help="of the student, by default its default")
    parser.add_argument(
        "--out", type=Path, help="folder to keep, with transfer.csv; a run that was stopped goes on from it"
    )
    parser.add_argument("--quick", action="store_true", help="small slides, small crops, two epochs")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.n_cells, options.n_other, options.n_field = [0], 800, 150, 80
        options.crop_px, options.epochs = 64, 2
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        rows = [{"seed": seed, **row} for seed in options.seeds for row in compare(Tissue(folder, seed, options))]
        table = pd.DataFrame(rows)
        table.to_csv(folder / "transfer.csv", index=False)
    for seed, part in table.groupby("seed"):
        print(f"\nSeed {seed}\n{part.drop(columns='seed').round(3).to_string(index=False, na_rep='')}")
    if table["seed"].nunique() > 1:
        mean = table.drop(columns="seed").groupby("slide", sort=False).mean(numeric_only=True)
        print(f"\nMean\n{mean.round(3).to_string(na_rep='')}")
    print(f"\n{verdicts(table).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
