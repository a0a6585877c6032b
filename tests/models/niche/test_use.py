from __future__ import annotations

import math

import pytest
import torch

from stdistill.models.niche.use import NicheUse, check_not_collapsed


def test_by_hand() -> None:
    use = NicheUse(4, 3)
    use.update(torch.tensor([[0.5, 0.5, 0, 0], [1, 0, 0, 0]]), torch.eye(3)[:2])
    use.update(torch.tensor([[0, 0, 1.0, 0], [0.1, 0.1, 0.7, 0.1]]), torch.eye(3)[[2, 2]])
    measures = use.compute()
    assert measures["occupied_niches"] == 2
    assert measures["largest_niche"] == 0.5
    assert measures["size_entropy"] == pytest.approx(math.log(2) / math.log(4))
    entropy = math.log(2) - 0.7 * math.log(0.7) - 0.3 * math.log(0.1)
    assert measures["target_entropy"] == pytest.approx(entropy / 4 / math.log(4))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_even_directions(rank: int) -> None:
    use = NicheUse(2, 8)
    directions = torch.eye(8)[:rank]
    use.update(torch.full((2 * rank, 2), 0.5), 3 + torch.cat([directions, -directions]))
    assert use.compute()["effective_rank"] == pytest.approx(rank)


@pytest.mark.parametrize("spread", [0.1, 0.01, 0.001])
def test_effective_rank_of_a_narrow_cloud(spread: float) -> None:
    """Near a collapse, where it matters, and in half precision."""
    use = NicheUse(2, 8)
    places = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.eye(8)[:2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        use.update(torch.full((500, 2), 0.5), 1 + spread * places)
    assert use.compute()["effective_rank"] == pytest.approx(2, abs=0.05)


def test_degenerate() -> None:
    """One niche, and read-outs that do not vary."""
    use = NicheUse(1, 3)
    use.update(torch.ones(5, 1), torch.ones(5, 3))
    measures = use.compute()
    assert measures["occupied_niches"] == measures["effective_rank"] == 1
    assert measures["size_entropy"] == measures["target_entropy"] == 0
    check_not_collapsed(measures, 1, 0)


def test_reset_forgets() -> None:
    use = NicheUse(2, 3)
    use.update(torch.tensor([[1.0, 0]]), torch.zeros(1, 3))
    use.reset()
    use.update(torch.tensor([[0, 1.0]]), torch.zeros(1, 3))
    assert use.compute()["occupied_niches"] == 1


def test_collapse_is_an_error() -> None:
    use = NicheUse(3, 3)
    use.update(torch.eye(3)[[0] * 100], torch.randn(100, 3))
    with pytest.raises(RuntimeError, match=r"collapsed in epoch 4: 100.0% of the training cells .* k=3 .*fewer niches"):
        check_not_collapsed(use.compute(), 3, 4)
    use.update(torch.eye(3)[[1, 2]], torch.randn(2, 3))
    check_not_collapsed(use.compute(), 3, 5)


def test_niches_that_are_not_those_of_the_targets() -> None:
    """Balanced targets do not hide that all cells are in one niche."""
    use = NicheUse(2, 3)
    use.update(torch.eye(2)[[0, 1] * 50], torch.randn(100, 3), labels=torch.zeros(100, dtype=torch.int64))
    measures = use.compute()
    assert (measures["occupied_niches"], measures["largest_niche"], measures["target_entropy"]) == (1, 1, 0)
    with pytest.raises(RuntimeError, match="The niches collapsed"):
        check_not_collapsed(measures, 2, 0)
