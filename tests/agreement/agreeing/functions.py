"""What each function stands on: how it is called here, and which keys of a table it reads.

Keys that are read together must agree. Some may have been made anew by their own step, and nothing else that is read
stands on those of before. Of a key that ends in ``*`` all are meant that begin so. ``graph`` stands for ``.obsp`` and
``.uns["spatial_neighbors"]``, ``tiles:`` for the table of tiles, ``slide`` for the H&E and where cells lie on it, and
``model`` for one that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import stdistill as sd
from agreeing.prepared import ALIGNMENT, CROP, NETWORK, Prepared

QUIET: dict[str, Any] = {"show": False}


class Function(NamedTuple):
    """A function that reads a table."""

    reads: str
    """Keys, with blanks between them."""
    takes: str
    """Of these what may be anew; ``split+graph`` is a new split and the neighbourhoods of it."""
    call: Callable[[Prepared], Any]


def cells(function: Callable[..., Any], **arguments: Any) -> Callable[[Prepared], Any]:
    """Call a function on the slide; an argument that is called as something that was made is that."""

    def call(on: Prepared) -> Any:
        named = {f"@{name}": value for name, value in on.made.items()}
        given = {
            name: named.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()
        }
        return function(on.slide, **given)

    return call


NICHES = "teacher_niche student_niche he_leiden_niche kmeans_niche"
COMPARED = ["student_niche", "he_leiden_niche", "kmeans_niche"]

FUNCTIONS: dict[str, Function] = {
    # preparation
    "pp.split_strips": Function("spatial", "", cells(sd.pp.split_strips, **CROP)),
    "pp.neighborhoods": Function("spatial split", "split", cells(sd.pp.neighborhoods, n_neighbors=15)),
    "pp.embed_he": Function("spatial slide", "", cells(sd.pp.embed_he, encoder="texture", **CROP)),
    "pp.embed_expression": Function("X split", "split split+graph", cells(sd.pp.embed_expression, max_epochs=1)),
    "pp.tissue_share": Function("spatial slide X_he", "X_he", cells(sd.pp.tissue_share)),
    "pp.quality": Function("spatial slide", "", cells(sd.pp.quality)),
    "pp.abundances": Function(
        "graph split cell_type spatial", "graph split+graph", cells(sd.pp.abundances, cell_type_key="cell_type")
    ),
    "pp.tiles": Function("spatial slide split X", "", cells(sd.pp.tiles, tile_px=128, min_cells=1)),
    "pp.embed_tiles": Function("tiles:spatial", "", cells(sd.pp.embed_tiles, encoder="texture")),
    # models of niches
    "tl.nolan": Function("X_scVI graph split spatial", "X_scVI graph", cells(sd.tl.nolan, k=3, **NETWORK)),
    "tl.choose_k": Function(
        "X_scVI graph split spatial",
        "X_scVI graph",
        cells(sd.tl.choose_k, ks=(2,), n_runs=2, width=16, depth=1, n_heads=2, max_epochs=1),
    ),
    "tl.kmeans_niches": Function("X_scVI graph split spatial", "X_scVI graph", cells(sd.tl.kmeans_niches, k=3)),
    "tl.leiden": Function("X_he split", "split split+graph", cells(sd.tl.leiden, k=3, n_neighbors=8)),
    "tl.distill": Function("X_he graph split spatial teacher_*", "teacher_*", cells(sd.tl.distill, k=3, **NETWORK)),
    "tl.logistic_niches": Function("X_he graph split spatial teacher_*", "teacher_*", cells(sd.tl.logistic_niches)),
    "tl.predict": Function("X_he graph split spatial model", "model", cells(sd.tl.predict, model="@student")),
    "tl.explain": Function(
        "X_he graph split spatial model",
        "model",
        lambda on: sd.tl.explain(on.slide, on.made["student"], cells=[on.made["cell"]], n_samples=4),
    ),
    "tl.verdict": Function(
        "student_* graph spatial quality slide X_he model", "student_*", cells(sd.tl.verdict, model="@student")
    ),
    # measures of niches
    "tl.agreement": Function(f"{NICHES} split", "student_* he_leiden_*", cells(sd.tl.agreement, keys=COMPARED)),
    "tl.composition_jsd": Function(
        f"{NICHES} cell_type split",
        "student_* he_leiden_*",
        cells(sd.tl.composition_jsd, cell_type_key="cell_type", keys=COMPARED, n_permutations=9),
    ),
    "tl.pathology_probe": Function(
        f"{NICHES} block split spatial",
        "teacher_* student_* he_leiden_*",
        cells(sd.tl.pathology_probe, label_key="block", keys=COMPARED, block_um=60, gap_um=2),
    ),
    "tl.composition": Function(
        "student_niche cell_type",
        "student_*",
        cells(sd.tl.composition, niche_key="student_niche", cell_type_key="cell_type"),
    ),
    "tl.match_niches": Function(
        "teacher_niche he_leiden_niche",
        "teacher_* he_leiden_*",
        cells(sd.tl.match_niches, reference_key="teacher_niche", key="he_leiden_niche"),
    ),
    "tl.niche_profile": Function(
        "student_niche student_confidence cell_type X split spatial graph slide",
        "student_* graph split split+graph",
        cells(sd.tl.niche_profile, niche_key="student_niche", n_markers=3),
    ),
    # abundances
    "tl.decompose": Function(
        "X_he abundance split spatial graph",
        "graph split+graph abundance",
        cells(sd.tl.decompose, method="ridge", use_neighbors=True),
    ),
    "tl.cross_validate": Function(
        "X_he abundance spatial block",
        "X_he abundance",
        cells(sd.tl.cross_validate, method="ridge", group_key="block", library_key="block"),
    ),
    "tl.predict (abundances)": Function(
        "X_he split spatial model", "split split+graph", cells(sd.tl.predict, model="@composition")
    ),
    "tl.abundance_scores": Function(
        "abundance he_abundance spatial", "", cells(sd.tl.abundance_scores, keys="he_abundance")
    ),
    "tl.colocalization": Function(
        "abundance spatial", "abundance", cells(sd.tl.colocalization, key="abundance", length_um=20)
    ),
    # tiles
    "tl.align": Function(
        "X_scVI split spatial tile tiles:X_he_* tiles:split tiles:spatial",
        "X_scVI tiles:X_he_*",
        cells(sd.tl.align, **ALIGNMENT),
    ),
    "tl.predict (tiles)": Function(
        "X_scVI split spatial tile tiles:X_he_* tiles:split tiles:spatial model",
        "model",
        cells(sd.tl.predict, model="@alignment"),
    ),
    "tl.retrieval": Function(
        "tiles:X_aligned_* tiles:X_he_* tiles:X tiles:split", "tiles:X_aligned_*", cells(sd.tl.retrieval, n_bootstrap=9)
    ),
    "tl.expression_probe": Function(
        "tiles:X_aligned_* tiles:X_he_* tiles:X tiles:split",
        "tiles:X_aligned_* tiles:X_he_*",
        cells(sd.tl.expression_probe, genes=3),
    ),
    "tl.find_tiles": Function(
        "tiles:X_aligned_* tiles:spatial", "tiles:X_aligned_*", cells(sd.tl.find_tiles, query="@tile")
    ),
    # pictures
    "pl.niches": Function("teacher_niche student_niche spatial", "student_*", cells(sd.pl.niches, **QUIET)),
    "pl.split": Function("split spatial", "split split+graph", cells(sd.pl.split, **QUIET)),
    "pl.confidence": Function("teacher_* student_* spatial", "teacher_* student_*", cells(sd.pl.confidence, **QUIET)),
    "pl.confusion": Function("teacher_niche student_niche split", "student_*", cells(sd.pl.confusion, **QUIET)),
    "pl.crops": Function(
        "student_niche X_he spatial slide", "X_he student_*", cells(sd.pl.crops, niche_key="student_niche", **QUIET)
    ),
    "pl.neighborhood": Function("graph spatial", "graph split+graph", cells(sd.pl.neighborhood, cell="@cell", **QUIET)),
    "pl.explain": Function(
        "spatial student_*", "", cells(sd.pl.explain, explanation="@explanation", cell="@cell", **QUIET)
    ),
    "pl.niche_card": Function(
        "student_* spatial slide", "", cells(sd.pl.niche_card, niche="@niche", profile="@profile", **QUIET)
    ),
    "pl.abundance": Function(
        "abundance he_abundance spatial", "", cells(sd.pl.abundance, types="Basal", image_key=None, **QUIET)
    ),
    "pl.choose_k": Function("choose_k", "", cells(sd.pl.choose_k, **QUIET)),
    "pl.tiles": Function("tiles:split tiles:spatial", "", cells(sd.pl.tiles, **QUIET)),
    "pl.retrieval": Function(
        "tiles:X_aligned_* tiles:aligned_rank_* tiles:spatial",
        "",
        cells(sd.pl.retrieval, n_queries=1, n_found=2, **QUIET),
    ),
    # files
    "io.to_geojson": Function(
        "student_* spatial slide", "student_*", lambda on: written(on, sd.io.to_geojson, "cells.geojson")
    ),
    "io.to_xenium_explorer": Function(
        "student_niche", "student_*", lambda on: written(on, sd.io.to_xenium_explorer, "cells.csv")
    ),
    # reading
    "get.logits": Function("student_*", "student_*", cells(sd.get.logits, key="student")),
    "get.abundances": Function("abundance", "abundance", cells(sd.get.abundances)),
}


def written(on: Prepared, function: Callable[..., Any], name: str) -> str:
    """Return what a function writes to a file."""
    path = on.folder / name
    function(on.slide, path, key="student_niche")
    return path.read_text()


READ_NO_KEYS = {
    "pp.attach_slide": "opens the image of a slide, and compares it with the features' record",
    "pp.detect_nuclei": "reads pixels",
    "pp.find_tissue": "reads pixels",
    "pp.read_slide": "reads a file",
    "pp.read_xenium": "reads a bundle",
    "tl.cohort": "reads the folder of a cohort",
    "tl.compare_colocalization": "reads two results",
    "tl.compare_niches": "reads the table of a cohort, whose rows are slides",
    "tl.evaluate": "calls the others",
    "pl.abundance_scores": "draws a result",
    "pl.agreement": "draws a result",
    "pl.cohort": "draws the table of a cohort",
    "pl.colocalization": "draws a result",
    "pl.compare_niches": "draws a result",
    "pl.composition": "draws a result",
    "pl.composition_jsd": "draws a result",
    "pl.training": "draws a model",
}
"""Functions that read no keys of a table of cells or tiles, and what they do instead."""
