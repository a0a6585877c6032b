"""From the maps of the network to nuclei."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction, remove_small_holes
from skimage.segmentation import relabel_sequential, watershed

FOREGROUND = 0.5
"""Share from which on a pixel belongs to a nucleus."""
DEPTH = 0.1
"""Two summits of centrality are two nuclei when the saddle between them is lower by this."""
MIN_AREA_PX = 24
"""Smaller things are no nuclei: a tenth of one of 14 px is 15."""
LEVELS = 250
"""Steps to which centrality is rounded: whole numbers have exact maxima."""

Map = npt.NDArray[np.float32]


def separate_nuclei(foreground: Map, centrality: Map) -> npt.NDArray[np.int32]:
    """Give the pixels of each nucleus a number.

    Nuclei grow from the summits of the smoothed centrality down to the border of the foreground or to each other
    (watershed, Beucher and Lantuéjoul 1979); summits lower than `DEPTH` above a saddle do not count (Soille 2003).

    Parameters
    ----------
    foreground
        Probability (h, w) of lying in a nucleus.
    centrality
        Distance (h, w) to the border of the nucleus, as a share of the largest in it.

    Returns
    -------
    Label image (h, w): 1 … n, 0 elsewhere.
    """
    mask = remove_small_holes(foreground >= FOREGROUND, max_size=MIN_AREA_PX)
    heights = np.rint(LEVELS * ndimage.gaussian_filter(centrality * mask, 1.0)).astype(np.int16)
    # Maxima of what is left when every summit is lowered by `DEPTH`: equal summits with a shallow saddle are one.
    lowered = reconstruction(heights - max(round(LEVELS * DEPTH), 1), heights)
    markers, _ = ndimage.label(local_maxima(lowered, connectivity=1) & mask)
    labels = watershed(-heights, markers, mask=mask)
    small = np.bincount(labels.ravel()) < MIN_AREA_PX
    labels[small[labels]] = 0
    kept: npt.NDArray[np.int32] = relabel_sequential(labels)[0].astype(np.int32)
    return kept
