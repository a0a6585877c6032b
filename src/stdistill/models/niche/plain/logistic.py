"""Logistic regression on neighbourhood means, taught by a teacher's niches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from stdistill._support.arrays import Floats, Integers, Mask
from stdistill._support.threads import one_thread
from stdistill._training.holdout import hold_out_blocks
from stdistill._training.sampling import spatial_order
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.plain.means import find_scale, means_by_part, read_means

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MOST_CELLS = 20_000
"""Of larger trainings as many are drawn."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties, the strongest penalty first."""
USUAL_STRENGTH = 1e-2
"""Where the tissue is too small to choose by."""
MAX_ITERATIONS = 200
LEAST = 1e-12
"""Probability of a niche that no training cell is in."""


class Regression(NamedTuple):
    """How a regression was fitted."""

    inverse_penalty: float
    n_training_cells: int
    n_validation_cells: int


def logistic_logits(
    neighborhoods: Neighborhoods,
    libraries: Integers,
    labels: Integers,
    training: Mask,
    cells: Mask,
    *,
    k: int,
    seed: int,
) -> tuple[npt.NDArray[np.float32], Regression]:
    """Learn the niches of training cells, by the penalty that suits blocks of these best, and tell all cells.

    The penalty is the one by which the other training cells tell the blocks best; then all are learned from.

    Parameters
    ----------
    neighborhoods
        Cells of one or several slides.
    libraries, labels
        (n,), number of each cell's slide, and of its niche.
    training, cells
        (n,), those to learn from, and those to be told; all have features.
    k
        Number of niches.
    seed
        Of the blocks, and of the sample.

    Returns
    -------
    (n, k) logarithms of probabilities, NaN where `cells` is false, and how it was fitted.
    """
    from sklearn.preprocessing import StandardScaler

    fitting, held_out = hold_out_blocks(
        neighborhoods.centers,
        libraries,
        neighborhoods.indptr,
        neighborhoods.indices,
        training,
        radius_um=neighborhoods.radius_um,
        seed=seed,
    )
    order = spatial_order(neighborhoods.centers, libraries)
    rows = order[training[order]]
    scale = find_scale(neighborhoods, rows)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:MOST_CELLS]
    rows = rows[np.sort(drawn)]
    if len(np.unique(labels[rows])) < 2:
        msg = f"All {len(rows)} training cells are in one niche of the teacher: there is nothing to tell apart."
        raise ValueError(msg)
    scaler = StandardScaler()
    means = scaler.fit_transform(read_means(neighborhoods, rows, scale))
    strength = _choose(means, labels[rows], fitting[rows], held_out[rows])
    model = next(_fits(means, labels[rows], [strength]))
    logits = np.full((len(training), k), np.nan, dtype=np.float32)
    for part, values in means_by_part(neighborhoods, order[cells[order]], scale):
        probabilities = np.full((len(part), k), LEAST)
        probabilities[:, model.classes_] = model.predict_proba(scaler.transform(values)).clip(LEAST)
        logits[part] = np.log(probabilities)
    return logits, Regression(strength, len(rows), int(held_out[rows].sum()))


def _choose(means: Floats, labels: Integers, fitting: Mask, held_out: Mask) -> float:
    """Weaken the penalty for as long as the niches of cells that were held out become more probable."""
    if not held_out.any() or len(np.unique(labels[fitting])) < 2:
        return USUAL_STRENGTH
    judged, truth = means[held_out], labels[held_out]
    best, least_surprise = STRENGTHS[0], np.inf
    for model in _fits(means[fitting], labels[fitting], STRENGTHS):
        probabilities = model.predict_proba(judged).clip(LEAST)
        seen = np.isin(truth, model.classes_)
        columns = np.searchsorted(model.classes_, truth[seen])
        surprise = -np.log(probabilities[seen, columns]).mean() if seen.any() else np.inf
        if surprise >= least_surprise:
            break
        best, least_surprise = float(model.C), surprise
    return best


def _fits(means: Floats, labels: Integers, strengths: Sequence[float]) -> Iterator[LogisticRegression]:
    """Fit with one penalty after the other, each from where the last one ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for strength in strengths:
        with one_thread(), warnings.catch_warnings():
            # A weak penalty on many features takes long, and stopping early is a penalty, too.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=strength).fit(means, labels)
        yield model
