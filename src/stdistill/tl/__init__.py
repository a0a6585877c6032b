"""Tools: models are fitted, applied and measured here; results go into the table."""

from __future__ import annotations

from stdistill.tl._abundance_scores import abundance_scores
from stdistill.tl._agreement import agreement
from stdistill.tl._align import align
from stdistill.tl._choose_k import choose_k
from stdistill.tl._cohort import cohort
from stdistill.tl._colocalization import colocalization
from stdistill.tl._compare_colocalization import compare_colocalization
from stdistill.tl._compare_niches import compare_niches
from stdistill.tl._composition import composition
from stdistill.tl._composition_jsd import composition_jsd
from stdistill.tl._cross_validate import cross_validate
from stdistill.tl._decompose import decompose
from stdistill.tl._distill import distill
from stdistill.tl._evaluate import evaluate
from stdistill.tl._explain import explain
from stdistill.tl._expression_probe import expression_probe
from stdistill.tl._find_tiles import find_tiles
from stdistill.tl._kmeans_niches import kmeans_niches
from stdistill.tl._leiden import leiden
from stdistill.tl._logistic_niches import logistic_niches
from stdistill.tl._match_niches import match_niches
from stdistill.tl._niche_profile import niche_profile
from stdistill.tl._nolan import nolan
from stdistill.tl._pathology_probe import pathology_probe
from stdistill.tl._predict import predict
from stdistill.tl._retrieval import retrieval
from stdistill.tl._verdict import verdict

__all__ = [
    "abundance_scores",
    "agreement",
    "align",
    "choose_k",
    "cohort",
    "colocalization",
    "compare_colocalization",
    "compare_niches",
    "composition",
    "composition_jsd",
    "cross_validate",
    "decompose",
    "distill",
    "evaluate",
    "explain",
    "expression_probe",
    "find_tiles",
    "kmeans_niches",
    "leiden",
    "logistic_niches",
    "match_niches",
    "niche_profile",
    "nolan",
    "pathology_probe",
    "predict",
    "retrieval",
    "verdict",
]
