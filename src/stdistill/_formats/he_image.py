"""The H&E of a slide: found, opened lazily, placed over the cells and checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stdistill._formats.alignment import Alignment, check_cells_on_image, read_alignment
from stdistill._formats.slides.element import slide_element
from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.open import open_slide
from stdistill._formats.slides.reduced import OVERVIEW_PX
from stdistill._slide.affine import affine_scale, apply_affine, inside
from stdistill._slide.glass import share_on_tissue
from stdistill._slide.pyramid import MAX_MPP_DISAGREEMENT, SlideLevel, shrink_factor
from stdistill._slide.registration import warn_of_chance
from stdistill._support.arrays import Floats
from stdistill._support.reading import find_visible
from stdistill._support.warn import warn

if TYPE_CHECKING:
    from xarray import DataTree

logger = logging.getLogger("stdistill")

MIN_SHARE_ON_TISSUE = 0.5
LARGE_PX = 8192
"""A level of which no side is longer can be looked at as a whole."""


@dataclass(frozen=True)
class PlacedHE:
    """An H&E and how it lies over the cells."""

    element: DataTree
    """Multi-scale image with an affine map to ``"global"`` (morphology pixels)."""
    um_to_px: Floats
    """Affine map (3 × 3) of cell centres in µm to H&E pixels."""
    mpp: float
    """µm per pixel."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    path: Path
    """Its file."""
    digest: str
    """Tells the file from others."""
    share_on_image: float
    """Share of the cells on the image."""
    share_on_tissue: float | None
    """Share of those cells on stained pixels; `None` where the smallest level of the image is too large to look at."""


def find_he(folder: Path, he_image: str | Path | None, he_alignment: Alignment | None) -> tuple[Path, Alignment] | None:
    """Find the H&E and its alignment: those named, else the ones in the Xenium folder under 10x's names.

    Returns
    -------
    The two, or `None` when no image was named and the folder has none.
    """
    image = Path(he_image).expanduser() if he_image is not None else _find_image(folder)
    if image is None:
        if he_alignment is not None:
            msg = f"he_alignment was given, but no he_image, and {folder} has no *he_image.ome.tif."
            raise ValueError(msg)
        return None
    return image, he_alignment if he_alignment is not None else _find_alignment(folder, image)


def place_he(image_path: Path, alignment: Alignment, centers: Floats, pixel_size: float) -> PlacedHE:
    """Open the H&E and place it over the cells.

    Parameters
    ----------
    image_path
        The image.
    alignment
        Map of H&E pixels to morphology pixels, as :func:`stdistill._formats.alignment.read_alignment` takes it.
    centers
        Cell centres (n, 2) in µm.
    pixel_size
        µm per morphology pixel.
    """
    image = open_slide(image_path)
    source = Path(alignment).name if isinstance(alignment, str | Path) else "the given matrix"
    he_to_morphology = read_alignment(alignment)
    um_to_px = np.linalg.inv(he_to_morphology) @ np.diag([1 / pixel_size, 1 / pixel_size, 1.0])
    share_on_image = check_cells_on_image(he_to_morphology, centers, pixel_size, image.shape, source)
    mpp = 1 / affine_scale(um_to_px)
    _check_mpp(None if image.stated is None else image.stated.usable, mpp, source)
    px = apply_affine(um_to_px, centers)
    share = _share_on_tissue(image, px)
    if share is None or share >= MIN_SHARE_ON_TISSUE:
        _check_nuclei(image, px, mpp)
    return PlacedHE(
        element=slide_element(image, um_to_px, pixel_size),
        um_to_px=um_to_px,
        mpp=mpp,
        shape=image.shape,
        path=Path(image_path).absolute(),
        digest=image.digest,
        share_on_image=share_on_image,
        share_on_tissue=share,
    )


def _find_image(folder: Path) -> Path | None:
    found = find_visible(folder, "*he_image.ome.tif")
    if len(found) > 1:
        msg = (
            f"{folder} holds {len(found)} H&E images: {[p.name for p in found]}. "
            f"Name the one to read, for example he_image={str(found[0])!r}."
        )
        raise ValueError(msg)
    return found[0] if found else None


def _find_alignment(folder: Path, image: Path) -> Path:
    # 10x's names: …he_image.ome.tif and …he_imagealignment.csv.
    name = image.name.removesuffix(".ome.tif") + "alignment.csv"
    for place in (image.parent, folder):
        if (place / name).is_file():
            return place / name
    if not image.is_file():
        msg = f"There is no H&E image {image}" + (", which is a folder." if image.is_dir() else ".")
        raise FileNotFoundError(msg)
    likely = sorted(
        {
            file.name
            for place in (image.parent, folder)
            for file in place.iterdir()
            if file.suffix in {".csv", ".zip"} and ("align" in file.name or "matrix" in file.name)
        }
    )
    msg = (
        f"There is no alignment for {image.name}. Give he_alignment= the CSV or zip "
        "that Xenium Explorer exports, or a 3 × 3 array of H&E pixel → morphology pixel; or leave the image out "
        f"with he_image=False.{f' Candidates: {likely}.' if likely else ''}"
    )
    raise FileNotFoundError(msg)


def _check_mpp(stated: float | None, derived: float, source: str) -> None:
    if stated is None:
        logger.info("The H&E does not state its µm per pixel; %.4f follows from %s.", derived, source)
    elif abs(stated / derived - 1) > MAX_MPP_DISAGREEMENT:
        warn(
            f"The H&E states {stated:.4f} µm per pixel, {source} makes it {derived:.4f}. The alignment is "
            "followed; was it made on another resolution of the image?"
        )


def _share_on_tissue(image: SlideImage, px: Floats) -> float | None:
    """Share of cells on stained pixels, by Otsu's threshold on the darkest colour; `None` without a small level."""
    small = [level for level in image.levels if max(level.shape) <= OVERVIEW_PX]
    if max(image.stored[-1].shape) > LARGE_PX:  # all of a large image would be read for it
        return None
    overview: npt.NDArray[np.uint8] = small[0].compute()
    height, width = image.shape
    share = share_on_tissue(overview, px[inside(px, image.shape)] / (width, height))
    if share < MIN_SHARE_ON_TISSUE:
        warn(f"Only {share:.1%} of the cells on the H&E lie on stained tissue: the alignment seems to be off.")
    return share


def _check_nuclei(image: SlideImage, px: Floats, mpp: float) -> None:
    """Warn when cells lie on tissue, but no more of them on nuclei than by chance."""
    full = np.array(image.shape[::-1])
    levels = [SlideLevel(level, shrink_factor(full, np.array(level.shape[:0:-1]))) for level in image.levels]
    warn_of_chance(levels, px[inside(px, image.shape)], mpp)
