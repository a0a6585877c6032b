"""What H&E features know of genes and cell types: the built-in encoder beside colour and an ImageNet network.

    python benchmarks/her2st.py
    python benchmarks/her2st.py --quick

Patient C of her2st (Andersson et al. 2021, Nat Commun 12:6012) has four consecutive sections with full-resolution H&E:
C2, C3, C4 and C5. `sd.pp.embed_he` sees a window of 155 µm around each spot as 224 px. A ridge regression on
standardised features is fitted on three sections and predicts the fourth, four times over. Its penalty is chosen on the
three training sections alone, by leaving out each in turn. It predicts

- genes: log CP10k of the 200 most variable of the genes found in at least a tenth of the spots of every section. They
  are chosen once, from expression alone, and are the same for all features;
- cell types: the proportions of the 8 major cell types (stereoscope's estimates).

The score is Pearson's correlation over the spots of the section left out, averaged over targets and then sections.
`--quick` takes two sections, every other spot and 50 genes, and chooses the penalty by generalised cross-validation,
since the one training section cannot be left out. It shows that the script works, not which features are better.

Which families of statistics the texture encoder has was decided on these sections, so that its scores are a little too
good. In strips of B4, of another patient, it was above colour for both and below MobileNetV2 for cell types.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Scale
from torch import Tensor
from torch.nn import functional

import stdistill as sd

SHARED_DATA = Path(os.environ.get("STDISTILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
MOBILENET = "mobilenet_v2_imagenet/tf2_mobilenet_v2_1.0_224_ptq.npz"
SECTIONS = ("C2", "C3", "C4", "C5")
SPOT_PITCH_UM = 200
SPOT_RADIUS_UM = 50
WINDOW_UM = 155
CROP_PX = 224
Image.MAX_IMAGE_PIXELS = None  # the sections are larger than what Pillow takes for an attack
ALPHAS = np.logspace(0, 6, 13)
# Expansion, channels, repeats and first stride of each stage: Sandler et al. 2018, table 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

Array = npt.NDArray[np.floating]


class MobileNetV2(torch.nn.Module):
    """MobileNetV2 up to its 1280 pooled features, with the batch norms folded into the convolutions.

    Parameters
    ----------
    weights
        Kernels (out, h, w, in), or (1, h, w, channels) where depthwise, and biases, by name and in order of layers.
    """

    def __init__(self, weights: dict[str, Array]) -> None:
        super().__init__()
        kernels = [name for name in sorted(weights) if name.endswith("_w")][:-1]  # without the classes
        self.kernels = torch.nn.ParameterList(
            torch.tensor(weights[k]).permute((3, 0, 1, 2) if "DEPTHWISE" in k else (0, 3, 1, 2)) for k in kernels
        )
        self.biases = torch.nn.ParameterList(torch.tensor(weights[f"{k[:-2]}_b"]) for k in kernels)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (b, 3, h, w) in [-1, 1] as (b, 1280)."""
        layers = iter(zip(self.kernels, self.biases, strict=True))

        def convolve(x: Tensor, stride: int = 1) -> Tensor:
            kernel, bias = next(layers)
            groups = x.shape[1] if kernel.shape[1] == 1 else 1
            return functional.conv2d(_pad_same(x, kernel.shape[-1], stride), kernel, bias, stride, groups=groups)

        x = functional.relu6(convolve(images, stride=2))
        for expansion, channels, repeats, first_stride in STAGES:
            for stride in [first_stride] + [1] * (repeats - 1):
                inner = functional.relu6(convolve(x)) if expansion > 1 else x
                out = convolve(functional.relu6(convolve(inner, stride)))
                x = x + out if stride == 1 and x.shape[1] == channels else out
        return functional.relu6(convolve(x)).mean((2, 3))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's "SAME" does: the odd pixel goes to the right and the bottom."""
    padding: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return functional.pad(x, padding)


def untrained(weights: dict[str, Array]) -> dict[str, Array]:
    """Draw weights of the same shapes as He et al. 2015 initialise them, and zero biases."""
    rng = np.random.default_rng(0)

    def draw(name: str, value: Array) -> Array:
        if name.endswith("_b"):
            return np.zeros_like(value)
        return rng.normal(
            0, np.sqrt(2 / np.prod(value.shape[1:3] if "DEPTHWISE" in name else value.shape[1:])), value.shape
        )

    return {name: draw(name, value).astype(np.float32) for name, value in weights.items()}


class ColourStatistics(torch.nn.Module):
    """Mean and standard deviation of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (b, 3, h, w) as (b, 6)."""
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


def read_section(folder: Path, name: str, every: int) -> SpatialData:
    """Read every so many-th of one section's spots that have counts, proportions and a place on the image."""
    spots = pd.read_csv(folder / "spots" / f"{name}_selection.tsv", sep="\t").query("selected == 1")
    spots.index = pd.Index([f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)])
    counts = pd.read_csv(folder / "counts" / f"{name}.tsv.gz", sep="\t", index_col=0)
    proportions = pd.read_csv(folder / "proportions" / f"{name}-major.tsv", sep="\t", index_col=0)
    spots = spots.loc[spots.index.intersection(counts.index).intersection(proportions.index)].iloc[::every]
    px_per_um = np.polyfit(spots["new_x"], spots["pixel_x"], 1)[0] / SPOT_PITCH_UM
    circles = ShapesModel.parse(
        spots[["pixel_x", "pixel_y"]].to_numpy() / px_per_um,
        geometry=0,
        radius=SPOT_RADIUS_UM,
        index=spots.index,
        transformations={"global": Scale([px_per_um, px_per_um], axes=("x", "y"))},
    )
    table = ad.AnnData(
        counts.loc[spots.index],
        obs=pd.DataFrame({"region": pd.Categorical(["spots"] * len(spots)), "spot": spots.index}, index=spots.index),
        obsm={"spatial": circles.get_coordinates().to_numpy(), "proportions": proportions.loc[spots.index]},
    )
    pixels = np.asarray(Image.open(folder / "images" / f"{name}.jpg").convert("RGB"))
    return SpatialData(
        images={"he": Image2DModel.parse(pixels, dims=("y", "x", "c"), c_coords=("r", "g", "b"))},
        shapes={"spots": circles},
        tables={"table": TableModel.parse(table, region="spots", region_key="region", instance_key="spot")},
    )


def log_cp10k(sections: Sequence[pd.DataFrame], n_genes: int) -> list[Array]:
    """Normalise the counts of the most variable of the genes that a tenth of the spots of every section have."""
    common = [
        gene
        for gene in sections[0].columns
        if all(gene in counts and (counts[gene] > 0).mean() >= 0.1 for counts in sections)
    ]
    logs = [np.log1p(counts[common].to_numpy() / counts.sum(axis=1).to_numpy()[:, None] * 1e4) for counts in sections]
    variable = np.argsort(-np.concatenate(logs).var(axis=0), kind="stable")[:n_genes]
    return [values[:, variable].astype(np.float32) for values in logs]


def embed(section: SpatialData, encoder: sd.encoders.Encoder, context: float | None = None) -> Array:
    """Encode the windows around the spots as (n, d), and the tissue `context` times as wide."""
    sd.pp.embed_he(section, encoder=encoder, crop_px=CROP_PX, mpp=WINDOW_UM / CROP_PX, context=context)
    return section["table"].obsm["X_he"].astype(np.float32)


def score(features: Sequence[Array], targets: Sequence[Array]) -> float:
    """Leave each section out: mean Pearson correlation over targets, then sections."""
    scores = []
    for held_out in range(len(features)):
        training = [i for i in range(len(features)) if i != held_out]
        x, y = np.concatenate([features[i] for i in training]), np.concatenate([targets[i] for i in training])
        groups = np.repeat(training, [len(features[i]) for i in training])
        folds = list(LeaveOneGroupOut().split(x, y, groups)) if len(training) > 1 else None
        ridge = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=folds)).fit(x, y)
        scores.append(pearson(ridge.predict(features[held_out]), targets[held_out]).mean())
    return float(np.mean(scores))


def pearson(predicted: Array, measured: Array) -> Array:
    """Correlate column by column; a constant column correlates with nothing."""
    p, m = predicted - predicted.mean(0), measured - measured.mean(0)
    norms = np.sqrt((p**2).sum(0) * (m**2).sum(0))
    return np.divide((p * m).sum(0), norms, out=np.zeros_like(norms), where=norms > 0)


def main() -> None:
    """Compare the features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with her2st and mobilenet_v2_imagenet")
    parser.add_argument("--quick", action="store_true", help="two sections, every other spot, 50 genes")
    arguments = parser.parse_args()
    names, every, n_genes = (SECTIONS[:2], 2, 50) if arguments.quick else (SECTIONS, 1, 200)
    sections = [read_section(arguments.data / "her2st", name, every) for name in names]
    genes = log_cp10k([section["table"].to_df() for section in sections], n_genes)
    proportions = [section["table"].obsm["proportions"].to_numpy(np.float32) for section in sections]
    with np.load(arguments.data / MOBILENET) as file:
        weights = dict(file)
    half = (0.5, 0.5, 0.5)
    networks = (
        {} if arguments.quick else {"ImageNet": MobileNetV2(weights), "untrained": MobileNetV2(untrained(weights))}
    )
    encoders = {
        "colour statistics": sd.encoders.from_module(ColourStatistics(), mean=(0, 0, 0), std=(1, 1, 1)),
        "texture": sd.encoders.get("texture"),
        **{
            f"MobileNetV2, {name}": sd.encoders.from_module(network, mean=half, std=half)
            for name, network in networks.items()
        },
    }
    print(f"{', '.join(names)}: {sum(map(len, genes))} spots, {n_genes} genes, mean Pearson correlation")
    print(f"{'features':<24}{'dimensions':>11}{'genes':>8}{'cell types':>12}{'crops/s':>9}")
    for name, encoder in encoders.items():
        start = time.perf_counter()
        features = [embed(section, encoder) for section in sections]
        speed = sum(map(len, features)) / (time.perf_counter() - start)
        row = f"{score(features, genes):>8.3f}{score(features, proportions):>12.3f}"
        print(f"{name:<24}{features[0].shape[1]:>11}{row}{speed:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
