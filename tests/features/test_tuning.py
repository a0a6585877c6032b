"""An encoder whose last blocks learn: which tensors those are, and that nothing else of it changes."""

from __future__ import annotations

import pytest
import timm
import torch

import stdistill as sd
from stdistill._features.tiles import TileModule
from stdistill._features.tuning import TunedTiles
from stdistill.encoders import Encoder
from stdistill.encoders._blocks import with_blocks

PX = 16
SCALES = {"micro": 2, "macro": 1}


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    network = timm.models.VisionTransformer(
        img_size=PX, patch_size=4, embed_dim=8, depth=3, num_heads=2, num_classes=0, proj_drop_rate=0.5
    )
    return sd.encoders.from_module(network, mean=(0.5,) * 3, std=(0.25,) * 3, input_px=PX, name="toy")


def pixels(n: int = 2) -> torch.Tensor:
    return torch.randint(0, 255, (n, 3, 2 * PX, 2 * PX), generator=torch.Generator().manual_seed(0)).float()


def test_it_gives_what_the_encoder_of_tiles_gives(encoder: Encoder) -> None:
    tuned, tiles = TunedTiles(encoder, SCALES, 1, "cpu"), pixels()
    found = tuned(tiles)
    normalised = (tiles / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = TileModule(encoder, encoder.load(), (2, 1), 64)(normalised)
    assert list(found) == ["micro", "macro"]
    torch.testing.assert_close(torch.cat(list(found.values()), dim=1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_the_last_blocks_and_the_norm_behind_them_learn(encoder: Encoder, n_blocks: int) -> None:
    tuned = TunedTiles(encoder, SCALES, n_blocks, "cpu")
    blocks = tuned.blocks()
    learning = {name.split(".")[1] for name in blocks if ".blocks." in f".{name}"}
    assert learning == {str(number) for number in range(3 - n_blocks, 3)}
    assert any("norm" in name and "blocks" not in name for name in blocks)
    names = set(dict(encoder.load().named_parameters()))
    assert set(blocks) <= names
    sum(each.sum() for each in tuned(pixels()).values()).backward()
    for name, each in tuned.named_parameters():
        assert (each.grad is not None) == (name.removeprefix("module.module.") in blocks)


def test_it_stays_as_it_is_used(encoder: Encoder) -> None:
    """No dropout, whoever says that training begins."""
    tuned, tiles = TunedTiles(encoder, SCALES, 1, "cpu"), pixels()
    first = tuned(tiles)["macro"]
    assert not any(part.training for part in tuned.train().modules())
    torch.testing.assert_close(tuned(tiles)["macro"], first)


def test_blocks_that_learned_make_the_encoder_that_learned(encoder: Encoder) -> None:
    """By their names they go into a fresh one; the one that was given stays as it was."""
    tuned, tiles = TunedTiles(encoder, {"macro": 1}, 1, "cpu"), pixels()
    before = tuned(tiles)["macro"].detach()
    with torch.no_grad():
        for each in tuned.parameters():
            if each.requires_grad:
                each += 0.1
    learned = tuned(tiles)["macro"].detach()
    assert (learned - before).abs().max() > 1e-3
    made = with_blocks(encoder, tuned.blocks())
    assert (made.name, made.revision != encoder.revision) == ("toy-finetuned", True)
    torch.testing.assert_close(TunedTiles(made, {"macro": 1}, 1, "cpu")(tiles)["macro"].detach(), learned)
    torch.testing.assert_close(TunedTiles(encoder, {"macro": 1}, 1, "cpu")(tiles)["macro"].detach(), before)
