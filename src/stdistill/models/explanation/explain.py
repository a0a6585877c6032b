"""Ask a niche model about cells, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from stdistill._support.arrays import Float64s, Integers
from stdistill._support.threads import FreeThreads
from stdistill._training.state import own_torch_state
from stdistill.models.explanation.attribution import METHODS, Method
from stdistill.models.explanation.deletion import Deletion, delete
from stdistill.models.explanation.question import Question
from stdistill.models.niche.batches import Neighborhoods
from stdistill.models.niche.model import NicheModel


class ExplainedCell(NamedTuple):
    """Why a cell is in its niche."""

    niche: int
    log_odds: float
    baseline: float
    """The log-odds that attributions start from."""
    tokens: Integers
    """(n_tokens,), rows of the cells that the model reads."""
    attribution: Float64s
    """(n_tokens,), what each adds to the log-odds."""
    deletion: Deletion


def explain_cells(
    model: NicheModel,
    neighborhoods: Neighborhoods,
    cells: Integers,
    *,
    method: Method,
    n_samples: int | None,
    seed: int,
    device: str,
) -> Iterator[ExplainedCell]:
    """Explain cells, rows of `neighborhoods` that have a token, each by itself.

    What is random depends on the seed and the row.
    """
    network, place, home = model.network.eval(), torch.device(device), model.network.mean.device
    try:
        network.to(place)
        with own_torch_state(), FreeThreads() as threads:
            for cell in cells:
                threads.adjust()
                own_seed = int(np.random.SeedSequence((seed, cell)).generate_state(1)[0])
                with torch.no_grad():
                    question = Question(network, neighborhoods, cell, model.card.confidence_temperature, place)
                values, baseline = METHODS[method](question, n_samples, own_seed)
                with torch.no_grad():
                    deletion = delete(question, values, own_seed)
                yield ExplainedCell(question.niche, question.answer, baseline, question.tokens.cells, values, deletion)
    finally:
        network.to(home)
