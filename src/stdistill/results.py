"""What functions of `tl` return that is neither a model nor a frame, to name in annotations and to ask for."""

from __future__ import annotations

from stdistill._measures.abundances.moran import Colocalization
from stdistill._measures.composition import CompositionJSD
from stdistill._measures.profiles.profile import NicheProfile
from stdistill._measures.verdict import Verdict
from stdistill._runs.evaluation import Evaluation
from stdistill.models.explanation.result import Explanation

__all__ = ["Colocalization", "CompositionJSD", "Evaluation", "Explanation", "NicheProfile", "Verdict"]
