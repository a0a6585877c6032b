"""The alignment of an H&E image to a Xenium slide, in 10x's convention: H&E pixel → morphology pixel."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stdistill._formats.text import list_members, open_text
from stdistill._slide.affine import apply_affine, check_affine, distortion, inside, is_mirrored
from stdistill._support.arrays import Floats
from stdistill._support.reading import check_is_file, reading
from stdistill._support.warn import warn

Alignment = str | Path | npt.ArrayLike

MISSING = "alignment file"
MAX_BYTES = 1_000_000
"""Nine numbers take no more, whatever surrounds them."""
NO_MATRIX = "is no alignment"
NOTICEABLE_DISTORTION = 0.01
"""A ratio of scales (less one) above this gets a warning; an alignment of one section is a similarity."""
MIN_SHARE_ON_IMAGE = 0.9
"""A smaller share of cells on the image gets a warning; below half of it, an error."""


def read_alignment(source: Alignment) -> Floats:
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
        matrix = _parse_csv(_read_text(Path(source).expanduser()), what)
    else:
        what = "The H&E alignment"
        try:
            matrix = np.asarray(source, dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"{what} must be the path of a CSV or zip, or 3 × 3 numbers, found {source!r}."
            raise TypeError(msg) from error
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
    he_to_morphology: Floats, centers: Floats, pixel_size: float, shape: tuple[int, int], source: str
) -> float:
    """Return the share of cells that the alignment puts on the image, checked to be plausible.

    Parameters
    ----------
    he_to_morphology
        Affine map (3 × 3) of H&E pixels to morphology pixels.
    centers
        Cell centres (n, 2) in µm.
    pixel_size
        µm per morphology pixel.
    shape
        Height and width of the H&E.
    source
        Where the alignment came from, for messages.
    """
    share = _share_inside(apply_affine(np.linalg.inv(he_to_morphology), centers / pixel_size), shape)
    if share >= MIN_SHARE_ON_IMAGE:
        return share
    mistake = _likely_mistake(he_to_morphology, centers, pixel_size, shape)
    if mistake is None and share >= MIN_SHARE_ON_IMAGE / 2:
        warn(
            f"{1 - share:.1%} of the {len(centers)} cells fall off the H&E image; they will have no H&E features. "
            "That is expected only if the image shows a part of the slide."
        )
        return share
    msg = (
        f"Only {share:.1%} of the {len(centers)} cells fall on the H&E image ({shape[1]} × {shape[0]} px) by {source}, "
        "which is expected to map H&E pixels to morphology pixels. "
        + (mistake or "Is it the alignment of this image and this slide, and is the image at full resolution?")
    )
    raise ValueError(msg)


def _likely_mistake(he_to_morphology: Floats, centers: Floats, pixel_size: float, shape: tuple[int, int]) -> str | None:
    """Name the usual mistake that would explain why cells fall off the image."""
    inverse = _share_inside(apply_affine(he_to_morphology, centers / pixel_size), shape)
    in_um = _share_inside(apply_affine(np.linalg.inv(he_to_morphology), centers), shape)
    if max(inverse, in_um) < MIN_SHARE_ON_IMAGE:
        return None
    if in_um > inverse:
        return (
            f"Taken as a map to µm it would put {in_um:.1%} of them there: divide the first two rows of the matrix by "
            f"the {pixel_size} µm of a morphology pixel."
        )
    return (
        f"Its inverse would put {inverse:.1%} of them there: the matrix seems to map morphology pixels to H&E pixels. "
        "Give he_alignment=np.linalg.inv(matrix)."
    )


def _share_inside(px: Floats, shape: tuple[int, int]) -> float:
    return float(inside(px, shape).mean())


def _read_text(path: Path) -> str:
    check_is_file(path, MISSING)
    if not zipfile.is_zipfile(path):
        with open_text(path, NO_MATRIX) as file:
            return file.read(MAX_BYTES)
    with reading(path, NO_MATRIX), zipfile.ZipFile(path) as archive:
        held = list_members(archive)
        members = [name for name in held if name.endswith("matrix.csv")]
        text = ""
        if len(members) == 1:
            with archive.open(members[0]) as member:
                text = member.read(MAX_BYTES).decode("utf-8-sig")
    if len(members) != 1:
        msg = f"{path.name} should hold one matrix.csv, as Xenium Explorer exports it; it holds {held}."
        raise ValueError(msg)
    return text


def _parse_csv(text: str, what: str) -> Floats:
    if ";" in text:  # a spreadsheet's, where the comma is that of decimals
        text = text.replace(",", ".").replace(";", ",")
    try:
        matrix: npt.NDArray[Any] = np.loadtxt(io.StringIO(text.replace("\t", ",")), delimiter=",", ndmin=2)
    except ValueError as error:
        msg = f"{what} is no CSV of numbers: expected 3 lines of 3 numbers and no header ({error})."
        raise ValueError(msg) from error
    return matrix.astype(np.float64)
