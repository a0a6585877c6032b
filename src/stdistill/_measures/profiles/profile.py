"""What describes each niche, as frames that go by the niche."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

import pandas as pd

from stdistill._measures.profiles.morphology import COLUMNS as MORPHOLOGY
from stdistill._measures.profiles.text import describe
from stdistill._support.checks import check_key

COLUMNS = {
    "summary": ["niche", "n_cells", "share", "n_training", "confidence", "name"],
    "markers": ["niche", "gene", "score", "log2_fold_change", "share_in", "share_out", "p", "q"],
    "cell_types": ["niche", "cell_type", "n_cells", "expected", "share", "slide_share", "log2_enrichment"],
    "morphology": MORPHOLOGY,
    "neighbors": ["niche", "neighbor", "n_pairs", "share", "border_share", "log2_enrichment"],
    "cells": ["niche", "kind", "cell", "margin", "confidence", "second"],
}
"""Of each frame."""


@dataclass(frozen=True, repr=False)
class NicheProfile:
    """What :func:`stdistill.tl.niche_profile` returns; each frame has the column ``niche``, in the niches' order.

    ``profile["7"]`` is the same of one niche; a loop goes through their names. Printed, it is text.
    """

    niche_key: str
    """The column of ``.obs`` that was described."""
    summary: pd.DataFrame
    """One row per niche: ``n_cells``; ``share`` of the cells with a niche; ``n_training``, the cells that markers are
    of; ``confidence``, the median; ``name``, a suggestion, missing where nothing speaks for one."""
    markers: pd.DataFrame
    """Genes that the niche has more of than the rest, the best first: ``gene``; ``score``, Welch's t;
    ``log2_fold_change`` of the mean normalised counts; ``share_in`` and ``share_out``, of the cells in the niche and
    outside that have the gene; ``p`` and ``q``, the false discovery rate of Benjamini and Hochberg over the genes."""
    cell_types: pd.DataFrame
    """``cell_type``; ``n_cells``; ``expected``, had the niche the slide's shares; ``share`` of the niche and
    ``slide_share``; ``log2_enrichment``, one cell added to both numbers. The most enriched first."""
    morphology: pd.DataFrame
    """``measure``: ``area_um2``, ``eccentricity``, ``solidity``, ``haematoxylin``, ``density_per_mm2``; ``n_cells``
    that were measured; ``median`` with the quartiles ``lower`` and ``upper``; the same of the slide,
    ``slide_median``…; ``difference`` of the medians, in the slide's interquartile ranges."""
    neighbors: pd.DataFrame
    """``neighbor``, another niche; ``n_pairs`` of neighbouring cells; ``share`` of all the neighbours of the niche's
    cells, and ``border_share`` of those in other niches; ``log2_enrichment`` of the latter against the sizes of the
    other niches, one pair added to both numbers. The most pairs first."""
    cells: pd.DataFrame
    """``kind``, ``"typical"`` or ``"borderline"``; ``cell``, its name; ``margin`` of the logits; ``confidence``;
    ``second``, the niche that comes next. The most typical, and the most undecided, first."""
    sources: Mapping[str, str]
    """Where each measure of the morphology is from."""
    absent: Mapping[str, str]
    """The parts that are empty, and why."""

    @property
    def names(self) -> dict[str, str]:
        """Suggested names of the niches that have one, all different; nothing is called so unless you do it."""
        named = self.summary.dropna(subset="name")
        return dict(zip(named["niche"], named["name"], strict=True))

    def __getitem__(self, niche: str) -> NicheProfile:
        """Return what describes one niche."""
        check_key(str(niche), list(self.summary["niche"]), f"a niche of {self.niche_key!r}", argument="niche")
        frames = {each.name: getattr(self, each.name) for each in fields(self) if each.name in COLUMNS}
        rows = {name: frame[frame["niche"] == str(niche)].reset_index(drop=True) for name, frame in frames.items()}
        return replace(self, **rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.summary["niche"])

    def __repr__(self) -> str:
        frames = {name: getattr(self, name) for name in COLUMNS}
        return describe(frames, self.absent)
