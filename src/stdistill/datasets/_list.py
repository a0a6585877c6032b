"""The table of public slides, in a module of its own because its name hides Python's `list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stdistill.datasets._catalogue import SLIDES

if TYPE_CHECKING:
    import pandas as pd


def list() -> pd.DataFrame:
    """List the sixteen public Xenium slides with an H&E that the method was evaluated on.

    Returns
    -------
    One row per slide, indexed by the name that :func:`stdistill.datasets.download` takes:

    ``species``, ``tissue``, ``condition``
        What it shows.
    ``cells``
        Number of cells in 10x Genomics' bundle; missing: not known here.
    ``mpp``
        µm per pixel of the H&E, as the paper states it.
    ``downloadable``
        Whether :func:`stdistill.datasets.download` knows the files; else it says what to download by hand.
    ``title``, ``page``
        What 10x Genomics calls the dataset, and where it is; missing: it could not be told from others of its kind.
    ``note``
        How sure it is that this is the slide of the paper.
    ``source``
        Where addresses, checksums and numbers of cells were found.

    Notes
    -----
    Hizmi et al. 2026, section 5.1: 8,070,255 cells in all, 190,875 to 1,353,765 a slide. Licences are on the pages.

    Examples
    --------
    >>> import stdistill as sd
    >>> slides = sd.datasets.list()
    >>> len(slides), float(slides.loc["ovary_cancer", "mpp"]), bool(slides.loc["ovary_cancer", "downloadable"])
    (16, 0.274, True)
    """
    import pandas as pd

    types = {
        "species": "string",
        "tissue": "string",
        "condition": "string",
        "cells": "Int64",
        "mpp": "float64",
        "downloadable": "bool",
        "title": "string",
        "page": "string",
        "note": "string",
        "source": "string",
    }
    rows = {slide.name: {**vars(slide), "downloadable": bool(slide.files)} for slide in SLIDES}
    return pd.DataFrame.from_dict(rows, orient="index")[[*types]].rename_axis("name").astype(types)
