"""Downloads of public Xenium slides."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from stdistill._support.reading import find_visible, reading
from stdistill.datasets._catalogue import TENX, RemoteFile, XeniumSlide, find_slide

logger = logging.getLogger("stdistill")

EXPERIMENT = "experiment.xenium"
PARTS = (EXPERIMENT, "*he_image.ome.tif", "*he_imagealignment.csv")
"""What makes a bundle with its H&E whole."""


def download(name: str, *, folder: str | Path | None = None, progress_bar: bool = True) -> Path:
    """Download a public Xenium slide with its H&E, ready for :func:`stdistill.pp.read_xenium`.

    The bundle is unpacked, and the H&E, its alignment and, where there are some, the cell types are put into it. A
    slide that is there is returned without looking at the network. After an interruption the same call goes on with
    the files that are missing. Of slides whose files are not known, the error says what to download by hand and where
    to put it.

    Parameters
    ----------
    name
        One of :func:`stdistill.datasets.list`.
    folder
        Folder in which the slide's own folder is made; by default one in the user's cache. A slide takes tens of GB,
        and twice as many while it is unpacked.
    progress_bar
        Whether to show one per file.

    Returns
    -------
    The bundle's folder, ``{folder}/{name}``.

    Raises
    ------
    KeyError
        When there is no slide of that name.
    FileNotFoundError
        When the slide has to be downloaded by hand.
    FileExistsError
        When its folder is there but not whole.
    ConnectionError
        When a file cannot be downloaded.
    OSError
        When the folder cannot be written to.
    ValueError
        When a file is not the one expected, or the bundle is no archive of a Xenium slide.

    Notes
    -----
    The files are downloaded with pooch from 10x Genomics, under the terms on the slide's page. Checksums are checked
    where one is known.

    Examples
    --------
    >>> import stdistill as sd
    >>> sd.datasets.download("liver_healthy", folder="slides")
    Traceback (most recent call last):
    ...
    FileNotFoundError: The addresses of the files of 'liver_healthy' are not known, and ...
    """
    slide = find_slide(name)
    target = _folder(folder) / name
    missing = _missing(target)
    if not missing:
        return target
    lacks = f"{target} holds no {' and no '.join(missing)}"
    if not slide.files:
        msg = f"The addresses of the files of {name!r} are not known, and {lacks}. {_by_hand(slide, target)}"
        raise FileNotFoundError(msg)
    if target.exists():
        msg = f"{lacks}, but is there: remove it to download the slide, or put there what is missing."
        raise FileExistsError(msg)
    parts = target.with_name(f".{name}.part")
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{parts} cannot be made ({error.strerror}): name a folder for the slide with folder=."
        raise OSError(error.errno, msg) from error
    bundle, *others = [_fetch(file, slide, target, parts, progress_bar) for file in slide.files]
    unpacked = _unpack(bundle, parts / "unpacked")
    for file in others:
        file.rename(unpacked / file.name)
    unpacked.rename(target)
    shutil.rmtree(parts)
    logger.info("Downloaded %s: read it with sd.pp.read_xenium(%r).", name, str(target))
    return target


def _folder(folder: str | Path | None) -> Path:
    if folder is not None:
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("stdistill") / "datasets"


def _missing(target: Path) -> list[str]:
    return [pattern for pattern in PARTS if not find_visible(target, pattern)]


def _fetch(file: RemoteFile, slide: XeniumSlide, target: Path, parts: Path, progress_bar: bool) -> Path:
    """Download a file, unless it is there whole; pooch gives it its name only then."""
    import pooch

    try:
        path = pooch.retrieve(file.url, file.checksum, fname=file.name, path=parts, progressbar=progress_bar)
    except OSError as error:
        msg = (
            f"{file.url} could not be downloaded to {parts} ({error}). Call again to go on with what is missing. "
            f"{_by_hand(slide, target)}"
        )
        raise ConnectionError(msg) from error
    except ValueError as error:
        msg = f"{file.url} is not the file that was expected ({error}). {_by_hand(slide, target)}"
        raise ValueError(msg) from error
    return Path(path)


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack a bundle and return its folder, which older archives have inside of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with reading(archive, "is no whole zip archive"), zipfile.ZipFile(archive) as content:
            outside = [name for name in content.namelist() if _is_outside(name)]
            if not outside:
                content.extractall(folder)
    except ValueError as error:
        raise _refuse(archive, f"cannot be unpacked: {error}") from error
    if outside:
        raise _refuse(archive, f"would unpack to outside of its folder ({outside[:3]}), so nothing was unpacked")
    found = sorted(folder.rglob(EXPERIMENT), key=lambda path: len(path.parts))
    if not found:
        raise _refuse(archive, f"holds no {EXPERIMENT}: it is no bundle of a Xenium slide")
    return found[0].parent


def _refuse(archive: Path, why: str) -> ValueError:
    """Remove an archive that is of no use, so that the next call downloads it anew."""
    archive.unlink()
    return ValueError(f"{archive.name} {why}. The file was removed: call again to download it anew.")


def _is_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _by_hand(slide: XeniumSlide, target: Path) -> str:
    """Say what to download, where to put it, and what reads it."""
    unknown = f"the {slide.species} {slide.tissue} ({slide.condition}) of the paper's reference {slide.reference}"
    what = unknown if slide.title is None else repr(slide.title)
    return (
        f"To do so by hand, download {what} from {slide.page or TENX}: the output bundle, the H&E image and its "
        f"alignment file. Unpack the bundle to {target}, put the other two into it, and read it with "
        f"sd.pp.read_xenium({str(target)!r}). {slide.note}"
    )
