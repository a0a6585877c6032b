"""Objects of QuPath as GeoJSON, written block by block."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely

from stdistill._formats.polygons import Geometries
from stdistill._support.arrays import Floats, Rows
from stdistill._support.files import replacing

DECIMALS = 2
"""Of a pixel."""
GZIP_LEVEL = 4
"""Half the time of the usual 9, and a few percent more bytes."""
BEGIN = b'{"type":"FeatureCollection","features":['
"""Files that are written here begin so, and go on in a new line, as those of QuPath do not."""
SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")


class ObjectClass(NamedTuple):
    """A classification: QuPath reads it only with both."""

    name: str
    color: tuple[int, ...]
    """Red, green and blue from 0 to 255."""


class Block(NamedTuple):
    """Some objects."""

    geometries: Geometries
    """(m,), in pixels of the image at full resolution."""
    codes: Rows
    """(m,) numbers of their classes, -1 without one."""
    names: npt.NDArray[np.object_] | None
    """(m,) or none."""
    measurements: Mapping[str, Floats]
    """(m,) each; those that are not finite are left out."""


def write_objects(path: Path, blocks: Iterable[Block], classes: Sequence[ObjectClass], object_type: str) -> int:
    """Write objects to a GeoJSON file, compressed when its name ends in ``.gz``, and return their number.

    Parameters
    ----------
    path
        The file; it appears when all of it is written.
    blocks
        The objects.
    classes
        The classes that their codes stand for.
    object_type
        QuPath's: ``"annotation"``, ``"detection"`` or ``"cell"``.

    Raises
    ------
    FileExistsError
        When there is a file that was not written here.
    """
    _check_not_of_others(path)
    n_written = 0
    heads = [_head(object_type, each) for each in classes]
    heads.append(_head(object_type, None))  # of the code -1
    with replacing(path) as new, _open(new, path.suffix.lower() == ".gz") as file:
        file.write(BEGIN)
        for block in blocks:
            lines = ",\n".join(_features(block, heads))
            file.write(b",\n" if n_written else b"\n")
            file.write(lines.encode())
            n_written += len(block.codes)
        file.write(b"\n]}\n")
    return n_written


def object_classes(names: Sequence[str], colors: Sequence[tuple[float, ...]]) -> list[ObjectClass]:
    """Name classes so that QuPath keeps them apart: a colon or a new line in a name would make others of it.

    Colours are given as red, green and blue from 0 to 1.
    """
    plain = [" ".join(name.replace(": ", " - ").replace(":", "-").split()) for name in names]
    repeated = sorted({name for name in plain if plain.count(name) > 1})
    if repeated:
        msg = (
            f"The groups {[old for old, new in zip(names, plain, strict=True) if new in repeated]} would all be named "
            f"{repeated[0]!r} in QuPath, which allows no colon in the name of a class: rename them."
        )
        raise ValueError(msg)
    rgb = [tuple(round(255 * value) for value in color) for color in colors]
    return [ObjectClass(name, color) for name, color in zip(plain, rgb, strict=True)]


def check_suffix(path: Path) -> None:
    """Raise unless QuPath can tell by its name that a file is GeoJSON."""
    if not path.name.lower().endswith(SUFFIXES):
        msg = (
            f"path is {str(path)!r}; QuPath opens GeoJSON by its name, which must end in one of {', '.join(SUFFIXES)}."
        )
        raise ValueError(msg)


def _check_not_of_others(path: Path) -> None:
    """Raise when a file is there that was not written here, such as annotations drawn by hand: they would be lost."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            begin = file.read(len(BEGIN) + 1)
    except (OSError, EOFError):
        begin = b""
    if begin != BEGIN + b"\n":
        msg = (
            f"{path} exists already, and stdistill did not write it: annotations that were drawn or changed in QuPath "
            "would be lost. Name another file, or delete this one."
        )
        raise FileExistsError(msg)


def _head(object_type: str, which: ObjectClass | None) -> str:
    """Write the properties that the objects of a class share, without their end."""
    properties: dict[str, object] = {"objectType": object_type}
    if which is not None:
        properties["classification"] = {"name": which.name, "color": which.color}
        properties["color"] = which.color  # a class that the project knows keeps its own colour
    return json.dumps(properties, ensure_ascii=False, separators=(",", ":"))[:-1]


def _features(block: Block, heads: Sequence[str]) -> list[str]:
    n = len(block.codes)
    rounded = shapely.transform(block.geometries, lambda points: np.round(points, DECIMALS))
    names = [""] * n if block.names is None else [f',"name":{_quote(str(name))}' for name in block.names]
    parts = zip(shapely.to_geojson(rounded), block.codes, names, _measurements(block, n), strict=True)
    return [
        f'{{"type":"Feature","geometry":{geometry},"properties":{heads[code]}{name}{measured}}}}}'
        for geometry, code, name, measured in parts
    ]


def _measurements(block: Block, n: int) -> list[str]:
    """Write the measurements of each object; other programs than QuPath read no NaN."""
    columns = []
    for name, values in block.measurements.items():
        start, known = _quote(name), np.isfinite(values)
        columns.append(
            [f"{start}:{value:.6g}" if is_known else "" for value, is_known in zip(values, known, strict=True)]
        )
    if not columns:
        return [""] * n
    rows = (",".join(filter(None, row)) for row in zip(*columns, strict=True))
    return [f',"measurements":{{{row}}}' if row else "" for row in rows]


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@contextmanager
def _open(path: Path, compressed: bool) -> Iterator[IO[bytes]]:
    """Open a file to be written; compressed without time and name, so that equal objects make equal files."""
    with path.open("wb") as file:
        if compressed:
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield file
