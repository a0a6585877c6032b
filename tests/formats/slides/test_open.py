from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stdistill._formats.slides.open import list_scenes, open_slide

Pixels = npt.NDArray[np.uint8]

PER_UNIT = {"CENTIMETER": 1e4, "INCH": 25_400.0, "MILLIMETER": 1e3}
"""µm of a unit."""


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no H&E image .*missing\.tif\.$"):
        open_slide(tmp_path / "missing.tif")
    with pytest.raises(FileNotFoundError, match="which is a folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r"is no image: it is empty\. Copy it again\.$"),
        (b"<!DOCTYPE html><title>404</title>", r"is no image: it is an HTML page, .*Download it again"),
        (b"version https://git-lfs.github.com/spec/v1", r"is no image: it is a pointer of git-lfs, .*'git lfs pull'"),
        (b"GIF89a...", r"is no TIFF, JPEG, PNG or BMP .*through OpenSlide .*vips"),
    ],
)
@pytest.mark.parametrize("suffix", [".svs", ".tif", ".jpg"])
def test_no_image(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    path = tmp_path / f"he{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^he\{suffix} {what}"):
        open_slide(path)
    assert list_scenes(path) == []


@pytest.mark.parametrize("scene", [0.0, True, [0], ("a",)])
def test_what_is_no_scene(tmp_path: Path, scene: Any) -> None:
    with pytest.raises(TypeError, match="scene must be the number or the name of a scene"):
        open_slide(tmp_path / "any.tif", scene=scene)


def test_a_name_without_meaning(write: Callable, draw: Callable) -> None:
    """What a file is, its first bytes say, not its name."""
    path = write([draw(300, 200)], name="slide.backup")
    assert open_slide(path).format == "tiff"
    assert open_slide(str(path)).digest == open_slide(path.rename(path.with_suffix(".jpg"))).digest


def test_two_files_have_two_digests(write: Callable, draw: Callable) -> None:
    digests = {open_slide(write([draw(300, 200, seed=seed)], name=f"{seed}.tif")).digest for seed in range(3)}
    assert len(digests) == 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(33, 700),
    width=st.integers(33, 700),
    tile=st.sampled_from([(16, 16), (64, 128), (256, 256), (512, 512), None]),
    compression=st.sampled_from([None, "deflate", "lzw", "zstd", "jpeg2000"]),
    byteorder=st.sampled_from("<>"),
    bigtiff=st.booleans(),
    unit=st.sampled_from(sorted(PER_UNIT)),
    mpp=st.floats(0.11, 1.0),
    n_levels=st.integers(1, 3),
)
def test_however_it_is_written(
    write: Callable,
    draw: Callable,
    halve: Callable,
    *,
    height: int,
    width: int,
    tile: tuple[int, int] | None,
    compression: str | None,
    byteorder: str,
    bigtiff: bool,
    unit: str,
    mpp: float,
    n_levels: int,
) -> None:
    """Pixels, levels and µm per pixel are those that were written, and any rectangle is a part of the whole."""
    levels = halve(draw(height, width, seed=height), n_levels)
    # A ratio: before 2026.2.20 tifffile rounds large numbers to four digits.
    per_unit = Fraction(PER_UNIT[unit] / mpp).limit_denominator(10_000).as_integer_ratio()
    options: dict[str, Any] = {"resolution": (per_unit, per_unit), "resolutionunit": unit}
    if tile is None and compression is not None:
        options["rowsperstrip"] = 32
    path = write(
        levels, tile=tile, compression=compression, predictor=None, byteorder=byteorder, bigtiff=bigtiff, **options
    )
    image = open_slide(path)
    assert image.stated is not None
    assert image.stated.usable == pytest.approx(mpp, rel=1e-5)
    assert len(image.stored) == n_levels
    for level, expected in zip(image.levels, levels, strict=True):
        np.testing.assert_array_equal(np.moveaxis(level.compute(), 0, -1), expected)
    top, left = height // 3, width // 4
    np.testing.assert_array_equal(
        image.levels[0][:, top : top + 31, left : left + 29].compute(),
        levels[0][top : top + 31, left : left + 29].transpose(2, 0, 1),
    )


def test_a_plain_image_has_no_scenes(tmp_path: Path, draw: Callable) -> None:
    import imagecodecs

    path = tmp_path / "he.png"
    path.write_bytes(imagecodecs.png_encode(draw(64, 80)))
    assert list_scenes(path) == []
    assert open_slide(path, scene=0).shape == (64, 80)
    for scene in (1, "a"):
        with pytest.raises(ValueError, match=rf"scene={scene!r} is not in he\.png, which holds one image"):
            open_slide(path, scene=scene)
