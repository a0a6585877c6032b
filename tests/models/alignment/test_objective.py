"""The loss of a batch: summed over scales, its negatives apart, and what is logged of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stdistill._training.sampling import BatchRequest
from stdistill.models.alignment.arguments import ALIGNMENT_DEFAULTS, network_arguments
from stdistill.models.alignment.contrast import info_nce
from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.alignment.objective import Alignment
from stdistill.models.alignment.tiles import PIXELS, TileBatch, TileDataset

SCALES = ("micro", "macro")


@pytest.fixture
def objective(make: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Alignment]:
    """It logs to `logged`, alone among processes."""

    def build(images: dict[str, Any] | None = None, encoder: Any = None) -> Alignment:
        data = make(n_side=4)
        torch.manual_seed(0)
        network = AlignmentNetwork(dict.fromkeys(SCALES, 8), 6, **network_arguments(ALIGNMENT_DEFAULTS)).eval()
        chosen = {scale: data.images[scale] for scale in SCALES} if images is None else images
        tiles = TileDataset(chosen, data.graphs, data.slide, data.centers, with_candidates=True, left_out=0.0)
        made = Alignment(
            network,
            tiles,
            data.side_um,
            fitting=np.arange(16),
            arguments=ALIGNMENT_DEFAULTS,
            fingerprint={},
            encoder=encoder,
        )
        made.logged = {}
        monkeypatch.setattr(Alignment, "trainer", SimpleNamespace(world_size=1), raising=False)
        monkeypatch.setattr(made, "log", lambda name, value, **_: made.logged.update({name: float(value)}))
        return made.eval()

    return build


def batch(objective: Alignment, tiles: list[int]) -> TileBatch:
    found: TileBatch = objective.data[BatchRequest(np.array(tiles), (0,))]
    return found


def test_losses_of_the_scales_are_summed(objective: Callable[..., Alignment]) -> None:
    made = objective()
    tiles = batch(made, [0, 5, 10, 15, 3])
    loss, n = made.loss(tiles)
    he, expression = made.network(tiles)
    nothing = torch.zeros(5, 5, dtype=torch.bool)  # side by side, no two share tissue
    expected = sum(info_nce(he[scale], expression[scale], torch.tensor(10.0), nothing) for scale in SCALES)
    assert n == 5
    torch.testing.assert_close(loss, torch.as_tensor(expected))


def test_tiles_that_share_tissue_are_no_negatives(objective: Callable[..., Alignment]) -> None:
    """Of two tiles that overlap neither has another to be told from: nothing is lost, and nothing learned."""
    made = objective()
    tiles = batch(made, [0, 1])
    assert made.loss(tiles)[0] > 0
    overlapping = tiles._replace(centers=tiles.centers * 0.9)
    assert made.loss(overlapping)[0].item() == pytest.approx(0, abs=1e-6)
    elsewhere = overlapping._replace(slide=torch.tensor([0, 1]))
    torch.testing.assert_close(made.loss(elsewhere)[0], made.loss(tiles)[0])


def test_what_is_logged_is_of_the_tiles(objective: Callable[..., Alignment]) -> None:
    made = objective()
    tiles = batch(made, [0, 5, 10, 15])
    made.loss(tiles)
    he, expression = made.network(tiles)
    names = ("alignment", "uniformity_he", "uniformity_expression")
    assert set(made.logged) == {f"{name}_{scale}" for name in names for scale in SCALES}
    for scale in SCALES:
        apart = ((he[scale] - expression[scale]) ** 2).sum(dim=1).mean()
        assert made.logged[f"alignment_{scale}"] == pytest.approx(apart.item(), rel=1e-5)
        assert made.logged[f"uniformity_he_{scale}"] < 0


def test_pixels_go_through_the_encoder_that_learns(objective: Callable[..., Alignment]) -> None:
    """Its gradients are there, and what is frozen is in no checkpoint."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 3, 4, 4)).astype(np.float32)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = torch.nn.Linear(48, 8).requires_grad_(False)
            self.tuned = torch.nn.Linear(8, 8)

        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            found = self.tuned(self.frozen(pixels.flatten(1) / 255))
            return dict.fromkeys(SCALES, found)

    made = objective({PIXELS: pixels}, Encoder())
    made.loss(batch(made, [0, 5, 10]))[0].backward()
    encoder: Any = made.encoder
    assert encoder.tuned.weight.grad.abs().max() > 0
    assert encoder.frozen.weight.grad is None
    checkpoint: dict[str, Any] = {"state_dict": made.state_dict()}
    made.on_save_checkpoint(checkpoint)
    kept = {name for name in checkpoint["state_dict"] if name.startswith("encoder.")}
    assert kept == {"encoder.tuned.weight", "encoder.tuned.bias"}
    assert not made.strict_loading
    assert objective().strict_loading
