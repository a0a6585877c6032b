"""A profile in words."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

SHOWN = 4
"""Types, genes, neighbours and cells of a niche that are named."""
WORDS = {
    "area_um2": ("area", "{:.0f} µm²"),
    "eccentricity": ("eccentricity", "{:.2f}"),
    "solidity": ("solidity", "{:.2f}"),
    "haematoxylin": ("haematoxylin", "{:.2f}"),
    "density_per_mm2": ("density", "{:,.0f} cells/mm²"),
}
"""How measures are called and written."""


def describe(frames: Mapping[str, pd.DataFrame], absent: Mapping[str, str]) -> str:
    """Say of each niche what its frames hold, and what is not known."""
    lines: list[str] = []
    for row in frames["summary"].to_dict("records"):
        name = "" if pd.isna(row["name"]) else f" – {row['name']} (suggested)"
        lines.append(f"Niche {row['niche']}{name}: {row['n_cells']:,} cells, {row['share']:.1%}")
        of_it = {part: frame[frame["niche"] == row["niche"]] for part, frame in frames.items() if part != "summary"}
        lines += [f"  {line}" for line in _lines(of_it)]
    lines += [f"No {part.replace('_', ' ')}: {reason}" for part, reason in absent.items()]
    return "\n".join(lines)


def say_name(measure: str) -> str:
    """Name a measure."""
    return WORDS.get(measure, (measure,))[0]


def say_measure(measure: str, value: float) -> str:
    """Write a value with its unit."""
    return WORDS.get(measure, ("", "{:.3g}"))[1].format(value)


def _lines(parts: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield a line for each part of which anything is known."""
    types = parts["cell_types"]
    weights = (types["share"] * types["log2_enrichment"]).sort_values(ascending=False, kind="stable")
    apart = types.loc[weights.index[:SHOWN]]  # those that set it most apart
    shapes = parts["morphology"].to_dict("records")
    texts = {
        "cell types": [
            f"{each['cell_type']} {each['share']:.0%} ({each['log2_enrichment']:+.1f})" for each in _rows(apart)
        ],
        "markers": [
            f"{each['gene']} ({each['share_in']:.0%} against {each['share_out']:.0%})"
            for each in _rows(parts["markers"])
        ],
        "morphology": [
            f"{say_name(each['measure'])} {say_measure(each['measure'], each['median'])} "
            f"(slide {say_measure(each['measure'], each['slide_median'])})"
            for each in shapes
        ],
        "borders on": [
            f"{each['neighbor']} {each['border_share']:.0%}" for each in _rows(parts["neighbors"]) if each["n_pairs"]
        ],
    }
    for kind in ("typical", "borderline"):
        of_kind = parts["cells"][parts["cells"]["kind"] == kind]
        texts[f"{kind} cells"] = [str(each["cell"]) for each in _rows(of_kind)]
    yield from (f"{part}: {', '.join(found)}" for part, found in texts.items() if found)


def _rows(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.head(SHOWN).to_dict("records")
