"""Views of a neighbourhood: what self-distillation shows to the teacher and to the student."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from stdistill._support.arrays import Floats, Integers
from stdistill._training.sampling import BatchRequest
from stdistill.models.niche.batches import Neighborhoods, TokenBatch, Tokens

LOCAL_RADIUS = 0.75
"""Radius of a local view in radii of the neighbourhood: as NOLAN's, so far as it is known."""
N_LOCAL = 2
DROPPED = 0.7
"""Number of local views, and the share of tokens that the student does not see (our choice)."""


class Views(NamedTuple):
    """What is seen of the neighbourhoods of some cells."""

    whole: TokenBatch
    """By the teacher: the neighbourhoods (n centres)."""
    parts: TokenBatch
    """By the student: a global view of each, then each round of local ones (n · (1 + N_LOCAL) centres)."""


class ViewDataset(Dataset[Views]):
    """Makes the views of the cells of a request.

    A local view is centred at a random place no further from its cell than lets the neighbourhood hold all of it. A
    second global view, as images have, would be the same cells again, so there is one. What is random depends on the
    seed, the epoch and the cells, so that it is the same however many processes share a step.
    """

    def __init__(self, neighborhoods: Neighborhoods) -> None:
        self.neighborhoods = neighborhoods

    def __getitem__(self, request: BatchRequest) -> Views:
        seed, epoch = request.seed[:2]
        whole = self.neighborhoods.tokens(request.rows)
        parts = [whole]
        for view in range(1, 1 + N_LOCAL):
            places = self._places_around(request.rows, (seed, epoch, view))
            parts.append(self.neighborhoods.tokens(request.rows, positions=places, radius_share=LOCAL_RADIUS))
        seen = [drop_tokens(part, DROPPED, (seed, epoch, view)) for view, part in enumerate(parts)]
        return Views(self.neighborhoods.batch(whole), self.neighborhoods.batch(Tokens.concatenate(seen)))

    def _places_around(self, cells: Integers, seed: tuple[int, ...]) -> Floats:
        """Draw places evenly from discs around the cells."""
        distance = (1 - LOCAL_RADIUS) * self.neighborhoods.radius_um * np.sqrt(uniform((*seed, 1), cells))
        angle = 2 * np.pi * uniform((*seed, 2), cells)
        places: Floats = self.neighborhoods.centers[cells] + distance[:, None] * np.c_[np.cos(angle), np.sin(angle)]
        return places


def drop_tokens(tokens: Tokens, share: float, seed: tuple[int, ...]) -> Tokens:
    """Drop each token with a probability of `share`, but never the last one of a centre."""
    luck = uniform((*seed, 0), tokens.centers[tokens.center], tokens.cells)
    first = np.flatnonzero(np.diff(tokens.center, prepend=-1))
    luckiest = np.repeat(np.maximum.reduceat(luck, first), np.diff(first, append=len(luck)))
    return tokens.keep((luck >= share) | (luck == luckiest))


def uniform(seed: tuple[int, ...], *keys: Integers) -> Floats:
    """Random numbers in [0, 1), each determined by the seed and its keys alone (SplitMix64, Steele et al. 2014)."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    for key in keys:
        state = state + (key.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    numbers: Floats = (state >> np.uint64(11)) * 2.0**-53
    return numbers
