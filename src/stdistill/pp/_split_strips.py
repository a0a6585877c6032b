"""Spatial hold-out: strips of the tissue for training and testing, whose H&E crops share no pixel."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from stdistill._slide.plan import CROP_PX, crop_origins
from stdistill._support.checks import check_integer, check_name, check_positive
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_table, is_spatialdata
from stdistill._table.he.images import is_rgb
from stdistill._table.he.placement import HEFrame, he_frames
from stdistill._table.he.placement_checks import check_placement
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.libraries import find_library_key, library_codes
from stdistill._table.marks.labels import write_label_marks
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

SPARSE = 0.1
"""A strip that holds less of its even share is hardly on the tissue; one at the tip of a disc holds half of it."""
REMEDY = (
    "If several sections lie on the slide, name them in a column and give it as library_key=, which cuts each into "
    "strips; if stray cells lie far from the tissue, take them out of the table."
)


class _Section(NamedTuple):
    """The cells of one slide, or of one of several sections on it."""

    name: str
    """For messages."""
    image: str
    """What its crops are cut from; other sections may be, too."""
    cells: npt.NDArray[np.int64]
    """Rows of the table."""
    px: npt.NDArray[np.floating]
    """Centres (m, 2) in pixels of the H&E."""
    crop_px: int
    """Side of a crop in these pixels."""
    mpp: float
    """µm per pixel."""


def split_strips(
    data: AnnData | SpatialData,
    *,
    n_strips: int = 4,
    test_strip: int = 1,
    crop_px: int = CROP_PX,
    mpp: float | None = None,
    image_key: str | Mapping[str, str] = schema.HE_IMAGE,
    coordinate_system: str | None = None,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
    key_added: str = schema.SPLIT,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Cut each slide into horizontal strips, one of them for testing.

    The extent of the cells on the H&E is cut into `n_strips` strips of equal height. Cells of the test strip are
    ``"test"``, the others ``"train"``; a cell whose H&E crop would cross a border between the two is ``"buffer"``, so
    that the crops of training and test cells share no pixel. Sections that lie beside each other on one H&E are kept
    apart as well.

    Parameters
    ----------
    data
        SpatialData with an H&E, or a table that :func:`stdistill.pp.read_xenium` read with one. Without any H&E, which
        is RGB, the strips are cut along y of ``.obsm["spatial"]``, and `mpp` is needed.
    n_strips
        Number of strips.
    test_strip
        The strip held out, counted from the top of the H&E, the first being 0.
    crop_px, mpp
        Side of the crops in pixels, and their µm per pixel, as given to :func:`stdistill.pp.embed_he`. By default
        crops are taken at the image's own resolution.
    image_key
        Name of the H&E, or a mapping of each region that the table annotates to its image.
    coordinate_system
        The one in which cells and H&E are aligned, where they share several that disagree.
    library_key
        Column of ``.obs`` that names each cell's slide or section; each is cut into strips of its own. By default that
        of the neighbourhoods, else the regions that the table annotates, when there are several. Of an AnnData, given
        one, strips are cut along y of the centres. Different images are different slides in any case.
    table_key
        Name of the table of a SpatialData.
    key_added
        Column of ``.obs`` that is written.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obs[key_added]``
        Categorical: ``"train"``, ``"test"``, ``"buffer"``; missing for cells off the H&E, which have no crop.
    ``.obs["{key_added}_mark"]``
        A number for each cell's group, by which groups that were edited or moved are told.
    ``.uns["stdistill"]["split_strips"]``
        The parameters, the share of cells in each group, and ``crop_um``, the side of the crops that are kept apart.
        Under another `key_added` it is ``"split_strips_<key_added>"``.

    Raises
    ------
    KeyError
        When the table, the image, the coordinate system or `library_key` is not there.
    ValueError
        When no cell lies in the test strip, or it is too low for the crops, so that no training or no test cell is
        left; or coordinate systems disagree on where the cells lie on the H&E, or it is not aligned.

    Warns
    -----
    UserWarning
        When a strip holds less than a tenth of its even share of the cells, as where one of them lies far from the
        tissue, or several sections are cut as one.

    Notes
    -----
    Four strips with the second from the top for testing: Hizmi et al. 2026, section 5.1. The paper describes the buffer
    in two ways that contradict each other; this is the reading that keeps the crops disjoint, and it leaves out as many
    cells as the paper says (about 2 % of a slide of 20,500 pixels). Strips lie in the frame of the H&E, which the paper
    leaves open.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((1000, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 2000, (1000, 2))})
    >>> sd.pp.split_strips(adata, mpp=0.274)
    >>> adata.obs["split"].cat.categories.tolist()
    ['train', 'test', 'buffer']
    """
    check_integer(n_strips, "n_strips", minimum=2)
    check_integer(test_strip, "test_strip", minimum=0, maximum=n_strips - 1)
    check_integer(crop_px, "crop_px", minimum=1)
    if mpp is not None:
        check_positive(mpp, "mpp")
    check_name(key_added, "key_added")
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    images = _find_images(data, adata, image_key, coordinate_system, library_key, table_key)
    library_key = find_library_key(adata, library_key)
    sections = _sections(adata, images, crop_px, mpp, library_key)
    split = np.full(adata.n_obs, None, dtype=object)
    for section in sections:
        split[section.cells] = _split_section(section, n_strips, test_strip)
    for image in dict.fromkeys(section.image for section in sections):
        _keep_apart([section for section in sections if section.image == image], split)
    for section in sections:
        _check_left(section, split[section.cells], n_strips)
    shares = {f"share_{group}": float((split == group).mean()) for group in (schema.TRAIN, schema.TEST, schema.BUFFER)}

    adata.obs[key_added] = pd.Categorical(split, categories=[schema.TRAIN, schema.TEST, schema.BUFFER])
    write_label_marks(adata, key_added, adata.obs[key_added].cat.codes.to_numpy())
    write_record(
        adata,
        "split_strips",
        n_strips=n_strips,
        test_strip=test_strip,
        crop_px=crop_px,
        mpp=mpp,
        crop_um=min(section.crop_px * section.mpp for section in sections),
        coordinate_system=coordinate_system,
        library_key=library_key,
        key_added=key_added,
        **shares,
    )
    logger.info(
        'Wrote .obs["%s"]: %.1f %% train, %.1f %% test, %.1f %% buffer.', key_added, *(100 * s for s in shares.values())
    )
    return data if copy else None


def _find_images(
    data: AnnData | SpatialData,
    adata: AnnData,
    image_key: str | Mapping[str, str],
    coordinate_system: str | None,
    library_key: str | None,
    table_key: str,
) -> list[HEFrame]:
    """Find where the cells lie on their H&E: that of a SpatialData, or the one recorded with the table; none without.

    Slides of an AnnData that the user names are in no record: it is of one slide.
    """
    if is_spatialdata(data):
        # One that goes by another name than the default is not passed over: its pixels are what must not be shared.
        has_image = image_key != schema.HE_IMAGE or any(is_rgb(image) for image in data.images.values())
    else:
        record = read_slide_record(adata)
        has_image = library_key is None and record is not None and record.has_image
    if not has_image:
        return []
    frames = he_frames(data, image_key=image_key, coordinate_system=coordinate_system, table_key=table_key)
    check_placement(data, frames, table_key)
    return frames


def _sections(
    adata: AnnData, frames: Sequence[HEFrame], crop_px: int, mpp: float | None, library_key: str | None
) -> list[_Section]:
    """Part the cells by image and slide, each with its own strips; without an image its rows are those of µm."""
    centers = get_centers(adata)
    codes = library_codes(adata, library_key)
    if not frames:
        if mpp is None:
            msg = (
                "There is no H&E whose pixels could be cut into strips. Give mpp=, the µm per pixel of the crops "
                "(0.274 on most Xenium slides), to cut along y of the centres instead."
            )
            raise ValueError(msg)
        # Slides without an image may lie anywhere: each has pixels of its own.
        rows = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        names = ["" if library_key is None else f" of {adata.obs[library_key].iloc[cells[0]]!r}" for cells in rows]
        return [
            _Section(name, name, cells, centers[cells] / mpp, crop_px, mpp)
            for name, cells in zip(names, rows, strict=True)
        ]
    sections = []
    for image in dict.fromkeys(frame.image_key for frame in frames):
        same = [frame for frame in frames if frame.image_key == image]
        cells = np.concatenate([frame.cells for frame in same])
        px = np.concatenate([frame.to_px(centers[frame.cells]) for frame in same])
        on_image = same[0].contains(px)
        if not on_image.any():
            msg = f"No cell lies on the image {image!r}: check its alignment with sd.get.he_pixels."
            raise ValueError(msg)
        cells, px = cells[on_image], px[on_image]
        side = same[0].native_crop_px(crop_px, mpp)
        for code in np.unique(codes[cells]):
            mine = codes[cells] == code
            name = "" if library_key is None else f" of {adata.obs[library_key].iloc[cells[mine][0]]!r}"
            sections.append(_Section(name, image, cells[mine], px[mine], side, same[0].mpp))
    return sections


def _split_section(section: _Section, n_strips: int, test_strip: int) -> npt.NDArray[np.object_]:
    y = section.px[:, 1]
    top, height = y.min(), np.ptp(y) / n_strips
    # Borders lie between rows of pixels; above the first and below the last strip there is none.
    first = round(top + test_strip * height) if test_strip > 0 else -np.inf
    last = round(top + (test_strip + 1) * height) if test_strip < n_strips - 1 else np.inf
    crop_top = crop_origins(section.px, section.crop_px)[:, 1]
    split = np.where((y >= first) & (y < last), schema.TEST, schema.TRAIN).astype(object)
    if not (split == schema.TEST).any():
        msg = (
            f"No test cell is left: strip {test_strip} of {n_strips}{section.name} holds none of {len(y)} cells, "
            f"between rows {first:.0f} and {last:.0f}. {REMEDY} Else choose another test_strip or n_strips, or take "
            "out of the table what is too small for strips, such as a core of few cells."
        )
        raise ValueError(msg)
    for border in (first, last):
        split[(crop_top < border) & (border < crop_top + section.crop_px)] = schema.BUFFER
    return split


def _keep_apart(sections: Sequence[_Section], split: npt.NDArray[np.object_]) -> None:
    """Put training cells whose crops share pixels with test crops of another section of the image into the buffer."""
    if len(sections) == 1:
        return
    cells = np.concatenate([section.cells for section in sections])
    side = sections[0].crop_px
    origins = crop_origins(np.concatenate([section.px for section in sections]), side)
    train, test = (np.flatnonzero(split[cells] == group) for group in (schema.TRAIN, schema.TEST))
    apart = cKDTree(origins[test]).query(origins[train], p=np.inf, distance_upper_bound=side)[0]
    split[cells[train[apart < side]]] = schema.BUFFER


def _check_left(section: _Section, split: npt.NDArray[np.object_], n_strips: int) -> None:
    y = section.px[:, 1]
    height = np.ptp(y) / n_strips
    for group in (schema.TRAIN, schema.TEST):
        if not (split == group).any():
            msg = (
                f"No {group} cell is left{section.name}: strips are {height:.0f} pixels high and crops "
                f"{section.crop_px}. Use fewer strips or smaller crops; of several sections on the slide, whose gaps "
                "are cut into strips as well, name them in a column and give it as library_key=."
            )
            raise ValueError(msg)
    n_cells = np.histogram(y, n_strips)[0]
    if n_cells.min() < SPARSE * len(y) / n_strips:
        warn(
            f"The {n_strips} strips{section.name} hold {', '.join(map(str, n_cells))} cells: they are of equal height, "
            f"from the first cell to the last, and hardly any cell lies in some. {REMEDY}"
        )
