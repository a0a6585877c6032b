"""What a student keeps to be judged by: how sure it may be, and what features it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stdistill._measures.calibration import calibration_error, fit_temperature
from stdistill._measures.verdict import CAUTION, MOSTLY_KNOWN, OUTSIDE
from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._support.warn import warn
from stdistill._table.fitting.inputs import NicheInputs

if TYPE_CHECKING:
    from stdistill.models.niche.batches import Neighborhoods
    from stdistill.models.usual import UsualFeatures

FEWEST = 100
"""Cells that say how sure a student may be, and what is usual (our choice)."""
ROWS = 50_000
"""Neighbourhoods are enough to describe them by: of 1,536 features 300 MB (our choice)."""


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
    neighborhoods: Neighborhoods, fitting: Integers, unseen: Integers, seed: int, parts: Sequence[Neighborhoods] = ()
) -> UsualFeatures | None:
    """Describe the neighbourhoods that a student learned from, by such as it had not seen; `None` of too few.

    Of a student by slide they are seen as parts of slides, too, each as if it was a slide: other slides hold other
    parts of the tissue.

    Looks at the slide as others would show it are averaged, too. What stain or scanner does to all cells alike is less
    unusual to a student that has seen such. What they do to each is not counted in: as wide as that, another tissue
    would be usual, too (docs/concepts/transfer).
    """
    from stdistill.models.niche.plain.means import read_means
    from stdistill.models.usual import UsualFeatures

    if min(len(fitting), len(unseen)) < FEWEST:
        return None
    rng, seen, n_looks = np.random.default_rng(seed), [neighborhoods, *parts], len(neighborhoods.looks)
    fitting = _draw(fitting, ROWS // (n_looks + len(parts)), rng)
    unseen = _draw(unseen, ROWS // len(seen), rng)
    own, held_out = ([read_means(each, cells, None) for each in seen] for cells in (fitting, unseen))
    shifts = [
        read_means(neighborhoods, fitting, None, look).mean(axis=0) - own[0].mean(axis=0) for look in range(1, n_looks)
    ]
    moved = np.concatenate([*own, *(own[0] + shift for shift in shifts)])
    return UsualFeatures.fit(moved, np.concatenate(held_out))


def _draw(cells: Integers, most: int, rng: np.random.Generator) -> Integers:
    """Draw some cells, in their order, where there are more than are needed."""
    return cells if len(cells) <= most else np.sort(rng.choice(cells, most, replace=False))


def measure_ood(usual: UsualFeatures, inputs: NicheInputs, neighborhoods: Neighborhoods) -> npt.NDArray[np.float32]:
    """How unusual the neighbourhood of each cell is as a student sees it (n,); NaN for cells without a prediction."""
    from stdistill._training.sampling import spatial_order
    from stdistill.models.niche.plain.means import means_by_part

    order = spatial_order(inputs.centers, inputs.libraries)
    ratios = np.full(len(order), np.nan, dtype=np.float32)
    for cells, means in means_by_part(neighborhoods, order[(inputs.eligible & neighborhoods.known)[order]], None):
        ratios[cells] = usual.ratios(means)
    return ratios


def measure_variation(usual: UsualFeatures, inputs: NicheInputs, neighborhoods: Neighborhoods) -> float | None:
    """Which share of what neighbourhoods of a slide differ by is what those of the training did; `None` of too few.

    Of features by slide, whose mean and spread are the same on all slides.
    """
    from stdistill.models.niche.plain.means import read_means

    cells = np.flatnonzero(inputs.eligible & neighborhoods.known)
    if len(cells) < FEWEST:
        return None
    return usual.known_variation(read_means(neighborhoods, _draw(cells, ROWS, np.random.default_rng(0)), None))


def judge_features(
    usual: UsualFeatures, inputs: NicheInputs, standardize: str
) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
    """Say how unusual each cell of a slide is (n,), and of all together what is recorded.

    Warns of a slide that the student cannot know.
    """
    neighborhoods = inputs.neighborhoods(max_tokens=None, standardize=standardize)
    ratios = measure_ood(usual, inputs, neighborhoods)
    known = ratios[~np.isnan(ratios)]
    if not len(known):
        return ratios, {}
    median, rare = float(np.median(known)), float((known > usual.rare).mean())
    found = {"ood_median": median, "ood_share_rare": rare}
    variation = measure_variation(usual, inputs, neighborhoods) if standardize == "slide" else None
    if variation is not None:
        found["known_variation"] = variation
    if variation is not None and variation < MOSTLY_KNOWN:
        _warn_of_variation(variation)
    elif median > CAUTION:
        _warn_of_distance(median)
    return ratios, found


def _warn_of_distance(median: float) -> None:
    """Warn of features that lie elsewhere than those of the training."""
    how = "unlike any" if median > OUTSIDE else "rather unlike those"
    warn(
        f"The H&E features of this slide are {how} that the student learned from: half of the neighbourhoods are "
        f"more than {median:.1f} times as far from them as usual. Another stain, scanner, scale, focus or tissue "
        "does that, and niches may then be wrong where the confidence is high: look at them beside the H&E."
    )


def _warn_of_variation(share: float) -> None:
    """Warn of features that differ from each other by something else than those of the training did."""
    warn(
        f"Of what neighbourhoods of this slide differ by in the H&E, {share:.0%} is what those that the student "
        "learned from differ by. Another stain, focus or tissue, folds or pen do that, and niches may then be wrong "
        "where the confidence is high: look at them beside the H&E."
    )
