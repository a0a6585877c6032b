"""Preprocessing: read a slide and add inputs (split, neighbourhoods) to it."""

from __future__ import annotations

from stdistill.pp._abundances import abundances
from stdistill.pp._attach_slide import attach_slide
from stdistill.pp._detect_nuclei import detect_nuclei
from stdistill.pp._embed_expression import embed_expression
from stdistill.pp._embed_he import embed_he
from stdistill.pp._embed_tiles import embed_tiles
from stdistill.pp._find_tissue import find_tissue
from stdistill.pp._neighborhoods import neighborhoods
from stdistill.pp._quality import quality
from stdistill.pp._read_slide import read_slide
from stdistill.pp._read_xenium import read_xenium
from stdistill.pp._split_strips import split_strips
from stdistill.pp._tiles import tiles
from stdistill.pp._tissue_share import tissue_share

__all__ = [
    "abundances",
    "attach_slide",
    "detect_nuclei",
    "embed_expression",
    "embed_he",
    "embed_tiles",
    "find_tissue",
    "neighborhoods",
    "quality",
    "read_slide",
    "read_xenium",
    "split_strips",
    "tiles",
    "tissue_share",
]
