"""Which slides are meant: by paths, by folders of slides, or by a table with a row for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd

from stdistill._formats.slides.open import is_image
from stdistill._formats.slides.with_openslide import SUFFIXES
from stdistill._formats.text import named_as, read_csv
from stdistill._formats.xenium import CELLS, MASKS, MATRIX, MEX, SPECS
from stdistill._support.reading import HDF5, find_visible

LISTS = (".csv", ".tsv")
SLIDE, MPP, NUCLEI, SCENE, ID = "slide", "mpp", "nuclei", "scene", "slide_id"
KNOWN = (SLIDE, MPP, NUCLEI, SCENE, ID, "group", "patient")
"""Columns that mean the same however their capitals are; all others are the user's own."""
NAMED_AS_SLIDES = (".svs", ".ndpi", ".tif", ".tiff", ".btf", *SUFFIXES)
"""A file of such a name is meant as a slide, also when it is cut off before its first byte."""
NO_LIST = "is no table of slides (slide, and perhaps mpp, nuclei, group, patient and more)"

Kind = Literal["bundle", "table", "slide"]


def find_kind(path: Path) -> Kind:
    """Tell what a path is that niches are to be mapped on: a Xenium bundle, an h5ad, or else an H&E."""
    if path.is_dir():
        return "bundle"
    if path.suffix == ".h5ad":
        return "table"
    with path.open("rb") as file:
        return "table" if file.read(len(HDF5)) == HDF5 else "slide"


def names_several(path: Path) -> bool:
    """Whether a path stands for slides, as a table of them and a folder of them do, and is none itself."""
    return bool(path.suffix.lower() in LISTS or (path.is_dir() and not _is_bundle(path) and find_slides(path)))


def find_slides(folder: Path) -> list[Path]:
    """List the H&E slides in a folder, not in those inside of it, in the order of their names."""
    files = [path for path in find_visible(folder, "*") if path.is_file()]
    return [path for path in files if path.suffix.lower() in NAMED_AS_SLIDES or is_image(path)]


def list_slides(paths: Iterable[Path]) -> pd.DataFrame:
    """List the slides that paths stand for: files, Xenium bundles, folders of slides, and tables of slides.

    Returns
    -------
    One row per slide, all of it text: ``slide``, an absolute path, and the columns of the tables, where there are any.

    Raises
    ------
    FileNotFoundError
        When a folder holds no slide, or there is no file of a table at all.
    ValueError
        When a table is not as expected.
    """
    parts = []
    for path in paths:
        if path.suffix.lower() in LISTS:
            parts.append(read_slide_list(path))
        elif path.is_dir() and not _is_bundle(path):
            found = find_slides(path)
            if not found:
                msg = (
                    f"There is no slide in the folder {path}, nor is it a Xenium bundle ({SPECS}). Expected files that "
                    "sd.pp.read_slide reads, in the folder itself."
                )
                raise FileNotFoundError(msg)
            parts.append(pd.DataFrame({SLIDE: [str(one.absolute()) for one in found]}))
        else:
            parts.append(pd.DataFrame({SLIDE: [str(path.absolute())]}))
    rows: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return rows.drop_duplicates(SLIDE, ignore_index=True).fillna("")


def read_slide_list(path: Path) -> pd.DataFrame:
    """Read a table of slides; paths in it are those beside it, unless they are absolute.

    Raises
    ------
    FileNotFoundError
        When there is no such table, or none of its slides is there.
    ValueError
        When it is no table, has no column ``slide``, or one ``scene``, or rows without a slide, the same slide twice,
        or an ``mpp`` that is no number.
    """
    rows = read_csv(path, NO_LIST, missing="table of slides", dtype="str", keep_default_na=False)
    rows = named_as(rows, KNOWN, path)
    if SLIDE not in rows or ID in rows:
        rename = f"Rename {ID}, which is made of the names of files" if SLIDE in rows else "Rename them"
        msg = (
            f"{path.name} has the columns {list(rows.columns)}; expected slide, and perhaps mpp, nuclei, group, "
            f"patient and others, but no {ID}. {rename} in its first line."
        )
        raise ValueError(msg)
    if SCENE in rows:
        msg = (
            f"{path.name} has the column scene, which is not read: a slide is one file, and one scene of it, which "
            "--scene chooses for all. Run slides of other scenes as a cohort of their own, or rename the column."
        )
        raise ValueError(msg)
    for column in rows:
        rows[column] = rows[column].fillna("").str.strip()
    if rows.empty:
        msg = f"{path.name} has a header and no row; expected one for each slide."
        raise ValueError(msg)
    _refuse(path, rows, rows[SLIDE] == "", "no slide", "Write its path, or remove the row.")
    for column in rows.columns.intersection([SLIDE, NUCLEI]):
        rows[column] = [str(path.parent.absolute() / name) if name else "" for name in rows[column]]
    _refuse(path, rows, rows[SLIDE].duplicated(), "a slide that another row has, too", "Remove one of them.")
    if MPP in rows:
        numbers = pd.to_numeric(rows[MPP].where(rows[MPP] != "", "nan"), errors="coerce")
        wrong = (rows[MPP] != "") & ~(numbers > 0)
        what = f"the mpp {rows.loc[wrong, MPP].iloc[0]!r}" if wrong.any() else ""
        _refuse(
            path, rows, wrong, what, "Expected µm per pixel, a number such as 0.25, or nothing where the file says it."
        )
    if not any(Path(slide).exists() for slide in rows[SLIDE]):
        msg = (
            f"None of the {len(rows)} slides in {path.name} is there, such as {rows[SLIDE].iloc[0]}. Write paths that "
            f"are absolute, or as seen from {path.parent.absolute()}."
        )
        raise FileNotFoundError(msg)
    return rows


def _refuse(path: Path, rows: pd.DataFrame, wrong: pd.Series, what: str, advice: str) -> None:
    """Raise and name the rows, as an editor counts them under the header, that have something wrong."""
    if wrong.any():
        numbers = [number + 1 for number, is_wrong in enumerate(wrong) if is_wrong]
        named = f"Row {numbers[0]}" if len(numbers) == 1 else f"Rows {', '.join(map(str, numbers[:5]))}"
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        msg = (
            f"{named}{more} of the {len(rows)} in {path.name} {'has' if len(numbers) == 1 else 'have'} {what}. {advice}"
        )
        raise ValueError(msg)


def _is_bundle(folder: Path) -> bool:
    return any((folder / name).exists() for name in (SPECS, *CELLS, MASKS, MATRIX, MEX))
