"""Where TIFFs state their µm per pixel: words of scanners, XML, tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import tifffile

from stdistill._formats.slides.resolution import StatedMpp, parse_number

METRES = {"m": 1.0, "dm": 1e-1, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "nm": 1e-9, "pm": 1e-12}
OME_UNITS_UM = {unit: 1e6 * metres for unit, metres in METRES.items()}
OME_UNITS_UM |= {"μm": 1.0, "Å": 1e-4, "thou": 25.4, "in": 25_400.0, "pt": 25_400 / 72}
"""µm per unit of length in OME-XML; the µ of Greek letters and that of units are two characters."""
TAG_UNITS_UM = {
    tifffile.RESUNIT.INCH: 25_400.0,
    tifffile.RESUNIT.CENTIMETER: 1e4,
    tifffile.RESUNIT.MILLIMETER: 1e3,
    tifffile.RESUNIT.MICROMETER: 1.0,
}
WORDS = re.compile(r"(?:^|\|)\s*MPP\s*=\s*([^|;\r\n]*)")
"""As Aperio writes it among other words, and Motic after it."""
SCAN_RES = re.compile(rb"<iScan\b[^>]*\bScanRes\s*=\s*[\"']([^\"']*)[\"']")


def statements(tiff: tifffile.TiffFile, page: tifffile.TiffPage, ome: ElementTree.Element | None) -> list[StatedMpp]:
    """List what a TIFF states about an image, the most telling first.

    Parameters
    ----------
    tiff
        The file.
    page
        The image at full resolution.
    ome
        What OME-XML says of its pixels.
    """
    return [
        *_in_ome(ome),
        *_in_words(page.description),
        *_in_philips(tiff.philips_metadata),
        *_in_ventana(tiff.pages.first),
        *_in_tags(page),
    ]


def _in_ome(pixels: ElementTree.Element | None) -> Iterator[StatedMpp]:
    if pixels is None:
        return
    sizes = [_um(pixels, axis) for axis in "XY"]
    x, y = (one if one is not None else other for one, other in (sizes, sizes[::-1]))
    if x is not None and y is not None:
        yield StatedMpp(x, y, "PhysicalSize in the OME-XML")


def _um(pixels: ElementTree.Element, axis: str) -> float | None:
    size = parse_number(pixels.get(f"PhysicalSize{axis}"))
    unit = OME_UNITS_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").strip())
    return None if size is None or unit is None else size * unit


def _in_words(description: str) -> Iterator[StatedMpp]:
    found = WORDS.search(description)
    number = None if found is None else parse_number(found[1])
    if number is not None:
        yield StatedMpp(number, number, "MPP in the ImageDescription")


def _in_philips(xml: str | None) -> Iterator[StatedMpp]:
    """Read the spacing (mm) of the full resolution, which is the finest that is stated."""
    if xml is None:
        return
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return
    spacings = []
    for spacing in root.iterfind(".//Attribute[@Name='DICOM_PIXEL_SPACING']"):
        numbers = [parse_number(word) for word in (spacing.text or "").split()]
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
            spacings.append((1e3 * numbers[1], 1e3 * numbers[0]))  # DICOM: between rows first
    if spacings:
        yield StatedMpp(*min(spacings), "DICOM_PIXEL_SPACING in the ImageDescription")


def _in_ventana(page: tifffile.TiffPage) -> Iterator[StatedMpp]:
    found = SCAN_RES.search(xmp(page))
    number = None if found is None else parse_number(found[1].decode(errors="replace"))
    if number is not None:
        yield StatedMpp(number, number, "ScanRes of iScan")


def xmp(page: tifffile.TiffPage) -> bytes:
    """Return what a page has in its XMP tag, where Ventana's iScan writes."""
    found = page.tags.valueof("XMP", b"")
    return found if isinstance(found, bytes) else str(found).encode()


def _in_tags(page: tifffile.TiffPage) -> Iterator[StatedMpp]:
    unit = TAG_UNITS_UM.get(page.tags.valueof("ResolutionUnit", tifffile.RESUNIT.INCH))
    tags = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if unit is None or None in tags:
        return
    with np.errstate(all="ignore"):  # 0 pixels per inch are infinitely many µm, and refused by whoever asks
        per_unit = [np.divide(*tag) if isinstance(tag, tuple) else tag for tag in tags]
        x, y = (float(np.divide(unit, one)) for one in per_unit)
    yield StatedMpp(x, y, "resolution tags")
