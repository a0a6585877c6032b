"""Crops of the H&E by niche: what each of them looks like."""

from __future__ import annotations

import numpy as np

from stdistill._report.he import encode_jpeg
from stdistill._report.layers import Layer
from stdistill._report.source import Slide
from stdistill._report.store import Store
from stdistill._table import schema
from stdistill._table.checks import get_centers
from stdistill._table.he.crops import read_crops
from stdistill._table.he.placement import locate
from stdistill._table.labels import NICHE_SUFFIX

N_CROPS = 6
"""Of a niche."""
CROP_PX = 192
CROP_UM = 96.0
"""Side of a crop: some dozen cells."""
GAP_PX = 6


def write_crops(slide: Slide, layer: Layer, store: Store) -> dict[str, str]:
    """Write a strip of crops for each niche, around the cells that it is surest of; return their addresses by niche.

    Surest among a sample of the cells, so that crops are from all over the slide.
    """
    if not slide.levels:
        return {}
    cells = slide.cells
    mpp = CROP_UM / CROP_PX
    side = CROP_UM / slide.frame.mpp
    px = slide.frame.to_px(get_centers(cells))
    height, width = slide.frame.shape
    whole = ((px >= side / 2) & (px <= (width - side / 2, height - side / 2))).all(axis=1)
    whole &= locate([slide.frame], get_centers(cells))["on_image"].to_numpy()
    confidence = cells.obs.get(f"{layer.key.removesuffix(NICHE_SUFFIX)}{schema.CONFIDENCE_SUFFIX}")
    sure = np.zeros(cells.n_obs) if confidence is None else confidence.fillna(0).to_numpy(dtype=np.float64)
    random = np.random.default_rng(0)
    chosen: dict[str, np.ndarray] = {}
    codes = cells.obs[layer.key].cat.codes.to_numpy()
    for number, name in enumerate(layer.names):
        rows = np.flatnonzero(whole & (codes == number))
        sample = random.permutation(rows)[: 5 * N_CROPS]
        best = sample[np.argsort(-sure[sample], kind="stable")][:N_CROPS]
        if len(best):
            chosen[name] = np.sort(best)
    if not chosen:
        return {}
    rows = np.unique(np.concatenate(list(chosen.values())))
    crops = read_crops(slide.data, [slide.frame], get_centers(cells), rows, CROP_PX, max(mpp, slide.frame.mpp))
    links = {}
    for number, (name, best) in enumerate(chosen.items()):
        strip = np.full((CROP_PX, N_CROPS * (CROP_PX + GAP_PX) - GAP_PX, 3), 255, dtype=np.uint8)
        for at, crop in enumerate(crops[np.searchsorted(rows, best)]):
            strip[:, at * (CROP_PX + GAP_PX) : at * (CROP_PX + GAP_PX) + CROP_PX] = crop
        path = f"crops_{number}.jpg"
        store.write(path, encode_jpeg(strip))
        links[name] = store.link(path)
    return links
