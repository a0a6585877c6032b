"""What a student keeps to be judged by: how sure it may be, and what features it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stdistill._measures.calibration import calibration_error, fit_temperature
from stdistill._measures.feature_gaussian import ROWS
from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._support.warn import warn
from stdistill._table.fitting.inputs import NicheInputs

if TYPE_CHECKING:
    from stdistill.models.usual import UsualFeatures

FEWEST = 100
"""Cells that say how sure a student may be, and what is usual (our choice)."""
CAUTION, OUTSIDE = 2.0, 10.0
"""Median of a slide, as squared distance over that of held-out tissue, from which on its niches are doubtful, and from
which on they were wrong for most kinds of change that were tried."""


def calibrate(logits: Floats, truth: Integers, held_out: Integers) -> dict[str, Any] | None:
    """Fit how sure a student may be on held-out cells, for its card; `None` when there are too few of them."""
    if logits.shape[1] == 1 or len(held_out) < FEWEST:
        return None
    known, labels = logits[held_out], truth[held_out]
    temperature = fit_temperature(known, labels)
    return {
        "temperature": temperature,
        "n_cells": len(held_out),
        "ece_before": calibration_error(known, labels),
        "ece_after": calibration_error(known, labels, temperature),
    }


def measure_calibration(logits: Floats, truth: Integers, test: Mask, temperature: float) -> dict[str, float]:
    """Calibration error on test cells before and after, for the record; nothing when there are none."""
    if not test.any() or logits.shape[1] == 1:
        return {}
    known, labels = logits[test], truth[test]
    return {
        "ece_before": calibration_error(known, labels),
        "ece_after": calibration_error(known, labels, temperature),
    }


def measure_agreement(logits: Floats, truth: Integers, test: Mask, held_out: Integers) -> dict[str, Any] | None:
    """Measure how well a student agrees with its teacher on cells that it did not learn from, for its card.

    They are test cells, or where these are too few those that the training was stopped by; `None` when both are too
    few, or all in one niche.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    name, cells = ("test", np.flatnonzero(test)) if test.sum() >= FEWEST else ("held-out", held_out)
    if len(cells) < FEWEST or len(np.unique(truth[cells])) < 2:
        return None
    pair = truth[cells], logits[cells].argmax(axis=1)
    ari, nmi = adjusted_rand_score(*pair), normalized_mutual_info_score(*pair)
    return {"cells": name, "n_cells": len(cells), "ari": float(ari), "nmi": float(nmi)}


def describe_features(
    looks: Sequence[npt.NDArray[Any]], fitting: Integers, unseen: Integers, seed: int
) -> UsualFeatures | None:
    """Describe the features that a student learned from, by what it had not seen; `None` when that is too little.

    `looks` are the features of the slide as it is, and of the augmented ones. What stain or scanner does to all cells
    alike is less unusual to a student that has seen such. What they do to each is not counted in: as wide as that,
    another tissue would be usual, too (docs/concepts/transfer).
    """
    from stdistill.models.usual import UsualFeatures

    if min(len(fitting), len(unseen)) < FEWEST:
        return None
    known = _moved(looks, fitting, np.random.default_rng(seed))
    both = np.concatenate([known, looks[0][unseen]])
    return UsualFeatures.fit(both, *np.split(np.arange(len(both)), [len(known)]), seed=seed)


def _moved(looks: Sequence[npt.NDArray[Any]], rows: Integers, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return the slide's own features of some rows, moved to the mean of each look.

    They are no more than a Gaussian is fitted to.
    """
    own, most = looks[0], ROWS // len(looks)
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    means = [features[rows].mean(axis=0, dtype=np.float32) for features in looks]
    return np.concatenate([(own[rows] + (mean - means[0])).astype(own.dtype) for mean in means])


def measure_ood(usual: UsualFeatures, inputs: NicheInputs) -> npt.NDArray[np.float32]:
    """How unusual each cell is (n,); NaN for cells that get no prediction."""
    ratios = usual.ratios(inputs.features)
    ratios[~inputs.eligible] = np.nan
    return ratios


def summarise_ood(ratios: npt.NDArray[np.float32], usual: UsualFeatures) -> dict[str, float]:
    """Summarise how unusual the cells of a slide are, for the record; warn of a slide that the student cannot know."""
    known = ratios[~np.isnan(ratios)]
    if not len(known):
        return {}
    median, rare = float(np.median(known)), float((known > usual.rare).mean())
    if median**2 > CAUTION:
        how = "unlike any" if median**2 > OUTSIDE else "rather unlike those"
        warn(
            f"The H&E features of this slide are {how} that the student learned from: half of the cells are more than "
            f"{median:.1f} times as far from them as usual. Another stain, scanner, scale, focus or tissue does that, "
            "and niches may then be wrong where the confidence is high: look at them beside the H&E before use."
        )
    return {"ood_median": median, "ood_share_rare": rare}
