"""Groups of slides compared where the truth is known: false alarms, effects that are found, intervals that hold.

    python benchmarks/compare_niches.py
    python benchmarks/compare_niches.py --designs slides pairs --n-cohorts 100
    python benchmarks/compare_niches.py --quick

Each cohort has slides of 500 to 50,000 cells in eight niches, the rarest of them 1.5 % of a typical slide. Logarithms
of a slide's shares vary by normal noise, of slides and of patients (logistic normal); its cells are drawn from the
shares.

- Without an effect: is the p-value of the third niche, over the cohorts, uniform (Kolmogorov-Smirnov)? One niche,
  chosen beforehand, since those of a cohort depend on each other; beside it the least of that test's p-values of the
  eight niches, times eight, and how many of all p-values are at most 0.05. p-values are steps of 1/1000, which 500 of
  them cannot tell from none.
- The same cohorts with cells as units: Pearson's chi-square test of niche by group over all cells; and, where patients
  have several slides, with slides as units.
- With an effect: shares of the third niche times `--effect` before they sum to 1 again. By how much centred log-ratios
  change is known: its logarithm times 7/8 there, and -1/8 elsewhere. How often is the sign right, does the interval
  cover it, and is q at most 0.05?
- `dirichlet` has another noise than any that the method assumes: shares from a Dirichlet distribution, whose centred
  log-ratios have known means (digamma functions).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import digamma

import stdistill as sd
from stdistill._measures.compositional.comparison import Design, permute
from stdistill._measures.compositional.log_ratios import centred_log_ratios

SHARES = np.array([0.30, 0.22, 0.16, 0.12, 0.09, 0.06, 0.035, 0.015])
K = len(SHARES)
CHANGED = 2
"""The niche that has an effect, and whose p-values are tested."""
SLIDE_SD, PATIENT_SD = 0.5, 0.5
"""Of logarithms of shares: slides of one patient, and patients."""
CONCENTRATION = 60.0
"""Of the Dirichlet distribution; the rarest niche has 0.9."""
N_PERMUTATIONS = 999


class Cohort(NamedTuple):
    """A simulated cohort, what to ask of it, and what is true."""

    table: ad.AnnData
    asked: dict[str, Any]
    truth: np.ndarray
    """Effect on the centred log-ratio of each niche."""


def simulate(design: str, effect: float, rng: np.random.Generator) -> Cohort:
    """Draw a cohort; `effect` is a logarithm."""
    asked: dict[str, Any] = {"group_key": "group"}
    obs = pd.DataFrame({"group": [0, 1] * 12}, dtype=float)
    if design == "few slides":
        obs = obs[:10].copy()
    elif design == "number":
        obs["group"] = rng.uniform(-1, 2, len(obs))
    elif design == "covariate":
        obs["age"] = rng.normal(0, 1, len(obs)) + 0.8 * obs["group"]
        asked["covariates"] = ["age"]
    elif design == "patients":
        n_slides = rng.integers(1, 5, 20)
        obs = pd.DataFrame({"patient": np.repeat(np.arange(20), n_slides)})
        obs["group"] = obs["patient"] % 2.0
    elif design == "pairs":
        obs = pd.DataFrame({"patient": np.repeat(np.arange(14), 2), "group": [0.0, 1.0] * 14})
    if "patient" in obs:
        asked["paired_key"] = "patient"
    shift = np.zeros(K)
    shift[CHANGED] = effect
    group = obs["group"].to_numpy()[:, None]
    truth = shift - shift.mean()
    if design == "dirichlet":
        alphas = [CONCENTRATION * each / each.sum() for each in (SHARES, SHARES * np.exp(shift))]
        shares = np.where(group == 1, *(rng.dirichlet(alpha, len(obs)) for alpha in alphas[::-1]))
        truth = digamma(alphas[1]) - digamma(alphas[0])
        truth -= truth.mean()
    else:
        logs = np.log(SHARES) + group * shift + rng.normal(0, SLIDE_SD, (len(obs), K))
        patients = obs["patient"].to_numpy() if "patient" in obs else np.arange(len(obs))
        logs += rng.normal(0, PATIENT_SD, (len(obs), K))[patients]
        if "age" in obs:
            logs += obs[["age"]].to_numpy() * np.linspace(-0.5, 0.5, K)
        shares = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    n_cells = np.exp(rng.uniform(np.log(500), np.log(50_000), len(obs))).astype(int)
    obs.index = [f"slide {number}" for number in range(len(obs))]
    table = ad.AnnData(shares, obs=obs, var=pd.DataFrame(index=[f"niche {number}" for number in range(K)]))
    table.layers["counts"] = rng.multinomial(n_cells, shares)
    return Cohort(table, asked, truth)


DESIGNS = {
    "slides": "12 and 12 slides",
    "few slides": "5 and 5 slides",
    "number": "24 slides, a number instead of groups",
    "covariate": "12 and 12 slides, an age that goes with the group",
    "patients": "10 and 10 patients of 1 to 4 slides",
    "pairs": "14 patients, a slide before and one after",
    "dirichlet": "12 and 12 slides, other noise",
}


def compare(cohort: Cohort, seed: int) -> pd.DataFrame:
    """Compare as a user does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sd.tl.compare_niches(cohort.table, **cohort.asked, n_permutations=N_PERMUTATIONS, seed=seed)


def p_values(cohort: Cohort, seed: int, *, with_patients: bool = True) -> np.ndarray:
    """Return the p-values of `compare` without its models, which they do not rest on."""
    obs = cohort.table.obs
    patients = obs["patient"] if "patient" in obs and with_patients else np.arange(len(obs))
    design = Design(obs["group"].to_numpy(), obs[cohort.asked.get("covariates", [])].to_numpy(), np.asarray(patients))
    ratios = centred_log_ratios(cohort.table.layers["counts"])
    return permute(ratios, design, n_permutations=N_PERMUTATIONS, seed=seed).p


def cells_as_units(cohort: Cohort) -> np.ndarray:
    """Test each niche as if every cell were a witness of its own."""
    counts, group = np.asarray(cohort.table.layers["counts"]), cohort.table.obs["group"].to_numpy()
    pooled = np.array([counts[group == value].sum(axis=0) for value in (0, 1)])
    rest = pooled.sum(axis=1, keepdims=True) - pooled
    return np.array([stats.chi2_contingency([pooled[:, n], rest[:, n]]).pvalue for n in range(K)])


def false_alarms(design: str, n_cohorts: int, seed: int) -> dict[str, Any]:
    """Compare cohorts in which nothing differs."""
    rng = np.random.default_rng(seed)
    cohorts = [simulate(design, 0.0, rng) for _ in range(n_cohorts)]
    np.testing.assert_allclose(p_values(cohorts[0], 0), compare(cohorts[0], 0)["p"])
    p = np.array([p_values(each, number) for number, each in enumerate(cohorts)])
    found = {"design": DESIGNS[design]}
    if design != "few slides":  # whose 126 p-values, and no others, the test would take for a departure
        tests = [stats.kstest(p[:, niche], "uniform").pvalue for niche in range(K)]
        found |= {"KS p": tests[CHANGED], "least of 8, × 8": min(1.0, K * min(tests))}
    found["p ≤ .05"] = (p <= 0.05).mean()
    if design != "number":
        found["cells as units"] = np.mean([cells_as_units(each) <= 0.05 for each in cohorts])
    if design == "patients":
        found["slides as units"] = np.mean([p_values(each, 0, with_patients=False) <= 0.05 for each in cohorts])
    return found


def effects(design: str, effect: float, n_cohorts: int, seed: int) -> dict[str, Any]:
    """Compare cohorts in which one niche differs."""
    rng = np.random.default_rng(seed)
    signs, covers, discovered, errors = [], [], [], []
    for number in range(n_cohorts):
        cohort = simulate(design, effect, rng)
        found = compare(cohort, number)
        signs.append(np.sign(found["effect"][CHANGED]) == np.sign(cohort.truth[CHANGED]))
        covers.append(((found["lower"] <= cohort.truth) & (cohort.truth <= found["upper"])).to_numpy())
        discovered.append(found["q"][CHANGED] <= 0.05)
        errors.append((found["effect"] - cohort.truth).to_numpy())
    return {
        "design": DESIGNS[design],
        "true": cohort.truth[CHANGED],
        "mean error": np.mean(errors, axis=0)[CHANGED],
        "sign": np.mean(signs),
        "covered": np.mean(covers, axis=0)[CHANGED],
        "covered, all niches": np.mean(covers),
        "least of 8": np.mean(covers, axis=0).min(),
        "q ≤ .05": np.mean(discovered),
    }


def main() -> None:
    """Run and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", nargs="+", choices=list(DESIGNS), default=list(DESIGNS))
    parser.add_argument("--n-cohorts", type=int, default=500, help="without an effect")
    parser.add_argument("--n-with-effect", type=int, default=500)
    parser.add_argument("--effect", type=float, default=2.0, help="times the share of a niche")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few cohorts of three designs")
    options = parser.parse_args()
    if options.quick:
        options.designs, options.n_cohorts, options.n_with_effect = ["slides", "covariate", "pairs"], 60, 6
    start = time.perf_counter()
    print(f"{options.n_cohorts} cohorts without an effect")
    show(false_alarms(each, options.n_cohorts, options.seed) for each in options.designs)
    print(f"\n{options.n_with_effect} cohorts in which one niche has {options.effect:g} times as much")
    log = np.log(options.effect)
    show(effects(each, log, options.n_with_effect, options.seed + 1) for each in options.designs)
    print(f"\n{time.perf_counter() - start:.0f} s")


def show(rows: Iterator[dict[str, Any]]) -> None:
    """Print each row when it is known."""
    for row in rows:
        words = (f"{name} {value:.3f}" for name, value in row.items() if name != "design")
        print(f"{row['design']:<50}", ", ".join(words), flush=True)


if __name__ == "__main__":
    main()
