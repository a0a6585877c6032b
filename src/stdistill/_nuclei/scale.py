"""How large nuclei are on a slide, in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stdistill._nuclei.density import NUCLEUS_PX, TYPICAL_UM, resized_density
from stdistill._nuclei.methods import Find
from stdistill._nuclei.windows import ReadWindow, cut_tiles, tissue_share
from stdistill._support.arrays import Mask

FIRST_GUESSES_PX = (24.0, 12.0, 48.0)
"""About 0.3 µm per pixel; the others when nothing is found at that."""
WINDOW_PX, N_WINDOWS = 1024, 6
ENOUGH_TISSUE = 0.5
"""Share of tissue from which on a window is as good as any."""
LIMITS_PX = (4.0, 140.0)
"""Diameters at 1.75 and 0.05 µm per pixel."""
ROUNDS = 6
SAME = 0.03
"""Relative difference at which the search ends."""


def typical_diameter_px(mpp: float) -> float:
    """Diameter of a nucleus of usual size where a pixel has `mpp` µm."""
    return TYPICAL_UM / mpp


def estimate_mpp(
    read_window: ReadWindow, shape: tuple[int, int], find: Find, *, tissue: Mask | None = None
) -> float | None:
    """Estimate µm per pixel from the size of the nuclei in a few windows, for slides that do not state it.

    Parameters
    ----------
    read_window
        Reads a part of the slide.
    shape
        Height and width of the slide.
    find
        A method whose nuclei have their size at any guess, best the network.
    tissue
        Where tissue is: an image of the whole slide, as coarse as one likes.

    Returns
    -------
    µm per pixel at which the nuclei have their usual size, or `None` where no nuclei were found. It is as uncertain
    as that size, which differs between tissues.
    """
    windows = cut_tiles(shape, WINDOW_PX)
    if tissue is not None:
        shares = [tissue_share(window, tissue, shape) for window in windows]
        enough = min(ENOUGH_TISSUE, max(shares))
        windows = [window for window, share in zip(windows, shares, strict=True) if share >= enough > 0]
    if len(windows) > N_WINDOWS:
        windows = [windows[number] for number in np.linspace(0, len(windows) - 1, N_WINDOWS).round().astype(int)]
    images = [read_window(window.top, window.left, window.height, window.width) for window in windows]
    diameter = estimate_diameter_px(images, find)
    return None if diameter is None else TYPICAL_UM / diameter


def estimate_diameter_px(images: Sequence[npt.NDArray[np.uint8]], find: Find) -> float | None:
    """Estimate the diameter of nuclei from images alone.

    Searches for the size that confirms itself: images are resized as if nuclei had it, nuclei are found, and have it.
    Their diameter is that of the nucleus below which half of all nuclear area lies, so that fragments do not count.

    Parameters
    ----------
    images
        Parts (h, w, 3) of the slide, RGB, that show tissue.
    find
        The method, of :func:`stdistill._nuclei.methods.load_method`.

    Returns
    -------
    Diameter in pixels, or `None` where no nuclei were found.
    """
    for guess in FIRST_GUESSES_PX:
        diameter = guess
        for _ in range(ROUNDS):
            found = _found_diameter(images, find, diameter)
            if found is None:
                break
            found = min(max(found, LIMITS_PX[0]), LIMITS_PX[1])
            if abs(found / diameter - 1) < SAME:
                return found
            diameter = found
        else:
            return diameter
    return None


def _found_diameter(images: Sequence[npt.NDArray[np.uint8]], find: Find, diameter_px: float) -> float | None:
    """Find nuclei as if they had a diameter, and measure which they have."""
    zoom = NUCLEUS_PX / diameter_px
    areas = [np.zeros(0, dtype=np.int64)]
    for image in images:
        height, width = (max(round(side * zoom), 1) for side in image.shape[:2])
        labels = find(resized_density(image, height, width))
        areas.append(np.bincount(labels.ravel())[1:])
    ascending = np.sort(np.concatenate(areas))
    if not len(ascending):
        return None
    middle = ascending[np.searchsorted(ascending.cumsum(), ascending.sum() / 2)]
    return float(2 * np.sqrt(middle / np.pi) / zoom)
