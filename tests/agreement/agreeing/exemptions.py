"""Where a result may be another after a damage, without a word, and why."""

from __future__ import annotations

from typing import NamedTuple

from agreeing.functions import FUNCTIONS


class Exemption(NamedTuple):
    """A reason, and where it holds."""

    why: str
    damages: tuple[str, ...]
    functions: tuple[str, ...] = ()
    """All of them if none is named."""


WITHOUT_GRAPH = tuple(name for name, function in FUNCTIONS.items() if "graph" not in function.reads.split())

EVERYWHERE = [
    Exemption(
        "the mirror image of a tissue is one: distances stay, and the H&E is mapped by the outlines", ("mirrored",)
    ),
    Exemption("what is there is what is looked at; only cells at the rim lack neighbours", ("a part of the slide",)),
    Exemption("a column of the user's own: it counts as it is", ("rows of cell_type", "cell types edited")),
    Exemption("raw counts are read as they are: nothing was made that could tell", ("rows of counts",)),
]
WITHOUT_READING_NEIGHBORS = Exemption("cells by themselves are the same", ("every second cell",), WITHOUT_GRAPH)
SOMEWHERE = [
    Exemption(
        "cells of both count, wherever they lie",
        ("two slides", "two slides with records"),
        ("tl.agreement", "tl.composition_jsd", "pl.confusion", "get.logits"),
    ),
    Exemption(
        "cells of both count, and blocks are held out of both",
        ("two slides", "two slides with records"),
        ("tl.pathology_probe",),
    ),
    Exemption("features of both are told apart by no place", ("two slides",), ("tl.leiden", "tl.predict (abundances)")),
    Exemption(
        "a number for each cell, shown as it stands there",
        ("rows of student_confidence",),
        ("tl.niche_profile", "pl.confidence", "io.to_geojson"),
    ),
    Exemption(
        "it gives what stands in the columns, and the names are numbers then", ("logits edited",), ("get.logits",)
    ),
    Exemption("it gives the centres that are there", ("tiles in pixels",), ("tl.find_tiles",)),
    Exemption(
        "it starts from the centres that are there, and may be how they are put right",
        ("pixels",),
        ("pp.neighborhoods",),
    ),
    Exemption("it leaves markers out, and says so in what it returns", ("counts logarithmic",), ("tl.niche_profile",)),
    Exemption(
        "crops are of the default size where nothing says which", ("no records",), ("pp.tissue_share", "pl.crops")
    ),
]
"""Each of these is needed: a test holds it."""
