"""``stdistill slide``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import click

from stdistill._cli.options import FILE, parse_scene
from stdistill._cli.text import entry


@click.command()
@click.argument("file", type=FILE)
@click.option("--scene", help="Number or name of one of several slides in FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, file: Path, scene: str | None, as_json: bool) -> None:
    """Say what an H&E file is.

    Its format, size, levels, µm per pixel and where these are from, the slides in it, what was scanned of it, and what
    is odd about it. Of its pixels a few tiles are decoded.

    The exit code is 1 when sd.pp.read_slide would refuse FILE as it is; the message says what to do.
    """
    found = _describe(file, parse_scene(scene))
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else _as_text(found))
    if found["problems"]:
        ctx.exit(1)


def _describe(file: Path, scene: int | str | None) -> dict[str, Any]:
    """Describe a file as far as it can be read; what hinders reading it is among the problems."""
    from stdistill._formats.slides.open import list_scenes, open_slide
    from stdistill._formats.slides.resolution import resolve_mpp

    found: dict[str, Any] = {"file": str(file), "bytes": file.stat().st_size, "scenes": [], "problems": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            scenes = list_scenes(file)
            found["scenes"] = [{"name": name, "width": wide, "height": high} for name, high, wide in scenes]
            image = open_slide(file, scene=scene)
            height, width = image.shape
            stored = len(image.stored)
            found |= {
                "format": image.format,
                "scene": image.scene,
                "width": width,
                "height": height,
                "levels": [
                    {"width": level.shape[2], "height": level.shape[1], "stored": number < stored}
                    for number, level in enumerate(image.levels)
                ],
                "bounds": image.bounds,
                "digest": image.digest,
            }
            if image.stated is not None:
                found |= {"mpp_x": image.stated.x, "mpp_y": image.stated.y, "mpp_source": image.stated.source}
            found["mpp"] = resolve_mpp(image.stated, None, file.name)
        except (ValueError, ImportError) as error:
            found["problems"].append(str(error))
    found["warnings"] = [str(each.message) for each in caught]
    return found


def _as_text(found: dict[str, Any]) -> str:
    size, unit = (found["bytes"] / 1e6, "MB") if found["bytes"] >= 1e6 else (found["bytes"] / 1e3, "kB")
    lines = [("file", f"{found['file']}, {size:,.1f} {unit}")]
    lines += [
        ("scene", f"{number}: {each['name'] or 'without a name'}, {each['width']} × {each['height']} px")
        for number, each in enumerate(found["scenes"])
        if len(found["scenes"]) > 1
    ]
    if "format" in found:
        lines += _about_pixels(found)
    lines += [("warning", each) for each in found["warnings"]]
    lines += [("problem", each) for each in found["problems"]]
    end = "sd.pp.read_slide reads it." if not found["problems"] else "sd.pp.read_slide refuses it as it is."
    return "\n".join([*(entry(name, text) for name, text in lines), "", end])


def _about_pixels(found: dict[str, Any]) -> list[tuple[str, str]]:
    width, height = found["width"], found["height"]
    lines = [("format", found["format"]), ("size", f"{width} × {height} px")]
    if "mpp" in found:
        lines.append(("", f"{width * found['mpp'] / 1e3:.2f} × {height * found['mpp'] / 1e3:.2f} mm"))
        lines.append(("µm per px", f"{found['mpp']:.4f} ({found['mpp_source']})"))
    elif "mpp_source" in found:
        lines.append(("µm per px", f"{found['mpp_x']:.5g} × {found['mpp_y']:.5g} ({found['mpp_source']})"))
    else:
        lines.append(("µm per px", "not stated"))
    for number, level in enumerate(found["levels"]):
        origin = "" if level["stored"] else ", computed"
        lines.append(("level", f"{number}: {level['width']} × {level['height']} px{origin}"))
    if found["bounds"] is not None:
        left, top, shown_width, shown_height = found["bounds"]
        lines.append(("bounds", f"{shown_width} × {shown_height} px from ({left}, {top}); QuPath shows these"))
    return lines
