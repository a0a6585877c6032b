"""Our features of crops, with all defaults; the store goes to the cache and is removed, as users have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import torch
from features_runner import MEAN, STD, Corners, Features, main

import stdistill as sd


def prepare(path: Path, corners: Corners, crop_px: int, module: torch.nn.Module) -> Callable[[], Features]:
    """Open the slide, with a cell in the middle of each crop."""
    slide = sd.pp.read_slide(path)
    centers = corners + crop_px / 2
    sd.pp.detect_nuclei(slide, nuclei=gpd.GeoDataFrame(geometry=gpd.points_from_xy(*centers.T)), tissue_key=None)
    encoder = sd.encoders.from_module(module, mean=MEAN, std=STD)

    def encode() -> Features:
        sd.pp.embed_he(slide, encoder=encoder, crop_px=crop_px, device="cpu")
        return slide["table"].obsm["X_he"]

    return encode


if __name__ == "__main__":
    main(prepare, "stdistill")
