"""What is known of why cells are in their niches."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Explanation:
    """What :func:`stdistill.tl.explain` returns."""

    neighbors: pd.DataFrame
    """One row for each cell that the model reads of each explained one, that itself among them: names ``cell`` and
    ``neighbor``; ``niche``, in which `cell` is; ``attribution``, what the neighbour adds to the log-odds of the niche,
    the largest first; ``distance_um``; and ``label``, what the column `label_key` says of it, if one was named."""
    cells: pd.DataFrame
    """One row for each explained cell, by its name: ``niche``; ``log_odds`` of it; ``baseline``, where attributions
    start from; ``completeness_error``, their sum beyond what lies between the two; ``n_neighbors``, without itself;
    ``deletion_area``, the mean height of its deletion curve, ``random_area``, that of random orders, and ``beaten``,
    the share of these whose curve is clearly higher, by .001."""
    deletion: pd.DataFrame
    """The curves: for each ``cell`` and share of cells ``removed``, the ``probability`` of the niche when those that
    add most are left out first, and ``random``, the mean over random orders."""
    method: str
    """``"leave_one_out"``, ``"shapley"`` or ``"integrated_gradients"``."""
    radius_um: float
    """How far the model reads."""
    label_key: str | None = None
    """The column of ``label``."""
    model: str | None = None
    """Fingerprint of the model, as in the ``"<key>_model"`` of its results."""
