"""Whether groups of slides differ in their niches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._measures.compositional.comparison import Design, Tested, estimate, permute
from stdistill._measures.compositional.log_ratios import centred_log_ratios
from stdistill._support.arrays import Integers
from stdistill._support.checks import check_integer, check_key, check_list, some
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.cohorts import Slides, check_one_student, check_slides, find_copies, read_slides

logger = logging.getLogger("stdistill")

LEVEL = 0.05
"""Of p-values that slides should be many enough to reach."""
LEFT_OUT = 0.001
"""Shares of a slide whose sum is further below 1 are not of all its niches."""


def compare_niches(
    cohort: AnnData,
    *,
    group_key: str,
    covariates: Sequence[str] = (),
    paired_key: str | None = None,
    reference: str | None = None,
    confidence: float = 0.95,
    n_permutations: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how much of each niche there is between two groups of slides, or along a number.

    The slide is the unit, or the patient where one has several: cells of a slide are no independent witnesses, and
    however many there are, they say nothing of how slides differ by chance.

    Parameters
    ----------
    cohort
        From :func:`stdistill.tl.cohort`, or another table of slides × niches with numbers of cells in
        ``.layers["counts"]``.
    group_key
        Column of ``.obs``: two groups, or numbers. Slides that lack it are left out.
    covariates
        Columns of ``.obs`` to account for, numbers or categories.
    paired_key
        Column of ``.obs`` that names the patient, where patients have several slides: pairs, or any number.
    reference
        The group that the other one is compared with; by default the first by its category, else by the alphabet.
    confidence
        Of the intervals.
    n_permutations
        Orders that are drawn for the p-values, beside the observed one. All are taken where there are no more.
    seed
        Of what is drawn.

    Returns
    -------
    Frame with one row per niche. Columns ``niche``; ``effect``, the difference of the centred log-ratio (natural
    logarithm) from the reference, or per unit of a number, with the limits ``lower`` and ``upper``: its exponential is
    by how much the niche grows relative to the (geometric) mean of all niches; ``p`` by permutation and ``q``, the
    false discovery rate; ``share_<group>``, the mean of the slides' shares, and ``n_<group>``, the number of slides, of
    each group (``share`` and ``n`` of a number); ``n_absent``, the slides without a cell of the niche. A niche of no
    slide is NaN, and no part of the means. ``.attrs`` says how it was compared: ``group_key``, ``groups``, ``model``,
    ``unit`` (what was permuted), ``n_patients``, ``smallest_p``, ``confidence``. Nothing is written.

    Raises
    ------
    KeyError
        When a column, ``.layers["counts"]`` or `reference` is not there.
    TypeError
        When `cohort` is no AnnData, or `covariates` is a string.
    ValueError
        When there are not two groups, covariates tell the group or each other, or are numbers as text, slides are of
        several students, or are too few for the model, or ``.obs`` was put in another order than the numbers of cells.

    Warns
    -----
    UserWarning
        When there are too few slides for any p-value to reach 0.05; slides are left out because something is missing,
        are there twice, or are compared whose verdict is "not"; niches are left out; groups or patients differ in
        blanks or capitals alone; or a column ``patient`` names patients with several slides and `paired_key` is not
        given.

    Notes
    -----
    Half a cell is added to every count, so that the logarithm of few cells has little bias (Anscombe 1956) and a niche
    that was not seen counts for more where many cells were looked at. Shares sum to 1: where one niche grows, others
    shrink, and the centred log-ratio (Aitchison 1986) says so relative to the mean of all niches.

    Effects and intervals are of a linear model; where a patient has several slides, of a mixed model with a level for
    each patient, and t with the degrees of freedom between or within patients (Schluchter & Elashoff 1990). p-values
    do not rest on a distribution: what could have been assigned otherwise changes places, which are slides; patients,
    each with the mean of its slides; or, where the group differs within patients, the slides of each patient among
    themselves. With covariates it is the residuals that are permuted (Freedman & Lane 1983, after Winkler et al. 2014);
    the observed order counts as one (Phipson & Smyth 2010). The choices are ours; how they do on cohorts with known
    truth is on the page *Cohorts* of the documentation.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> obs = pd.DataFrame({"group": ["control"] * 8 + ["treated"] * 8}, index=[f"slide {n}" for n in range(16)])
    >>> logs = np.log([5, 3, 1]) + rng.normal(0, 0.3, (16, 3))
    >>> logs[8:, 2] += 1.5
    >>> shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    >>> cohort = ad.AnnData(shares, obs=obs, var=pd.DataFrame(index=["tumour", "stroma", "lymphoid"]))
    >>> cohort.layers["counts"] = rng.multinomial(2000, shares)
    >>> found = sd.tl.compare_niches(cohort, group_key="group", reference="control")
    >>> found.loc[found["q"] < 0.05, "niche"].tolist()
    ['tumour', 'stroma', 'lymphoid']
    >>> found["effect"].round(1).tolist()
    [-0.5, -0.5, 1.1]
    """
    _check(cohort, covariates, confidence)
    check_integer(n_permutations, "n_permutations", minimum=99)
    check_integer(seed, "seed", minimum=0)
    check_one_student(cohort.obs)
    check_slides(cohort)
    slides = read_slides(cohort, group_key=group_key, covariates=covariates, paired_key=paired_key, reference=reference)
    _warn_of_slides(cohort, slides, paired_key)
    counts = np.asarray(cohort.layers[schema.COUNTS])[slides.known]
    _warn_of_counts(cohort[slides.known], counts)
    there = counts.sum(axis=0) > 0
    if there.sum() < 2:
        msg = f"{there.sum()} of {cohort.n_vars} niches are on the slides compared; two at least are needed."
        raise ValueError(msg)
    ratios = centred_log_ratios(counts[:, there])
    design = Design(slides.group, slides.covariates, slides.patients)
    effects = np.full((cohort.n_vars, 3), np.nan)
    effects[there] = estimate(ratios, design, confidence)
    test = permute(ratios, design, n_permutations=n_permutations, seed=seed)
    _warn_of_too_few(test)
    p, q = np.full((2, cohort.n_vars), np.nan)
    p[there], q[there] = test.p, test.q
    columns = dict(zip(("effect", "lower", "upper"), effects.T, strict=True))
    frame = pd.DataFrame({"niche": cohort.var_names, **columns, "p": p, "q": q, **_describe(counts, slides)})
    frame.attrs = {
        "group_key": group_key,
        "groups": slides.groups,
        "covariates": list(covariates),
        "paired_key": paired_key,
        "model": "mixed" if design.has_several else "linear",
        "unit": test.unit,
        "n_patients": test.n_patients,
        "n_permutations": len(test.orders.rows),
        "smallest_p": test.orders.smallest_p,
        "confidence": confidence,
    }
    return frame


def _describe(counts: Integers, slides: Slides) -> dict[str, Any]:
    """Name the columns that say what was compared: shares, numbers of slides, and of those without a niche."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    groups = {"": np.ones(len(counts), dtype=bool)}
    if slides.groups is not None:
        groups = {f"_{name}": slides.group == number for number, name in enumerate(slides.groups)}
    return {
        **{f"share{name}": shares[members].mean(axis=0) for name, members in groups.items()},
        **{f"n{name}": int(members.sum()) for name, members in groups.items()},
        "n_absent": (counts == 0).sum(axis=0),
    }


def _check(cohort: AnnData, covariates: Sequence[str], confidence: float) -> None:
    if not isinstance(cohort, AnnData):
        msg = f"Expected the AnnData of slides that sd.tl.cohort returns, found {type(cohort).__name__}."
        raise TypeError(msg)
    check_list(covariates, "covariates")
    if not 0 < confidence < 1:
        msg = f"confidence must lie between 0 and 1, found {confidence!r}."
        raise ValueError(msg)
    hint = "It holds numbers of cells, slides × niches, as sd.tl.cohort writes it."
    check_key(schema.COUNTS, list(cohort.layers), "a layer of the table", argument="layer", hint=hint)
    counts = np.asarray(cohort.layers[schema.COUNTS])
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.round(counts)).all()):
        msg = f'.layers["{schema.COUNTS}"] holds {counts.dtype} that are no numbers of cells, 0 or more.'
        raise ValueError(msg)


def _warn_of_slides(cohort: AnnData, slides: Slides, paired_key: str | None) -> None:
    """Say which slides are left out, and which had better be."""
    left = cohort.obs_names[~slides.known]
    if len(left):
        warn(
            f"{len(left)} of {cohort.n_obs} slides are left out, which have no cell with a niche or lack a group, a "
            f"covariate or a patient: {some(left)}."
        )
    obs = cohort.obs[slides.known]
    if "verdict" in obs and (obs["verdict"] == "not").any():
        warn(
            f"The verdict on {(obs['verdict'] == 'not').sum()} of the slides compared is that their niches are not to "
            'be believed. Leave them out: cohort[cohort.obs["verdict"] != "not"].'
        )
    if paired_key is None and "patient" in obs and obs["patient"].dropna().duplicated().any():
        warn(
            f"{obs['patient'].nunique()} patients have {len(obs)} slides, and slides of one patient are alike: give "
            'paired_key="patient", else p-values are too small.'
        )


def _warn_of_counts(cohort: AnnData, counts: Integers) -> None:
    """Say which slides seem to be there twice, and that niches are left out."""
    copies = find_copies(cohort.obs_names, counts)
    if copies:
        shown = some(f"{name} as {first}" for first, name in copies)
        warn(
            f"{len(copies)} slides have as many cells in every niche as another one ({shown}): a slide that is there "
            "twice counts as two, and p-values are too small. Leave the copies out."
        )
    shares = np.full(counts.shape, np.nan) if cohort.X is None else np.asarray(cohort.X, dtype=np.float64)
    totals = shares.sum(axis=1, keepdims=True)
    are_shares = np.allclose(shares, totals * counts / counts.sum(axis=1, keepdims=True), atol=1e-4)
    if are_shares and (totals < 1 - LEFT_OUT).any():
        warn(
            f"Niches are left out of the table: those that are there have {totals.mean():.0%} of the cells on average. "
            "Effects and shares are relative to these alone. To look at some niches of all, compare with all, and "
            'choose rows of the result: found[found["niche"].isin(...)].'
        )


def _warn_of_too_few(found: Tested) -> None:
    smallest, n_ways = found.orders.smallest_p, found.orders.n_distinct
    if smallest > LEVEL:
        units = f"{found.n_patients} {'slides' if found.unit == 'slides' else 'patients'}"
        warn(
            f"Too few slides: {units} in these groups can be permuted in {n_ways} ways, so that no p-value can be "
            f"below {smallest:.2g}. Four and four slides, or six pairs, can reach {LEVEL}. Look at the effects and "
            "their intervals."
        )
