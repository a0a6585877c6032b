"""Pictures of what is in the table; nothing is computed here."""

from __future__ import annotations

from stdistill.pl._abundance import abundance
from stdistill.pl._abundance_scores import abundance_scores
from stdistill.pl._agreement import agreement
from stdistill.pl._choose_k import choose_k
from stdistill.pl._cohort import cohort
from stdistill.pl._colocalization import colocalization
from stdistill.pl._compare_niches import compare_niches
from stdistill.pl._composition import composition
from stdistill.pl._composition_jsd import composition_jsd
from stdistill.pl._confidence import confidence
from stdistill.pl._confusion import confusion
from stdistill.pl._crops import crops
from stdistill.pl._explain import explain
from stdistill.pl._neighborhood import neighborhood
from stdistill.pl._niche_card import niche_card
from stdistill.pl._niches import niches
from stdistill.pl._retrieval import retrieval
from stdistill.pl._split import split
from stdistill.pl._tiles import tiles
from stdistill.pl._training import training

__all__ = [
    "abundance",
    "abundance_scores",
    "agreement",
    "choose_k",
    "cohort",
    "colocalization",
    "compare_niches",
    "composition",
    "composition_jsd",
    "confidence",
    "confusion",
    "crops",
    "explain",
    "neighborhood",
    "niche_card",
    "niches",
    "retrieval",
    "split",
    "tiles",
    "training",
]
