"""What alignment must beat: InfoNCE with one linear map a side, without graph and scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdistill._measures.alignment.baselines import Projections, he_components
from stdistill._support.arrays import Float64s, Floats, Integers
from stdistill._training.state import own_torch_state

WIDTH = 64
TEMPERATURE = 0.1
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-2
MOST_STEPS = 1000
STEPS_AT_ONCE = 10
"""Between looks at the held-out tiles."""
PATIENCE = 10
"""Looks without a better one."""
HELD_OUT = 5
"""One of this many training tiles is held out, the last of them: a region of its own, as tiles go row by row."""
MOST_TILES = 4096
"""Of larger trainings as many are drawn for each step."""


@own_torch_state()
def project_by_infonce(features: Floats, cells: Float64s, training: Integers, *, seed: int) -> Projections:
    """Learn one linear map of features and one of cells, so that tiles find their partners among all others.

    Parameters
    ----------
    features
        (n, d) of all tiles. What is mapped are the principal components that :func:`project_by_cca` has, too.
    cells
        (n, q), what is known of the cells of each tile.
    training
        Rows to fit to, in the order of tiles. The last fifth chooses the number of steps, after which all are fitted.
    seed
        Of the first weights and of draws.
    """
    sides = _scaled(he_components(features, training), training), _scaled(cells, training)
    n_held_out = len(training) // HELD_OUT
    fitting, held_out = training[: len(training) - n_held_out], training[len(training) - n_held_out :]
    n_steps = MOST_STEPS // 10
    if n_held_out > 1:
        _, n_steps = _fit(sides, fitting, held_out, n_steps=MOST_STEPS, seed=seed)
    maps, _ = _fit(sides, training, None, n_steps=n_steps, seed=seed)
    with torch.no_grad():
        return Projections(*(each(side).numpy() for each, side in zip(maps, sides, strict=True)))


def _scaled(components: Float64s, training: Integers) -> Tensor:
    """Scale components (n, d) to a mean variance of 1 over the training: the first stay the largest."""
    scale = components[training].var(axis=0).mean() ** 0.5
    return torch.from_numpy(components / (scale or 1.0)).float()


def _fit(
    sides: tuple[Tensor, Tensor], fitting: Integers, held_out: Integers | None, *, n_steps: int, seed: int
) -> tuple[tuple[nn.Linear, nn.Linear], int]:
    """Fit for a number of steps, or until held-out tiles are found no better; return the maps and the best number."""
    generator = torch.Generator().manual_seed(seed)
    maps = _linear(sides[0].shape[1], generator), _linear(sides[1].shape[1], generator)
    weights = [weight for each in maps for weight in each.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rows = torch.from_numpy(fitting)
    best, best_step = float("inf"), n_steps
    for step in range(1, n_steps + 1):
        some = rows
        if len(rows) > MOST_TILES:
            some = rows[torch.randperm(len(rows), generator=generator)[:MOST_TILES]]
        optimizer.zero_grad()
        _loss(maps, sides, some).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if held_out is None or step % STEPS_AT_ONCE:
            continue
        with torch.no_grad():
            loss = float(_loss(maps, sides, torch.from_numpy(held_out)))
        if loss < best:
            best, best_step = loss, step
        elif step >= best_step + PATIENCE * STEPS_AT_ONCE:
            break
    return maps, best_step


def _linear(n_inputs: int, generator: torch.Generator) -> nn.Linear:
    """Make a map whose weights come from the generator alone."""
    with torch.device("meta"):
        layer = nn.Linear(n_inputs, WIDTH)
    layer = layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight, std=n_inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _loss(maps: tuple[nn.Linear, nn.Linear], sides: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Return the cross entropy of finding the partner among the rows, the mean of both directions."""
    ours, theirs = (F.normalize(each(side[rows]), dim=1) for each, side in zip(maps, sides, strict=True))
    logits = ours @ theirs.T / TEMPERATURE
    partners = torch.arange(len(rows))
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.T, partners)) / 2
