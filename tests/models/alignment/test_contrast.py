"""The contrast against a plain float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from stdistill.models.alignment.contrast import alignment, info_nce, overlapping, uniformity


def views(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return tuple(normalize(torch.from_numpy(rng.normal(size=(n, 5))), dim=1) for _ in range(2))


def reference(he: np.ndarray, expression: np.ndarray, scale: float, excluded: np.ndarray) -> float:
    losses = []
    for query, key in ((he, expression), (expression, he)):
        for i in range(len(query)):
            allowed = [j for j in range(len(key)) if not excluded[i, j]]
            total = sum(np.exp(scale * float(query[i] @ key[j])) for j in allowed)
            losses.append(-np.log(np.exp(scale * float(query[i] @ key[i])) / total))
    return float(np.mean(losses))


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_info_nce(n: int, masked: bool) -> None:
    he, expression = views(n, seed=n)
    excluded = np.random.default_rng(1).random((n, n)) < 0.4 * masked
    excluded |= excluded.T
    np.fill_diagonal(excluded, False)
    found = info_nce(he, expression, torch.tensor(7.0), torch.from_numpy(excluded))
    np.testing.assert_allclose(found.item(), reference(he.numpy(), expression.numpy(), 7.0, excluded), rtol=1e-12)


def test_a_tile_alone_has_nothing_to_be_told_from() -> None:
    he, expression = views(1, seed=0)
    assert info_nce(he, expression, torch.tensor(10.0), torch.zeros(1, 1, dtype=torch.bool)).item() == 0


def test_parts_of_the_rows_average_to_the_whole() -> None:
    """As processes that each ask for their own tiles."""
    he, expression = views(6, seed=0)
    excluded = torch.zeros(6, 6, dtype=torch.bool)
    excluded[0, 5] = excluded[5, 0] = True
    whole = info_nce(he, expression, torch.tensor(5.0), excluded)
    parts = [
        info_nce(he, expression, torch.tensor(5.0), excluded[first : first + 2], first) for first in range(0, 6, 2)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_tiles_that_share_tissue() -> None:
    centers = torch.tensor([[0.0, 0.0], [128.0, 0.0], [64.0, 64.0], [0.0, 0.0], [0.0, 127.9]])
    slide = torch.tensor([0, 0, 0, 1, 0])
    found = overlapping(slide, centers, 128.0)
    assert {tuple(pair) for pair in found.nonzero().tolist() if pair[0] < pair[1]} == {(0, 2), (1, 2), (0, 4), (2, 4)}
    assert not found.diagonal().any()
    assert (found == found.T).all()


def test_alignment_and_uniformity() -> None:
    he, expression = views(8, seed=3)
    assert alignment(he, he).item() == 0
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(he.numpy(), expression.numpy(), strict=True)])
    np.testing.assert_allclose(alignment(he, expression).item(), expected)
    pairs = [np.exp(-2 * np.sum((he[i] - he[j]).numpy() ** 2)) for i in range(8) for j in range(i)]
    np.testing.assert_allclose(uniformity(he).item(), np.log(np.mean(pairs)))
    assert uniformity(he[:1].expand(5, -1)).item() == 0
    assert uniformity(he[:1]).item() == 0
