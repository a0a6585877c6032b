"""The door to all formats: a path in, a slide out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stdistill._formats.slides.content import check_content, sample
from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.plain import open_plain, plain_format
from stdistill._formats.slides.tiff.open import list_scenes as list_tiff_scenes
from stdistill._formats.slides.tiff.open import open_tiff
from stdistill._formats.slides.with_openslide import SUFFIXES, open_with_openslide
from stdistill._support.reading import find_fault

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_slide(path: str | Path, *, scene: int | str | None = None) -> SlideImage:
    """Open an RGB image of any kind; of its pixels a few tiles are decoded.

    Parameters
    ----------
    path
        The file: a TIFF of any scanner, a plain image, or what OpenSlide reads.
    scene
        Number or name of one of several slides in a file.

    Raises
    ------
    TypeError
        When `scene` is neither a number nor a name.
    FileNotFoundError
        When there is no such file.
    ImportError
        When OpenSlide is needed and not installed.
    ValueError
        When it is not whole, no image, no H&E, or holds several slides of which none is chosen.

    Warns
    -----
    UserWarning
        Of what is odd about it: no glass, an orientation tag, no pyramid, statements that disagree.
    """
    if isinstance(scene, bool) or not isinstance(scene, int | np.integer | str | None):
        msg = f"scene must be the number or the name of a scene, found {scene!r} ({type(scene).__name__})."
        raise TypeError(msg)
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        msg = f"There is no H&E image {path}" + (", which is a folder." if path.is_dir() else ".")
        raise FileNotFoundError(msg)
    image = _open(path, scene)
    check_content(sample(image.stored[-1]), path.name)
    return image


def is_image(path: Path) -> bool:
    """Whether a file is of a kind that `open_slide` reads, by its first bytes or its name; perhaps it is not whole."""
    return _is_tiff(path) or plain_format(_start(path)) is not None or _is_named_for_openslide(path)


def list_scenes(path: str | Path) -> list[tuple[str, int, int]]:
    """List the slides in a file: name, height and width of each; none for a file that holds one image alone."""
    path = Path(path).expanduser().absolute()
    if not _is_tiff(path):
        return []
    return [(one.name, *one.layout.size) for one in list_tiff_scenes(path)]


def _open(path: Path, scene: int | str | None) -> SlideImage:
    if _is_tiff(path):
        return open_tiff(path, scene)
    start = _start(path)
    by_openslide = _is_named_for_openslide(path)
    if not (by_openslide or plain_format(start)):
        fault = find_fault(path)
        if fault is not None and fault.advice:
            msg = f"{path.name} is no image: {fault.what}. {fault.advice.capitalize()}."
            raise ValueError(msg)
        msg = (
            f"{path.name} is no TIFF, JPEG, PNG or BMP (it begins with {start!r}), and not named as what is read "
            f"through OpenSlide ({', '.join(SUFFIXES)}). Convert it, for example with "
            "`vips tiffsave in out.tif --tile --pyramid`."
        )
        raise ValueError(msg)
    image = open_with_openslide(path) if by_openslide else open_plain(path)
    if scene not in (None, 0):
        msg = f"scene={scene!r} is not in {path.name}, which holds one image: leave scene= out."
        raise ValueError(msg)
    return image


def _is_tiff(path: Path) -> bool:
    return _start(path).startswith(TIFF_MAGIC) and not _is_named_for_openslide(path)


def _is_named_for_openslide(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(24)
