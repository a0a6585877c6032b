"""How simulated H&E compares with real H&E, by what can be measured without knowing any niche.

    python benchmarks/he_realism.py
    python benchmarks/he_realism.py --quick

Real: CMU-1-Small-Region (OpenSlide's test data, CC0) and four sections of her2st (Andersson et al. 2021, Nat Commun
12:6012), of two patients. The simulator was set by the first three; C3 and C5 were looked at afterwards. Simulated:
`sd.datasets.simulate_xenium` of three seeds. All are brought to 1 µm per pixel, and unmixed with stain vectors that are
estimated from the slide itself (Macenko et al. 2009).

- cv w: standard deviation over mean of a stain, averaged over squares of w µm of tissue: nuclei and fibres at 1 µm,
  niches, thickness and staining at 128 µm;
- r: correlation of both stains over squares of 128 µm: where niches differ in cells and in fibres alone it is near -1,
  and thickness raises it;
- drift: share of the variance of squares of 128 µm that a quadratic surface over the whole section explains;
- sharpness: standard deviation over squares of 128 µm of the logarithm of fine over coarse contrast;
- H&E alone: ARI of k-means of mean `"texture"` features of neighbourhoods with the true niches of simulated slides, how
  far the H&E gives them away without any teacher.

`--quick` takes one real and one small simulated slide. It shows that the script works.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile
from PIL import Image
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

import stdistill as sd
from stdistill._slide.glass import glass_color
from stdistill._slide.stain import stain_vectors
from stdistill._slide.tissue import optical_density

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
Image.MAX_IMAGE_PIXELS = None  # the sections are larger than what Pillow takes for an attack
SECTIONS = ("B4", "C2", "C3", "C5")
SPOT_PITCH_UM = 200
SEEDS = (3, 4, 6)
HE_MPP = 0.75
TEXTURE_MPP = 0.274
"""Crops are 61 µm wide, as those of the slides that the paper is about."""
GRAIN, MIDDLE, COARSE = 1, 16, 128
"""Sides of the squares, in µm, which are pixels."""
TISSUE_PX, TISSUE_DENSITY = 8, 0.1
"""Tissue is what absorbs more in squares of so many pixels."""
FULL = 0.95
"""Share of a square that must be tissue."""
N_COLORS = 500_000
"""Pixels that stain vectors are estimated from."""

Array = npt.NDArray[np.floating]


def squares(values: Array, side: int) -> Array:
    """Average (height, width) over squares, without what is left at the edges."""
    rows, columns = (n // side for n in values.shape)
    cut = values[: rows * side, : columns * side]
    means: Array = cut.reshape(rows, side, columns, side).mean(axis=(1, 3))
    return means


def contrast(density: Array, side: int) -> Array:
    """Mean square in squares of `COARSE` pixels of what changes from one square of `side` pixels to the next."""
    fine, coarse = squares(density, side), squares(density, 2 * side)
    change = (fine - np.kron(coarse, np.ones((2, 2)))) ** 2
    return squares(change, COARSE // side)


def drift(values: Array, places: Array) -> float:
    """Share of the variance of values (n,) at places (n, 2) that a quadratic surface explains."""
    x, y = ((places - places.mean(axis=0)) / places.std(axis=0)).T
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    rest = values - surface @ np.linalg.lstsq(surface, values, rcond=None)[0]
    return float(1 - rest.var() / values.var())


def measure(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Measure an H&E (height, width, 3) of 1 µm per pixel."""
    rgb = rgb[: len(rgb) // COARSE * COARSE, : rgb.shape[1] // COARSE * COARSE]
    glass = glass_color(np.moveaxis(rgb, -1, 0).reshape(3, -1))
    density = optical_density(rgb, glass)
    absorbed = np.stack([squares(density[..., c], TISSUE_PX) for c in range(3)]).max(axis=0)
    tissue = np.kron(absorbed > TISSUE_DENSITY, np.ones((TISSUE_PX, TISSUE_PX), dtype=bool))
    seen = rgb[tissue]
    vectors = stain_vectors([seen[:: max(1, len(seen) // N_COLORS)].reshape(-1, 1, 3)], glass)
    if vectors is None:
        msg = "There is too little tissue to measure."
        raise ValueError(msg)
    stains = np.moveaxis(density @ np.linalg.pinv(vectors).astype(np.float32), -1, 0)
    found = {"tissue mm²": tissue.sum() / 1e6}
    covers = {side: squares(tissue.astype(np.float32), side) for side in (GRAIN, MIDDLE, COARSE)}
    coarse = []
    for name, stain in zip("HE", stains, strict=True):
        level = stain[tissue].mean()
        for side, cover in covers.items():
            full = cover > FULL
            means = squares(np.where(tissue, stain, 0), side)[full] / cover[full]
            found[f"{name} cv {side}"] = means.std() / level
        coarse.append(means)
        found[f"{name} drift"] = drift(means, np.argwhere(full).astype(float))
    found["r"] = np.corrcoef(coarse)[0, 1]
    total = density.sum(axis=-1)
    full = covers[COARSE] > FULL
    found["sharpness"] = np.log(contrast(total, 1)[full] / contrast(total, 4)[full]).std()
    return {name: float(value) for name, value in found.items()}


def at_one_um(image: Image.Image, mpp: float) -> npt.NDArray[np.uint8]:
    """Bring an H&E to 1 µm per pixel."""
    size = round(image.width * mpp), round(image.height * mpp)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def read_cmu() -> npt.NDArray[np.uint8]:
    """Read CMU-1-Small-Region."""
    pixels = tifffile.imread(SHARED_DATA / "he_small_images/CMU-1-Small-Region.svs", key=0)
    return at_one_um(Image.fromarray(pixels), 0.499)


def read_section(name: str) -> npt.NDArray[np.uint8]:
    """Read a section of her2st, whose scale is told by the pitch of the spots."""
    spots = pd.read_csv(SHARED_DATA / f"her2st/spots/{name}_selection.tsv", sep="\t")[["pixel_x", "pixel_y"]]
    pitch = np.median(cKDTree(spots).query(spots, k=2)[0][:, 1])
    return at_one_um(Image.open(SHARED_DATA / f"her2st/images/{name}.jpg"), SPOT_PITCH_UM / pitch)


def measure_simulated(seed: int, n_cells: int) -> dict[str, float]:
    """Simulate a slide, measure its H&E, and how far this alone gives the niches away."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = sd.datasets.simulate_xenium(Path(folder) / "outs", n_cells=n_cells, seed=seed, he_mpp=HE_MPP)
        pixels = tifffile.imread(bundle / "simulated_he_image.ome.tif", key=0)
        found = measure(at_one_um(Image.fromarray(pixels), HE_MPP))
        slide = sd.pp.read_xenium(bundle)
        sd.pp.neighborhoods(slide)
        sd.pp.embed_he(slide, encoder="texture", mpp=TEXTURE_MPP)
        truth = pd.read_parquet(Path(folder) / "outs_truth.parquet").set_index("cell_id")["niche"]
    cells = slide["table"]
    niches = cells.obs["cell_id"].map(truth)
    sd.tl.kmeans_niches(cells, k=niches.nunique(), use_rep="X_he", key_added="he_kmeans")
    return found | {"H&E alone": adjusted_rand_score(niches, cells.obs["he_kmeans_niche"])}


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    found = {"CMU-1": measure(read_cmu())}
    found |= {} if quick else {name: measure(read_section(name)) for name in SECTIONS}
    seeds, n_cells = (SEEDS[:1], 3000) if quick else (SEEDS, 8000)
    found |= {f"seed {seed}": measure_simulated(seed, n_cells) for seed in seeds}
    print(pd.DataFrame(found).round(2).to_string(na_rep="-"))


if __name__ == "__main__":
    main()
