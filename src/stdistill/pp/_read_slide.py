"""A slide of H&E alone, from disk to SpatialData."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stdistill._formats.slides.element import slide_element
from stdistill._formats.slides.open import open_slide
from stdistill._formats.slides.resolution import resolve_mpp
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.he.slide_record import GIVEN, SlideRecord, write_slide_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

logger = logging.getLogger("stdistill")


def read_slide(
    path: str | Path,
    *,
    mpp: float | None = None,
    scene: int | str | None = None,
    image_key: str = schema.HE_IMAGE,
) -> SpatialData:
    """Read an H&E without transcripts.

    The image stays on disk: its pyramid is used as it is, and tiles are decoded when their pixels are asked for. TIFFs
    of scanners (SVS, NDPI, Philips, Ventana, OME, Motic, generic pyramids, flat ones), JPEG, PNG and BMP are read by
    this library; ``.mrxs``, ``.vms``, ``.vmu``, ``.scn``, ``.bif``, ``.svslide``, ``.dcm`` and ``.czi`` through
    OpenSlide (``pip install 'stdistill[openslide]'``).

    Parameters
    ----------
    path
        The file.
    mpp
        µm per pixel at full resolution, 0.05 to 10. By default what the file states: PhysicalSize of OME-XML, MPP of
        Aperio and Motic, DICOM_PIXEL_SPACING of Philips, ScanRes of Ventana, or resolution tags with a unit; never a
        magnification. x and y are averaged when they differ by up to 2 %.
    scene
        Number (from 0) or name of the slide in a file that holds several.
    image_key
        Name that the image gets.

    Returns
    -------
    A SpatialData with

    ``images[image_key]``
        The H&E, multi-scale, (3, height, width) uint8, lazy, in the coordinate systems ``"global"`` (pixels of the full
        resolution) and ``"um"`` (µm). What is missing or transparent has the colour of the slide's glass. A file
        without a level of at most 2,048 pixels gets some, which are computed when they are asked for.
    ``.attrs["stdistill"]["slide"]``
        The record of the slide: ``source`` (its format), ``path``, ``digest`` (of parts of the file), ``image_key``,
        ``mpp``, ``mpp_source``, ``um_to_px`` (3 × 3), ``shape`` (height, width), and where there are such ``scene`` and
        ``bounds`` (left, top, width and height in pixels of what was scanned, as OpenSlide gives them and QuPath crops
        to them).

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ImportError
        When OpenSlide is needed and not installed.
    ValueError
        When the file does not state its µm per pixel or states what no slide has, holds several slides of which none is
        chosen, is truncated or lacks a part, or is no RGB of 8 bits, such as fluorescence.

    Warns
    -----
    UserWarning
        When µm per pixel are unusual or two statements disagree, the file has an orientation tag (it is not followed),
        no glass is seen, or a large image has no tiles or no pyramid.

    See Also
    --------
    attach_slide : attach the image to what was written without it.
    read_xenium : read an H&E with transcripts.

    Notes
    -----
    Limits and tolerances are our choice. ``sdata.write`` copies the image, decompressed: what follows from a slide is
    better written without it.

    Examples
    --------
    >>> import numpy as np, tifffile
    >>> import stdistill as sd
    >>> pixels = np.full((512, 512, 3), 240, np.uint8)
    >>> options = {"tile": (256, 256), "photometric": "rgb", "resolution": (20_000, 20_000)}
    >>> tifffile.imwrite("slide.tif", pixels, resolutionunit="CENTIMETER", **options)
    >>> slide = sd.pp.read_slide("slide.tif")
    >>> slide.attrs["stdistill"]["slide"]["mpp"]
    0.5
    """
    check_name(image_key, "image_key")
    path = Path(path).expanduser().absolute()
    image = open_slide(path, scene=scene)
    resolved = resolve_mpp(image.stated, mpp, path.name)
    um_to_px = np.diag([1 / resolved, 1 / resolved, 1.0])
    record = SlideRecord(
        source=image.format,
        image_key=image_key,
        mpp=resolved,
        mpp_source=GIVEN if mpp is not None or image.stated is None else image.stated.source,
        um_to_px=um_to_px,
        shape=image.shape,
        path=str(path),
        digest=image.digest,
        scene=scene,
        bounds=image.bounds,
    )
    from spatialdata import SpatialData

    sdata = SpatialData.init_from_elements({image_key: slide_element(image, um_to_px, pixel_size=None)})
    write_slide_record(sdata, record)
    height, width = image.shape
    logger.info("Read %s: %d × %d px at %.4f µm per pixel (%s).", path.name, width, height, resolved, record.mpp_source)
    return sdata
