"""Which images of a TIFF are slides, and which show the label, the glass or a thumbnail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import tifffile

from stdistill._formats.slides.tiff.layout import Layout

ASSOCIATED = re.compile(
    r"(?:^|[\s\-\[(_#:])(?:label|macro|thumbnail|overview|barcode|map)(?:[\s_]image)?[\])]?$", re.IGNORECASE
)
"""How scanners and converters name what is not the slide."""
BASELINE = "Baseline"
"""What tifffile calls a slide that has no name."""
MIN_SCENE_SHARE = 1 / 16
"""An image that covers no more than this share of the largest one's pixels is no second slide."""
MAX_ASPECT_DIFFERENCE = 0.02
"""A smaller image whose sides have the ratio of the largest one's, up to this, shows the same once more."""


@dataclass(frozen=True)
class Scene:
    """An image of a TIFF that can be the slide."""

    name: str
    series: int
    """Its place among the series that tifffile finds."""
    image: int
    """Its place among the images of that series."""
    layout: Layout
    ome: ElementTree.Element | None
    """What OME-XML says of its pixels."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        height, width = self.layout.size
        return height * width


def find_scenes(tiff: tifffile.TiffFile) -> list[Scene]:
    """List the slides of a TIFF in their order.

    The largest image that can be one is; others are when they are of its kind and not much smaller. Where no image is
    RGB, the largest of all is returned, so that its reader says what is wrong with it.
    """
    described = _match_ome(tiff)
    everything = [
        Scene(series.name.replace(BASELINE, ""), number, image, Layout.of(series), described.get(number))
        for number, series in enumerate(tiff.series)
        for image in range(Layout.of(series).n_images)
        if min(Layout.of(series).size) > 0
    ]
    images = [one for one in everything if not _is_associated(one, tiff)] or everything
    if not images:
        return []
    largest = max(images, key=lambda one: one.area)
    colored = [one for one in images if one.layout.is_plane and one.layout.n_channels in (3, 4)]
    slide = max(colored, key=lambda one: one.area, default=largest)
    if slide.area < largest.area / 2:  # a multi-channel slide with a coloured picture of it
        return [largest]
    return [one for one in colored if one.area > MIN_SCENE_SHARE * slide.area and not _is_copy(one, slide)] or [slide]


def choose_scene(scenes: list[Scene], scene: int | str | None, name: str) -> Scene:
    """Return the scene that the user names by its number or name, or the only one.

    Raises
    ------
    ValueError
        When there are several and none is named, or not the one that is named.
    """
    if scene is None and len(scenes) == 1:
        return scenes[0]
    named = [one for number, one in enumerate(scenes) if scene in (number, one.name)]
    if len(named) == 1:
        return named[0]
    found = "; ".join(f"{number}: {describe_scene(one)}" for number, one in enumerate(scenes))
    if scene is None:
        msg = f"{name} holds {len(scenes)} scenes ({found}). Choose one with scene=, by its number or name."
    elif named:
        msg = f"{name} holds {len(named)} scenes of the name {scene!r} ({found}). Choose one by its number."
    else:
        msg = f"scene={scene!r} is not in {name}; there is: {found}."
    raise ValueError(msg)


def describe_scene(scene: Scene) -> str:
    """Say what a scene is called and how large it is."""
    height, width = scene.layout.size
    return f"{scene.name!r}, {width} × {height} px" if scene.name else f"{width} × {height} px"


def _is_associated(scene: Scene, tiff: tifffile.TiffFile) -> bool:
    page = tiff.series[scene.series].keyframe
    names = scene.name, page.description.strip()  # that of OME-XML, and that of plain pages
    return any(map(ASSOCIATED.search, names)) or page.is_reduced or page.is_mask


def _is_copy(scene: Scene, slide: Scene) -> bool:
    """Whether a page of a TIFF shows the slide once more, smaller; images of an OME-TIFF are different ones."""
    if scene.ome is not None or scene.area >= slide.area:
        return False
    ratios = np.divide(scene.layout.size, slide.layout.size)
    return bool(ratios.max() / ratios.min() - 1 <= MAX_ASPECT_DIFFERENCE)


def _match_ome(tiff: tifffile.TiffFile) -> dict[int, ElementTree.Element]:
    """Tell which series is which image of the OME-XML; tifffile keeps their order, and leaves out empty ones."""
    if not tiff.is_ome or tiff.ome_metadata is None:
        return {}
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)
    except ElementTree.ParseError:
        return {}
    described = iter(root.findall("./{*}Image/{*}Pixels"))
    matched = {}
    for number, series in enumerate(tiff.series):
        size = tuple(map(str, Layout.of(series).size))
        pixels = next((one for one in described if (one.get("SizeY"), one.get("SizeX")) == size), None)
        if pixels is not None:
            matched[number] = pixels
    return matched
