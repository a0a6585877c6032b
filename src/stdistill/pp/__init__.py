"""Preprocessing: read a slide and add inputs (split, neighbourhoods) to it."""

from __future__ import annotations

from stdistill.pp._neighborhoods import neighborhoods
from stdistill.pp._read import read_xenium
from stdistill.pp._split import split_strips

__all__ = ["neighborhoods", "read_xenium", "split_strips"]
