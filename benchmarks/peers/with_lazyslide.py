# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["lazyslide==0.13.0", "wsidata==0.12.0"]
# ///
"""LazySlide (Zheng et al. 2025): its tiles, laid where the crops are, and `tl.feature_extraction` with all defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lazyslide as zs
import numpy as np
import torch
from features_runner import MEAN, STD, Corners, Features, main
from torchvision.transforms import v2
from wsidata import TileSpec, open_wsi
from wsidata.io import add_tiles


def prepare(path: Path, corners: Corners, crop_px: int, module: torch.nn.Module) -> Callable[[], Features]:
    """Open the slide, and add the crops as tiles of its full resolution."""
    slide = open_wsi(path, store=None)
    spec = TileSpec.from_wsidata(slide, crop_px)
    add_tiles(slide, "tiles", corners, spec, np.zeros(len(corners), dtype=int))
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    return lambda: zs.tl.feature_extraction(
        slide, module, transform=transform, device="cpu", pbar=False, return_features=True
    )


if __name__ == "__main__":
    main(prepare, "lazyslide")
