"""The alignment of an H&E image to a Xenium slide, in 10x's convention: H&E pixel → morphology pixel."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._affine import FloatArray, apply_affine, check_affine, distortion, is_mirrored
from stdistill._warn import warn

logger = logging.getLogger("stdistill")

Alignment = str | Path | npt.ArrayLike

NOTICEABLE_DISTORTION = 0.01
"""A ratio of scales (less one) above this gets a warning; an alignment of one section is a similarity."""
MIN_SHARE_ON_IMAGE = 0.9
"""A smaller share of cells on the image gets a warning; below half of it, an error."""


def read_alignment(source: Alignment) -> FloatArray:
    """Read and check a 3 × 3 matrix that maps (x, y, 1) of H&E pixels to morphology pixels.

    Parameters
    ----------
    source
        A CSV file without a header (as 10x publishes it), a zip that holds a ``matrix.csv`` (as Xenium
        Explorer exports it), or an array.

    Raises
    ------
    FileNotFoundError
        When the file is not there.
    ValueError
        When it is no 3 × 3 matrix, or one that is singular, sheared or anisotropic.
    """
    if isinstance(source, str | Path):
        what = f"The H&E alignment {Path(source).name}"
        matrix = _parse_csv(_read_text(Path(source)), what)
    else:
        what = "The H&E alignment"
        matrix = np.asarray(source, dtype=np.float64)
    check_affine(matrix, what)
    if distortion(matrix) > NOTICEABLE_DISTORTION:
        warn(
            f"{what} stretches one direction by {distortion(matrix):.1%} more than the other. An H&E of the "
            "same section needs no stretching: check some landmarks."
        )
    if is_mirrored(matrix):
        warn(
            f"{what} mirrors the image (its determinant is negative). That is right for a section scanned from "
            "its back; otherwise the landmarks were set on the wrong sides."
        )
    return matrix


def check_cells_on_image(
    he_to_morphology: FloatArray, morphology_px: FloatArray, shape: tuple[int, int], source: str
) -> float:
    """Return the share of cells that the alignment puts on the image, checked to be plausible.

    Parameters
    ----------
    he_to_morphology
        Affine map (3 × 3) of H&E pixels to morphology pixels.
    morphology_px
        Cell centres (n, 2) in morphology pixels.
    shape
        Height and width of the H&E.
    source
        Where the alignment came from, for messages.
    """
    share = _share_inside(apply_affine(np.linalg.inv(he_to_morphology), morphology_px), shape)
    if share >= MIN_SHARE_ON_IMAGE:
        return share
    swapped = _share_inside(apply_affine(he_to_morphology, morphology_px), shape)
    if share < MIN_SHARE_ON_IMAGE / 2:
        advice = (
            f"Its inverse would put {swapped:.1%} of them there: the matrix seems to map morphology pixels to "
            "H&E pixels. Give he_alignment=np.linalg.inv(matrix)."
            if swapped > max(share, MIN_SHARE_ON_IMAGE / 2)
            else "Is it the alignment of this image and this slide, and is the image at full resolution?"
        )
        msg = (
            f"Only {share:.1%} of the {len(morphology_px)} cells fall on the H&E image ({shape[1]} × {shape[0]} "
            f"px) by {source}, which is expected to map H&E pixels to morphology pixels. {advice}"
        )
        raise ValueError(msg)
    warn(
        f"{1 - share:.1%} of the {len(morphology_px)} cells fall off the H&E image; they will have no H&E "
        "features. That is expected only if the image shows a part of the slide."
    )
    return share


def _share_inside(px: FloatArray, shape: tuple[int, int]) -> float:
    return float(((px >= 0) & (px < (shape[1], shape[0]))).all(axis=1).mean())


def _read_text(path: Path) -> str:
    if not path.is_file():
        msg = f"There is no alignment file {path}."
        raise FileNotFoundError(msg)
    if not zipfile.is_zipfile(path):
        return path.read_text()
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith("matrix.csv")]
        if len(members) != 1:
            msg = (
                f"{path.name} should hold one matrix.csv, as Xenium Explorer exports it; it holds {archive.namelist()}."
            )
            raise ValueError(msg)
        return archive.read(members[0]).decode()


def _parse_csv(text: str, what: str) -> FloatArray:
    try:
        matrix: npt.NDArray[Any] = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2)
    except ValueError as error:
        msg = f"{what} is no CSV of numbers: expected 3 lines of 3 numbers and no header ({error})."
        raise ValueError(msg) from error
    return matrix.astype(np.float64)
