from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from stdistill._formats.slides.open import open_slide

PIXELS = np.full((160, 200, 3), 240, np.uint8)


def stated(path: Path) -> tuple[float, float, str] | None:
    found = open_slide(path).stated
    return None if found is None else (found.x, found.y, found.source)


# ---- OME-XML


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("µm", 0.274),
        ("μm", 0.274),  # the Greek letter
        ("um", 0.274),
        ("nm", 274),
        ("mm", 0.000274),
        ("cm", 0.0000274),
        ("m", 2.74e-7),
        ("pm", 274_000),
        ("Å", 2740),
        ("in", 0.274 / 25_400),
        ("thou", 0.274 / 25.4),
        ("pt", 0.274 * 72 / 25_400),
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_units_of_ome(write_ome: Callable, unit: str, size: float, byteorder: str) -> None:
    words = {f"PhysicalSize{axis}{what}": value for axis in "XY" for what, value in (("", size), ("Unit", unit))}
    x, y, source = stated(write_ome([[PIXELS]], metadata=[words], byteorder=byteorder)) or (0, 0, "")
    assert (x, y) == pytest.approx((0.274, 0.274))
    assert source == "PhysicalSize in the OME-XML"


def test_ome_without_a_unit_or_one_direction(write_ome: Callable) -> None:
    assert stated(write_ome([[PIXELS]], metadata=[{"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}]))[0] == 0.5
    assert stated(write_ome([[PIXELS]], metadata=[{"PhysicalSizeX": 0.5}]))[:2] == (0.5, 0.5)
    assert stated(write_ome([[PIXELS]], metadata=[{"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}]))[:2] == (0.25, 0.5)


def test_ome_that_does_not_say(write_ome: Callable) -> None:
    assert stated(write_ome([[PIXELS]])) is None
    words = {"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1, "PhysicalSizeYUnit": "pixel"}
    assert stated(write_ome([[PIXELS]], metadata=[words])) is None


def test_resolution_tags_of_an_ome_tiff(write_ome: Callable) -> None:
    path = write_ome([[PIXELS]], resolution=(40_000, 40_000), resolutionunit="CENTIMETER")
    assert stated(path) == (0.25, 0.25, "resolution tags")
    words = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    path = write_ome([[PIXELS]], metadata=[words], resolution=(40_000, 40_000), resolutionunit="CENTIMETER")
    with pytest.warns(UserWarning, match=r"0\.5000 µm per pixel in its PhysicalSize .* and 0\.2500 in its resolution"):
        assert stated(path)[0] == 0.5


def test_each_image_of_an_ome_tiff_has_its_own(write_ome: Callable) -> None:
    sizes = [{"PhysicalSizeX": size, "PhysicalSizeY": size, "Name": name} for size, name in ((0.5, "a"), (0.25, "b"))]
    path = write_ome([[PIXELS], [PIXELS]], metadata=sizes)
    assert [open_slide(path, scene=scene).stated.mean for scene in ("a", "b")] == [0.5, 0.25]


# ---- words of scanners


@pytest.mark.parametrize(
    ("words", "mpp"),
    [
        ("|AppMag = 20|MPP = 0.5", 0.5),
        ("|AppMag = 20|MPP = 0,2521|Left = 25,7", 0.2521),
        ("|MPP=0.499|AppMag=20", 0.499),
        ("|MPP = 2.5e-1", 0.25),
        ("|AppMag = 40.000000|MPP = 0.252900|Filename = a=b", 0.2529),
        ("|AppMag = 40", None),
        ("|AppMag = 40|MPP = ", None),
        ("|OriginalMPP = 0.25", None),
    ],
)
def test_words_of_aperio(write_svs: Callable, words: str, mpp: float | None) -> None:
    path = write_svs([PIXELS], words=words)
    found = stated(path)
    assert found == (None if mpp is None else (mpp, mpp, "MPP in the ImageDescription"))


def test_bytes_that_are_no_text(write_svs: Callable) -> None:
    path = write_svs([PIXELS], words="|MPP = 0.5|Filename = ABCD")
    path.write_bytes(path.read_bytes().replace(b"ABCD", b"\xcf\xd4\xce\xa2"))
    assert stated(path)[0] == 0.5


def test_words_of_motic(write: Callable) -> None:
    words = "Motic V1.0.0 200x160 [0,0 200x160] [128x128] JPEG/RGB Q = 75|AppMag = 40|MPP = 0.257290"
    assert stated(write([PIXELS], first={"description": words})) == (0.25729, 0.25729, "MPP in the ImageDescription")


# ---- XML of scanners

PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>
<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028">"{y}" "{x}"</Attribute>
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>
<DataObject ObjectType="PixelDataRepresentation">
<Attribute Name="DICOM_PIXEL_SPACING">"{y}" "{x}"</Attribute></DataObject>
<DataObject ObjectType="PixelDataRepresentation">
<Attribute Name="DICOM_PIXEL_SPACING">"{y2}" "{x2}"</Attribute></DataObject>
</Array></Attribute></DataObject></Array></Attribute></DataObject>"""


def write_philips(path: Path, x: float, y: float, levels: list[Any]) -> Path:
    words = PHILIPS.format(x=x, y=y, x2=2 * x, y2=2 * y)
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            first = {"description": words, "software": "Philips DP v1.0"} if number == 0 else {"description": "level"}
            tiff.write(level, tile=(128, 128), photometric="rgb", metadata=None, **first)
    return path


def test_philips(tmp_path: Path, draw: Callable, halve: Callable) -> None:
    """Spacings in mm, of rows first; levels are padded to whole tiles and cut to their size."""
    levels = halve(draw(512, 640), 2)
    padded = np.full((256, 384, 3), 255, np.uint8)
    padded[:256, :320] = levels[1]
    path = write_philips(tmp_path / "slide.tiff", 0.000226891, 0.000226907, [levels[0], padded])
    image = open_slide(path)
    assert image.format == "philips"
    assert image.stated.x == pytest.approx(0.226891)
    assert image.stated.y == pytest.approx(0.226907)
    assert image.stated.source.startswith("DICOM_PIXEL_SPACING")
    assert [level.shape for level in image.levels] == [(3, 512, 640), (3, 256, 320)]
    np.testing.assert_array_equal(image.levels[1], levels[1].transpose(2, 0, 1))


def test_ventana(write: Callable) -> None:
    for quote, number in (('"', "0.2325"), ("'", "0,465")):
        xmp = f"<Metadata><iScan Magnification={quote}40{quote} ScanRes={quote}{number}{quote}/></Metadata>".encode()
        path = write([PIXELS], extratags=[(700, 1, len(xmp), xmp, True)])
        mpp = float(number.replace(",", "."))
        assert stated(path) == (mpp, mpp, "ScanRes of iScan")


# ---- resolution tags


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"),
    [
        ("CENTIMETER", 40_000, 0.25),
        ("INCH", 50_800, 0.5),
        ("MILLIMETER", 2000, 0.5),
        ("MICROMETER", 4, 0.25),
        ("NONE", 40_000, None),
        (None, 50_800, 0.5),  # inches, where nothing is said
    ],
)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_units_of_tags(write: Callable, unit: str | None, per_unit: float, mpp: float | None, bigtiff: bool) -> None:
    path = write(
        [PIXELS], bigtiff=bigtiff, byteorder=">", resolution=(per_unit, per_unit), resolutionunit=unit or "INCH"
    )
    if unit is None:
        data = path.read_bytes()
        form = ">HHQ" if bigtiff else ">HHI"
        import struct

        entry = struct.pack(form, 296, 3, 1)
        assert data.count(entry) == 1
        path.write_bytes(data.replace(entry, struct.pack(form, 297, 3, 1)))  # another tag in its place
    found = stated(path)
    if mpp is None:
        assert found is None
    else:
        assert found[:2] == pytest.approx((mpp, mpp))
        assert found[2] == "resolution tags"


def test_two_directions_of_tags(write: Callable) -> None:
    x, y, _ = stated(write([PIXELS], resolution=(40_000, 20_000), resolutionunit="CENTIMETER"))
    assert (x, y) == pytest.approx((0.25, 0.5))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [(0, 1), (0, 0), (1, 0)])
def test_no_pixels_per_inch(write: Callable, value: tuple[int, int]) -> None:
    path = write([PIXELS], resolution=(50_800, 50_800), resolutionunit="INCH")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("XResolution", "YResolution"):
            tiff.pages.first.tags[name].overwrite(value)
    found = open_slide(path).stated
    assert found is not None
    assert not found.is_possible


def test_ndpi_with_other_numbers(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "slide.ndpi"
    path.write_bytes((shared_data / "slides_odd" / "12_small.ndpi").read_bytes())
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("XResolution", "YResolution"):
            tiff.pages.first.tags[name].overwrite((22_624_434, 1000))
    assert stated(path)[0] == pytest.approx(0.442)
