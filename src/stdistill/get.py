"""Read what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from stdistill._support.checks import check_key
from stdistill._table import schema
from stdistill._table.abundances import read_abundances
from stdistill._table.checks import find_rows, get_centers, get_table
from stdistill._table.he.placement import cell_pixels, he_frames, locate
from stdistill._table.he.placement_checks import check_placement
from stdistill._table.niches import logit_prefixes, niche_names, read_logits

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

__all__ = ["abundances", "he_crops", "he_pixels", "logits"]


def abundances(
    data: AnnData | SpatialData, key: str = schema.ABUNDANCE, *, table_key: str = schema.TABLE
) -> pd.DataFrame:
    """Abundances of cell types as one frame.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with abundances that :func:`stdistill.pp.abundances` or a model wrote.
    key
        Their key in ``.obsm``: ``"abundance"``, ``"he_abundance"``, or another `key_added`.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    (n, types) float32, one row per cell or spot and one column per type, under its name; a row with NaN is not known.

    Raises
    ------
    KeyError
        When there is nothing under `key`.
    TypeError
        When it is a frame or holds no numbers.
    ValueError
        When the record does not name its columns, or values are negative or infinite.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> spots = ad.AnnData(np.zeros((2, 1)))
    >>> spots.obsm["proportions"] = pd.DataFrame({"B cells": [0.2, 0.9], "CAFs/iCAF ": [0.8, 0.1]}, spots.obs_names)
    >>> sd.pp.abundances(spots, obsm_key="proportions")
    >>> sd.get.abundances(spots)
       B cells  CAFs/iCAF
    0      0.2        0.8
    1      0.9        0.1
    """
    table = get_table(data, table_key)
    found = read_abundances(table, key)
    return pd.DataFrame(found.values, index=table.obs_names, columns=found.types)


def he_pixels(
    data: AnnData | SpatialData,
    *,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> pd.DataFrame:
    """Where the cells lie on the H&E, in pixels of its full resolution.

    Parameters
    ----------
    data
        SpatialData with an H&E, or a table that :func:`stdistill.pp.read_xenium` read with one. The table may annotate
        circles, polygons or labels, and several regions.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    One row per cell: ``x`` and ``y`` in pixels (pixel *i* covers [i, i + 1), as in spatialdata), ``image_key``,
    ``mpp`` (µm per pixel of that image) and ``on_image``. Cells of no region have missing values.

    Raises
    ------
    KeyError
        When the table, the image, the annotated element or the coordinate system is not there.
    ValueError
        When image and cells share no coordinate system, or several that disagree, the image is stretched relative to
        the cells, or the centres do not follow the annotated element.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=1000))
    >>> sd.get.he_pixels(sdata).columns.tolist()
    ['x', 'y', 'image_key', 'mpp', 'on_image']
    """
    return cell_pixels(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)


def logits(data: AnnData | SpatialData, key: str, *, table_key: str = schema.TABLE) -> pd.DataFrame:
    """Niche logits as one frame.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with the logits of a niche model.
    key
        Their prefix in ``.obs``: ``"teacher"``, ``"student"``, or another `key_added`.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    (n, k) float32, one row per cell and one column per niche, under its name; NaN for cells without a prediction.

    Raises
    ------
    KeyError
        When there are no logits under `key`.
    ValueError
        When some of their columns are gone, or they are of several models.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((2, 1)))
    >>> adata.obs["student_logit_0"], adata.obs["student_logit_1"] = [2.0, -1.0], [0.5, 3.0]
    >>> sd.get.logits(adata, "student").columns.tolist()
    ['0', '1']
    """
    table = get_table(data, table_key)
    check_key(
        key,
        logit_prefixes(table),
        "a prefix of logits in .obs",
        argument="key",
        hint="Niche models write them: sd.tl.nolan, sd.tl.distill, sd.tl.predict.",
    )
    values = read_logits(table, key)
    return pd.DataFrame(values, index=table.obs_names, columns=_names(table, key, values.shape[1]))


def he_crops(
    data: SpatialData,
    *,
    cells: Sequence[str],
    use_rep: str = schema.HE_FEATURES,
    crop_px: int | None = None,
    mpp: float | None = None,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    table_key: str = schema.TABLE,
) -> npt.NDArray[np.uint8]:
    """Crops of the H&E around some cells, as :func:`stdistill.pp.embed_he` cuts them.

    Parameters
    ----------
    data
        SpatialData with an H&E.
    cells
        Names of the cells, as in the table's index.
    use_rep
        The `key_added` of :func:`stdistill.pp.embed_he`, whose crops they are.
    crop_px, mpp
        Side of the crops in pixels, and their µm per pixel. By default both are those of the features in
        ``.obsm[use_rep]``, else 224 pixels of the image's own resolution; of a table of tiles those of the tiles.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    table_key
        Name of the table.

    Returns
    -------
    (m, `crop_px`, `crop_px`, 3) RGB, in the order of `cells`; before the stain normalisation and the resampling to the
    encoder's own size, if it has any.

    Raises
    ------
    KeyError
        When the table, the image, a cell or `use_rep`, unless it is the default, is not there.
    TypeError
        When `cells` is a string, a mask or numbers.
    ValueError
        When a cell lies off the image, or it is not known where the cells lie, as of :func:`stdistill.get.he_pixels`.

    Warns
    -----
    UserWarning
        When the image is not the one that the features in ``.obsm[use_rep]`` were computed from, or a part of it.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=200))
    >>> sd.get.he_crops(sdata, cells=sdata["table"].obs_names[:3], crop_px=64).shape
    (3, 64, 64, 3)
    """
    from stdistill._table.fitting.origin import warn_of_other_images
    from stdistill._table.he.crops import read_crops
    from stdistill._table.he.plans import crops_of

    table = get_table(data, table_key)
    if use_rep != schema.HE_FEATURES:
        check_key(use_rep, table.obsm.keys(), "features in .obsm", argument="use_rep")
    rows = find_rows(table, cells)
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(data, frames, table_key)
    warn_of_other_images(data, table, use_rep, [frame.image_key for frame in frames])
    on_image = locate(frames, get_centers(table))["on_image"].to_numpy()[rows]
    if not on_image.all():
        msg = (
            f"{(~on_image).sum()} of the cells lie off the image, such as {table.obs_names[rows][~on_image][0]!r}; "
            "sd.get.he_pixels tells which do."
        )
        raise ValueError(msg)
    crop_px, mpp = crops_of(table, use_rep, crop_px, mpp)
    return read_crops(data, frames, get_centers(table), rows, crop_px, mpp)


def _names(table: AnnData, key: str, k: int) -> list[str]:
    """Name the niches; by number where the labels were changed since."""
    try:
        return niche_names([table], key, k)
    except ValueError:
        return [str(niche) for niche in range(k)]
