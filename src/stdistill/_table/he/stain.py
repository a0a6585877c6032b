"""Stain normalisation on the way in, by squidpy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from spatialdata import SpatialData


def normalize_stains(sdata: SpatialData, image_key: str, reference: Any) -> Any:
    """Bring the H&E to the stain of a reference, lazily; the SpatialData stays as it is.

    Parameters
    ----------
    sdata
        Holds the image, and its tissue mask ``labels["<image_key>_tissue"]`` where the user made one.
    image_key
        Name of the image.
    reference
        ``squidpy.experimental.im.StainReference``.

    Returns
    -------
    The image at full resolution. The slide's own stain is fitted once, within the tissue.

    Raises
    ------
    TypeError
        When `reference` is something else.
    """
    from spatialdata import SpatialData
    from squidpy.experimental import im

    if not isinstance(reference, im.StainReference):
        msg = (
            f"stain_normalization must be a squidpy.experimental.im.StainReference, found {type(reference).__name__}: "
            'the stain that slides are to have, as squidpy.experimental.im.fit_stain_reference(sdata, "he") finds it.'
        )
        raise TypeError(msg)
    mask = f"{image_key}_tissue"
    elements = {name: sdata[name] for name in (image_key, mask) if name in sdata}
    own = SpatialData.init_from_elements(elements)
    if mask not in elements:
        im.detect_tissue(own, image_key, new_labels_key=mask)
    return im.normalize_stains(own, image_key, reference, inplace=False)


def describe_stain(reference: Any) -> str | None:
    """Write the method and the numbers of a stain reference as text."""
    if reference is None:
        return None
    numbers = {
        name: np.asarray(value).round(6).tolist()
        for name in ("stain_matrix", "mu", "sigma", "white_point")
        if (value := getattr(reference, name, None)) is not None
    }
    return json.dumps({"method": getattr(reference, "method", None), **numbers})
