"""Whether the H&E that is there is the one that features show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from anndata import AnnData

from stdistill._slide.windows import hash_image
from stdistill._support.warn import warn
from stdistill._table.fitting.origin import he_record, images_of
from stdistill._table.he.images import slide_levels

if TYPE_CHECKING:
    from spatialdata import SpatialData


def mark_images(sdata: SpatialData, image_keys: Iterable[str]) -> str | None:
    """Tell the images from others, as far as they show more than one colour: a hash each, joined by ``+``."""
    marks = [hash_image(slide_levels(sdata.images[key], key)[0]) for key in image_keys]
    return "+".join(dict.fromkeys(filter(None, marks))) or None


def warn_of_other_images(
    sdata: SpatialData, table: AnnData, use_rep: str, image_keys: Iterable[str] | None = None
) -> None:
    """Warn when features were computed from another image than the one that is there.

    Parameters
    ----------
    sdata
        Holds the images.
    table, use_rep
        The features; of those without a record nothing is known.
    image_keys
        Names of the images; by default those that are recorded, as far as they are there.
    """
    embedded = images_of(table, use_rep)
    if image_keys is None:
        recorded = str(he_record(table, use_rep).get("image_key", "")).split(", ")
        image_keys = [key for key in recorded if key in sdata.images]
    names = list(dict.fromkeys(image_keys))
    if embedded and not set((mark_images(sdata, names) or "").split("+")) <= {*embedded, ""}:
        warn(
            f"{', '.join(map(repr, sorted(names)))} is not the image that .obsm[{use_rep!r}] was computed from: it was "
            "replaced since, or is a part of it. Crops are cut from the image that is there; niches, and whatever else "
            "a model tells, are of the features. If it was replaced, run sd.pp.embed_he again, and what stands on it."
        )
