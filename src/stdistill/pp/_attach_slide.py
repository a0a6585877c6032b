"""The H&E of a slide, attached again to what was written without it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdistill._formats.slides.element import slide_element
from stdistill._formats.slides.image import SlideImage
from stdistill._formats.slides.open import open_slide
from stdistill._slide.pyramid import is_same_mpp
from stdistill._slide.windows import hash_image
from stdistill._table import schema
from stdistill._table.checks import is_spatialdata
from stdistill._table.he.images import slide_levels
from stdistill._table.he.slide_record import GIVEN, SlideRecord, read_slide_record, write_slide_record
from stdistill._table.records import records_of

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")


def attach_slide(sdata: SpatialData, path: str | Path | None = None, *, table_key: str = schema.TABLE) -> None:
    """Attach the H&E to a SpatialData that was written without it.

    ``sdata.write`` copies an image, decompressed: several times the size of the slide. What this library's commands
    write holds all but the image, and a record of where it is.

    Parameters
    ----------
    sdata
        What was read back, with a record of its slide in ``.attrs`` or in a table, as `read_slide` and `read_xenium`
        write it.
    path
        The file of the H&E. By default where it was when the slide was read.
    table_key
        Name of the table that has the record, where ``.attrs`` has none.

    Returns
    -------
    `None`; adds ``images[image_key]`` under the recorded name, with the recorded place and µm per pixel, and records
    `path`.

    Raises
    ------
    TypeError
        When `sdata` is no SpatialData.
    FileNotFoundError
        When the file is not there.
    ValueError
        When there is no record, the image is there already, or the file is of another slide: it has another size, other
        µm per pixel, other bytes, or other pixels than the features in the tables were computed from.

    See Also
    --------
    read_slide, read_xenium

    Examples
    --------
    >>> import spatialdata
    >>> import stdistill as sd
    >>> bundle = sd.datasets.simulate_xenium("slide/outs", n_cells=1000)
    >>> sdata = sd.pp.read_xenium(bundle)
    >>> spatialdata.SpatialData(shapes=sdata.shapes, tables=sdata.tables).write("slide/cells.zarr")
    >>> again = spatialdata.read_zarr("slide/cells.zarr")
    >>> sd.pp.attach_slide(again)
    >>> list(again.images)
    ['he']
    """
    if not is_spatialdata(sdata):
        msg = f"Expected the SpatialData that the H&E belongs to, found {type(sdata).__name__}."
        raise TypeError(msg)
    holder, record = _find_record(sdata, table_key)
    image_key = record.image_key or schema.HE_IMAGE
    if image_key in sdata.images:
        msg = f"The SpatialData has an image {image_key!r} already; del sdata.images[{image_key!r}] to attach it anew."
        raise ValueError(msg)
    file = _find_file(path, record)
    image = open_slide(file, scene=record.scene)
    _check_same(image, record, file)
    if record.um_to_px is None:
        msg = "The record of the slide does not say where its H&E lies: read the slide again."
        raise ValueError(msg)
    element = slide_element(image, record.um_to_px, record.pixel_size)
    _check_features_of(element, sdata, image_key, file)
    sdata.images[image_key] = element
    if record.path != str(file):
        write_slide_record(holder, replace(record, path=str(file)))
    logger.info("Attached %s as images[%r].", file, image_key)


def _find_record(sdata: SpatialData, table_key: str) -> tuple[SpatialData | AnnData, SlideRecord]:
    for holder in (sdata, sdata.tables.get(table_key)):
        record = None if holder is None else read_slide_record(holder)
        if record is not None and record.shape is not None:
            return holder, record
    msg = (
        f'The SpatialData has no record of an H&E in .attrs["{schema.RECORD}"] nor in a table {table_key!r} (there '
        f"is: {sorted(sdata.tables)}). Read the slide with sd.pp.read_slide or sd.pp.read_xenium."
    )
    raise ValueError(msg)


def _find_file(path: str | Path | None, record: SlideRecord) -> Path:
    if path is None and record.path is None:
        msg = "The record of the slide does not say where its H&E is: give path=."
        raise ValueError(msg)
    file = Path(str(record.path) if path is None else path).expanduser().absolute()
    if path is None and not file.is_file():
        msg = f"The H&E is no longer at {file}, where it was read: say with path= where it is now."
        raise FileNotFoundError(msg)
    return file


def _check_same(image: SlideImage, record: SlideRecord, file: Path) -> None:
    """Raise unless an image is that of the record, by what both say of it."""
    stated = None if image.stated is None else image.stated.usable
    by_file = stated is not None and record.mpp is not None and record.mpp_source not in (None, GIVEN)
    comparisons = {
        "size in pixels (height, width)": (image.shape, record.shape, image.shape == record.shape),
        "µm per pixel": (stated, record.mpp, not by_file or is_same_mpp(stated or 0, record.mpp or 0)),
        "digest": (image.digest, record.digest, record.digest in (None, image.digest)),
    }
    for what, (found, recorded, is_same) in comparisons.items():
        if not is_same:
            msg = (
                f"{file} is not the H&E of this slide: its {what} is {found}, that of the slide {recorded}. Give the "
                "file that was read, or read this one with sd.pp.read_slide."
            )
            raise ValueError(msg)


def _check_features_of(element: Any, sdata: SpatialData, image_key: str, file: Path) -> None:
    """Raise when features in a table were computed from other pixels: the bytes of a file are compared in part only."""
    records = [record for table in sdata.tables.values() for _, record in records_of(table, ["embed_he"])]
    recorded = [record for record in records if image_key in str(record.get("image_key")).split(", ")]
    known = [record for record in recorded if "images" in record]
    found = hash_image(slide_levels(element, image_key)[0]) if known else None
    for record in known:
        if found is not None and found not in str(record["images"]).split("+"):
            msg = (
                f"{file} is not the H&E of this slide: .obsm[{record.get('key_added')!r}] was computed from other "
                "pixels (repainted, flipped, or of another slide). Give the file that was read, or compute the "
                "features again: del table.obsm[...] and its record, attach the slide, and run sd.pp.embed_he."
            )
            raise ValueError(msg)
