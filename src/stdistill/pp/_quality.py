"""What is wrong with an H&E: focus, folds, pen, exposure, compression, stain."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stdistill._slide.affine import affine_scale
from stdistill._slide.overview import Overview, read_overview
from stdistill._slide.pyramid import MPP_TOLERANCE, level_for
from stdistill._slide.quality import FIELD_MPP, Fields, find_folds, lower_limit, measure_fields
from stdistill._slide.stain import RUIFROK, looks_swapped, stain_angle, stain_vectors
from stdistill._slide.tissue import NothingSeenError, TissueMap, map_tissue
from stdistill._support.arrays import Float64s, Floats, Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_sdata, share_elements
from stdistill._table.he.images import mark_images, slide_levels
from stdistill._table.he.place import find_um_to_px
from stdistill._table.he.placement import cell_pixels
from stdistill._table.records import write_record, write_slide_step

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")

STEP = "quality"
DEVIATIONS = 4.0
"""Fields are out of focus when they are so many robust standard deviations below the median of a sharp slide."""
N_STAIN_FIELDS = 30
COMPARED = ("mpp", "focus_limit")
"""What the record of another slide must have; its stains may be left out."""
SAME_SCALE = 1.1
"""Slides are compared whose fields differ by no larger factor in µm per pixel (our choice): focus depends on it."""
AROUND_UM = 50.0
"""Side of the surroundings of a cell of which shares of folds and pen are taken."""


def quality(
    data: SpatialData,
    *,
    references: Sequence[Mapping[str, Any]] = (),
    image_key: str = schema.HE_IMAGE,
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> SpatialData | None:
    """Measure what is wrong with an H&E, within its tissue.

    Up to 1,000 fields of 256 × 256 pixels at 0.5 µm (or the next finer level) are looked at, evenly spread over the
    tissue, and an overview of 8 µm per pixel. Nothing is removed: the numbers say how far a slide is from others.

    Parameters
    ----------
    data
        SpatialData with an H&E whose µm are known. Tissue is found as `find_tissue` finds it.
    references
        What this function recorded of other slides, such as those of a training,
        ``sdata.attrs["stdistill"]["quality"]``: focus and stain are compared with them. Without, fields are out of
        focus in comparison with the rest of the slide, and stains are compared with those of Ruifrok and Johnston.
    image_key
        Name of the H&E.
    table_key
        Name of the table whose cells get the columns; where there is none, only the slide is measured.
    copy
        Return a copy with the result instead of writing to `data`.

    Returns
    -------
    `None`, or the copy. Written:

    ``.attrs["stdistill"]["quality"]``, and ``.uns["stdistill"]["quality"]`` of the table
        ``focus``
            Median over the fields of 1 - the blur of Crété et al. 2007 (SPIE 6492; `skimage.measure.blur_effect`): how
            much of the differences between neighbouring pixels is lost when the field is blurred again, 0 to 1, about
            0.6 to 0.7 for a sharp slide at 0.5 µm per pixel. It follows neither brightness nor contrast.
        ``focus_limit``, ``unfocused_share``
            4 robust standard deviations (of the median absolute deviation) below the median of the slide, or the lowest
            such limit of `references`; and the share of the fields below it.
        ``fold_share``
            Share of the tissue that exceeds the slide's median density by 2 robust standard deviations, and 1.6 times
            that of its other surroundings (Gaussian weights, 200 µm), as two layers absorb twice as much, with no less
            of either stain, as lymphoid tissue may have of eosin; in pieces of at least 10,000 µm². Our choice, after
            the thresholds relative to the slide of Kothari et al. 2013 (J Pathol Inform 4:22). A hint only: keratin and
            dense glands are counted, folds of pale tissue missed.
        ``pen_share``
            Area of pen and black borders as `find_tissue` tells them, over it and the tissue.
        ``overexposed_share``
            Share of the stained pixels of the fields of which a colour is at its maximum, 255.
        ``blockiness``
            Median over the fields of how much larger differences of pixels are at the borders of 8 × 8 blocks than
            within them, 1 for none, after Wang, Bovik and Evans 2000 (ICIP).
        ``stain_vectors``, ``stain_distance``
            Optical density of haematoxylin and eosin (2 × 3, red, green, blue; Macenko et al. 2009, ISBI), and the
            larger of their angles to those of the nearest reference, in degrees; left out with hardly any tissue.
        ``image_key``, ``mpp``, ``n_fields``
            Name of the H&E, µm per pixel of the fields, and their number.
    ``.obs["he_focus"]``, ``.obs["he_overexposed"]``, ``.obs["he_blockiness"]``
        Of the nearest field, float32; NaN for cells off the image.
    ``.obs["he_fold"]``, ``.obs["he_pen"]``
        Share of the surroundings (50 µm) of the cell, float32; NaN for cells off the image.

    Raises
    ------
    TypeError
        When `data` is no SpatialData, or `references` no list of records.
    KeyError
        When the image is not there, or a reference lacks an entry.
    ValueError
        When no tissue is seen, µm are not known, or a reference was measured at other µm per pixel (by more than 10 %).

    Warns
    -----
    UserWarning
        When red and blue seem to have changed places, as in files read by OpenCV.

    See Also
    --------
    find_tissue : the outlines of the tissue.

    Notes
    -----
    A slide that is blurred as a whole is sharp in comparison with itself: give `references`, of slides with about as
    many µm per pixel: others are refused. Numbers of fields, limits and deviations are our choice.

    Examples
    --------
    >>> import stdistill as sd
    >>> bundle = sd.datasets.simulate_xenium("slide/outs", n_cells=300)
    >>> slide = sd.pp.read_xenium(bundle)
    >>> sd.pp.quality(slide)
    >>> slide.attrs["stdistill"]["quality"]["pen_share"]
    0.0
    """
    data = get_sdata(data, table_key)
    _check_records(references)
    has_cells = table_key in data.tables
    mpp = 1 / affine_scale(find_um_to_px(data, image_key))
    levels = slide_levels(data.images[image_key], image_key)
    overview = read_overview(levels, mpp)
    tissue = map_tissue(overview)
    if not tissue.tissue.any():
        msg = f"No tissue is seen on the image {image_key!r}, whose quality is to be measured. Is the slide blank?"
        raise NothingSeenError(msg)
    level = level_for(levels, (1 + MPP_TOLERANCE) * FIELD_MPP / mpp)
    field_mpp = mpp * float(level.factor.max())
    _check_scale(references, field_mpp)
    fields = measure_fields(level, tissue, overview, n_kept=N_STAIN_FIELDS)
    if not len(fields.focus):
        msg = f"No field of the image {image_key!r} holds enough tissue to measure its quality."
        raise NothingSeenError(msg)
    if looks_swapped(fields.pixels, tissue.glass):
        warn(
            f"Red and blue of the image {image_key!r} seem to have changed places: what is darkest absorbs more blue "
            "than red, and nuclei of an H&E do not. OpenCV reads files as blue, green, red: turn them, "
            'pixels[..., ::-1], or name the channels as they are, c_coords=["b", "g", "r"]. Features and nuclei of '
            "these colours are wrong. Another stain than H&E may look so, too."
        )
    stains = stain_vectors(fields.pixels, tissue.glass)
    folds = find_folds(overview, tissue, stains)
    slide = _of_slide(fields, stains, folds, tissue, references)
    columns = _of_cells(data, table_key, image_key, fields, folds, tissue.ink, overview) if has_cells else {}
    if copy:
        data = copy_table(data, table_key) if has_cells else share_elements(data)
    for name, values in columns.items():
        data.tables[table_key].obs[name] = values
    shown: dict[str, Any] = {"image_key": image_key, "images": mark_images(data, [image_key])}
    shown |= {"mpp": field_mpp, "n_fields": len(fields.focus)}
    write_slide_step(data, STEP, **shown, **slide)
    if has_cells:
        write_record(data.tables[table_key], STEP, **shown, **slide)
    logger.info("Measured %d fields of tissue: focus %.2f.", len(fields.focus), slide["focus"])
    return data if copy else None


def _check_records(references: Sequence[Mapping[str, Any]]) -> None:
    """Raise unless these are several records of other slides."""
    expected = 'expected a list of what sd.pp.quality recorded of other slides, [sdata.attrs["stdistill"]["quality"]]'
    if not isinstance(references, Sequence) or isinstance(references, str):
        msg = f"references is a {type(references).__name__}; {expected}."
        raise TypeError(msg)
    for number, reference in enumerate(references):
        if not isinstance(reference, Mapping):
            msg = f"references[{number}] is a {type(reference).__name__}; {expected}."
            raise TypeError(msg)
        if missing := [name for name in COMPARED if name not in reference]:
            msg = f"references[{number}] lacks {missing}; {expected}. It has {list(reference)}."
            raise KeyError(msg)


def _check_scale(references: Sequence[Mapping[str, Any]], mpp: float) -> None:
    """Raise when another slide was looked at with other pixels, at which the same sharpness is another number."""
    for number, reference in enumerate(references):
        theirs = float(reference["mpp"])
        if not 1 / SAME_SCALE <= theirs / mpp <= SAME_SCALE:
            msg = (
                f"references[{number}] was measured at {theirs:.3g} µm per pixel, this slide at {mpp:.3g}: their focus "
                "is not comparable. Give slides of the same magnification, whose pyramids have a level of about the "
                "same µm per pixel, or leave this one out."
            )
            raise ValueError(msg)


def _of_slide(
    fields: Fields,
    vectors: Float64s | None,
    folds: Mask,
    tissue: TissueMap,
    references: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    limit = min((float(one["focus_limit"]) for one in references), default=lower_limit(fields.focus, DEVIATIONS))
    stains = [np.asarray(one["stain_vectors"], np.float64) for one in references if "stain_vectors" in one]
    stains = stains or [np.array(RUIFROK)]
    n_tissue, n_ink = int(tissue.tissue.sum()), int(tissue.ink.sum())
    return {
        "focus": float(np.median(fields.focus)),
        "focus_limit": limit,
        "unfocused_share": float((fields.focus < limit).mean()),
        "fold_share": float(folds.sum() / n_tissue),
        "pen_share": n_ink / (n_ink + n_tissue),
        "overexposed_share": float(fields.overexposed.mean()),
        "blockiness": float(np.median(fields.blockiness)),
        "stain_vectors": vectors,
        "stain_distance": None if vectors is None else min(stain_angle(vectors, each) for each in stains),
    }


def _of_cells(
    sdata: SpatialData,
    table_key: str,
    image_key: str,
    fields: Fields,
    folds: Mask,
    ink: Mask,
    overview: Overview,
) -> dict[str, npt.NDArray[np.float32]]:
    from scipy.ndimage import uniform_filter
    from scipy.spatial import KDTree

    pixels = cell_pixels(sdata, image_key=image_key, table_key=table_key)
    on_image = pixels["on_image"].to_numpy()
    px = pixels[["x", "y"]].to_numpy()[on_image]
    nearest = KDTree(fields.centers).query(px)[1]
    column, row = np.clip((px / overview.factor).astype(int), 0, np.array(folds.shape[::-1]) - 1).T
    side = max(1, round(AROUND_UM / overview.mpp))

    def spread(values: Floats) -> npt.NDArray[np.float32]:
        whole = np.full(len(on_image), np.nan, np.float32)
        whole[on_image] = values
        return whole

    return {
        "he_focus": spread(fields.focus[nearest]),
        "he_overexposed": spread(fields.overexposed[nearest]),
        "he_blockiness": spread(fields.blockiness[nearest]),
        "he_fold": spread(uniform_filter(folds.astype(np.float32), side)[row, column]),
        "he_pen": spread(uniform_filter(ink.astype(np.float32), side)[row, column]),
    }
