from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stdistill._formats.slides.open import open_slide


@pytest.mark.parametrize("kind", ["plain", "svs", "ome", "strips", "open"])
@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", True)])
def test_every_truncated_copy_is_refused(
    write: Callable, write_ome: Callable, draw: Callable, halve: Callable, kind: str, byteorder: str, *, bigtiff: bool
) -> None:
    """Wherever the copy ended: there is an error that names the file, and never an image with gaps."""
    levels = halve(draw(512, 400), 3)
    options = {"byteorder": byteorder, "bigtiff": bigtiff}
    if kind == "ome":
        path = write_ome([levels], compression="deflate", **options)
    elif kind == "open":
        path = write(levels[:1], tile=None, **options)
    else:
        shape = {"tile": None, "rowsperstrip": 32} if kind == "strips" else {}
        path = write(levels, compression="deflate", predictor=None, **shape, **options)
    whole = path.read_bytes()
    cut = path.with_name("cut.tif")
    for n in sorted({8, 16, 40, *np.linspace(100, len(whole) - 1, 25).astype(int).tolist()}):
        cut.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"^cut\.tif (is truncated|is a damaged TIFF|holds no image|is no)"):
            open_slide(cut)
    assert open_slide(path).shape == (512, 400)


def test_pages_that_are_damaged(write: Callable, draw: Callable) -> None:
    path = write([draw(512, 400)], compression="deflate", predictor=None)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages.first.offset
    for seed in range(60):  # a byte of the directory is another
        data = bytearray(whole)
        data[start + int(rng.integers(0, 160))] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(data)
        try:
            said = str(open_slide(path).levels[0].compute().dtype)
        except ValueError as error:
            said = str(error)
        assert said == "uint8" or path.name in said, seed


PARTS = ("c0.ome.tif", "c1.ome.tif", "c2.ome.tif")


def write_parts(folder: Path, draw: Callable, names: tuple[str, ...] = PARTS) -> Path:
    """Write an OME-TIFF whose channels are in a file each, as some converters do."""
    planes = np.ascontiguousarray(draw(300, 200).transpose(2, 0, 1))
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstC="{n}"><UUID FileName="{name}">urn:uuid:{n:08}-0000-0000-0000-0000000'
        f"00000</UUID></TiffData>"
        for n, name in enumerate(names)
    )
    channels = "".join(f'<Channel ID="Channel:0:{n}" SamplesPerPixel="1"/>' for n in range(3))
    for n, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{n:08}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="200" SizeY="300" SizeC="3" SizeZ="1" SizeT="1" '
            f'PhysicalSizeX="0.5" PhysicalSizeY="0.5">{channels}{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / name, planes[n], tile=(128, 128), photometric="minisblack", metadata=None, description=xml.encode()
        )
    return folder / names[0]


@pytest.mark.filterwarnings("ignore:.*does not say that its three channels")
def test_channels_in_several_files(tmp_path: Path, draw: Callable) -> None:
    path = write_parts(tmp_path, draw)
    image = open_slide(path)
    np.testing.assert_array_equal(image.levels[0], draw(300, 200).transpose(2, 0, 1))
    assert image.stated is not None
    assert image.stated.mean == 0.5


@pytest.mark.parametrize("missing", [("c1.ome.tif",), ("c1.ome.tif", "c2.ome.tif")])
def test_one_of_several_files_alone(tmp_path: Path, draw: Callable, missing: tuple[str, ...]) -> None:
    path = write_parts(tmp_path, draw)
    for name in missing:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"^c0\.ome\.tif is not whole: .*not beside it: {', '.join(missing)}\."):
        open_slide(path)


def test_a_part_without_the_description(tmp_path: Path, draw: Callable) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly MetadataFile="all.ome.tif" '
        'UUID="urn:uuid:00000000-0000-0000-0000-000000000000"/></OME>'
    )
    path = tmp_path / "part.ome.tif"
    tifffile.imwrite(path, draw(300, 200), tile=(128, 128), photometric="rgb", metadata=None, description=xml.encode())
    with pytest.raises(ValueError, match=r"^part\.ome\.tif is a part .* that all\.ome\.tif describes: copy that one"):
        open_slide(path)
