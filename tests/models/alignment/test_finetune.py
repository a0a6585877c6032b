"""An encoder that learns: its last blocks do and nothing else does, it helps, and a checkpoint goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import stdistill as sd
from stdistill._features.tuning import TunedTiles
from stdistill.encoders import Encoder
from stdistill.models.alignment.arguments import ALIGNMENT_DEFAULTS, check_fitting
from stdistill.models.alignment.fit import AlignmentData, FittedAlignment, Tuning, fit_alignment
from stdistill.models.alignment.objective import Alignment

N_SIDE, PX, TOLD = 8, 16, 2
FAST: dict[str, Any] = {
    **ALIGNMENT_DEFAULTS,
    "scales": ("macro",),
    "edges": "none",
    "width": 16,
    "hidden": 16,
    "n_dims": 8,
    "dropout": 0.0,
    "place_dropout": 0.0,
    "weight_decay": 0.01,
    "learning_rate": 0.03,
    "batch_size": 32,
    "progress_bar": False,
    "accelerator": "cpu",
    "max_epochs": 3,
    "finetune_blocks": 1,
}
Toy = tuple[AlignmentData, np.ndarray, Encoder]


def gratings(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels whose stripes of four directions are the stronger the larger each of four numbers is, at random phases."""
    y, x = np.mgrid[:PX, :PX]
    image = np.zeros((len(state), PX, PX))
    for k, angle in enumerate(np.arange(4) * np.pi / 4):
        phase = rng.uniform(0, 2 * np.pi, (len(state), 1, 1))
        stripes = np.sin(np.pi / 2 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        image += (1 + np.tanh(state[:, k]))[:, None, None] * stripes
    noise = rng.normal(0, 10, (len(state), 3, PX, PX))
    return np.clip(128 + 20 * image[:, None] + noise, 0, 255).astype(np.uint8).astype(np.float32)


@pytest.fixture(scope="module")
def toy() -> Callable[[Callable], Toy]:
    """Tiles whose cells express the stripes that they show, and an encoder that tells little of what it knows."""
    torch.manual_seed(0)
    network = timm.models.VisionTransformer(
        img_size=PX, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool="avg"
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and name.startswith("blocks"):
                weight.mul_(8)  # timm's begin near 0, and all images look the same
        network.patch_embed.proj.weight.mul_(2)
        network.fc_norm.weight[TOLD:] = 0
    encoder = sd.encoders.from_module(network, mean=(0.5,) * 3, std=(0.25,) * 3, input_px=PX, name="toy")

    def build(make: Callable[..., AlignmentData]) -> Toy:
        rng = np.random.default_rng(0)
        state = rng.normal(size=(N_SIDE**2, 4))
        pixels = gratings(state, rng)
        mixed = np.repeat(state, 6, axis=0) @ rng.normal(size=(4, 6))
        data = make(N_SIDE, 6)
        data.graphs.cells[data.graphs.order] = mixed
        features = frozen(encoder, pixels)
        return data._replace(images=features), pixels, encoder

    return build


def tuned(encoder: Encoder, n_blocks: int = 1) -> TunedTiles:
    return TunedTiles(encoder, {"macro": 1}, n_blocks, "cpu")


@torch.inference_mode()
def frozen(encoder: Encoder, pixels: np.ndarray) -> dict[str, np.ndarray]:
    found = tuned(encoder)(torch.from_numpy(pixels))
    return {scale: each.numpy().astype(np.float16) for scale, each in found.items()}


def train(made: Toy, module: TunedTiles | None, **changes: Any) -> FittedAlignment:
    data, pixels, _ = made
    arguments = FAST | changes
    check_fitting(arguments)  # type: ignore[arg-type]
    everything = np.ones(len(data.slide), dtype=bool)
    return fit_alignment(data, everything, arguments, None if module is None else Tuning(module, pixels))  # type: ignore[arg-type]


def bits(module: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_an_encoder_that_learns_fits_better(make: Callable, toy: Callable) -> None:
    """The frozen one keeps most of what it sees to itself."""
    made = toy(make)
    module = tuned(made[2])
    long = {"max_epochs": 160}  # until the encoder has learned, whatever the network began with
    learned = train(made, module, **long).history["training_loss"]
    fixed = train(made, None, finetune_blocks=0, **long).history["training_loss"]
    assert abs(learned.iloc[0] - fixed.iloc[0]) < 0.05  # both begin at the same
    assert learned.iloc[-1] < 0.9 * fixed.iloc[-1]


def test_only_the_last_blocks_change(make: Callable, toy: Callable) -> None:
    made = toy(make)
    module = tuned(made[2])
    before = bits(module)
    train(made, module)
    changed = {name.removeprefix("module.module.") for name, each in bits(module).items() if each != before[name]}
    assert changed == set(module.blocks())
    assert {name.split(".")[0] for name in changed} == {"blocks", "fc_norm"}
    assert {name.split(".")[1] for name in changed if name.startswith("blocks")} == {"1"}
    assert not any(part.training for part in module.modules())
    again = tuned(made[2])
    assert bits(again) == before  # the encoder stays as it is


def test_scale_stays_that_of_the_frozen_features(make: Callable, toy: Callable) -> None:
    made = toy(make)
    fixed = train(made, None, finetune_blocks=0).network.he["macro"]
    learned = train(made, tuned(made[2])).network.he["macro"]
    assert torch.equal(learned.mean, fixed.mean)
    assert torch.equal(learned.std, fixed.std)


def test_goes_on_from_a_checkpoint(
    make: Callable, toy: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = toy(make)
    whole, cut = tuned(made[2]), tuned(made[2])
    train(made, whole, max_epochs=4)
    step = Alignment.training_step

    def break_off(self: Alignment, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Alignment, "training_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        train(made, cut, max_epochs=4, checkpoint_dir=tmp_path)
    monkeypatch.setattr(Alignment, "training_step", step)
    resumed = tuned(made[2])
    train(made, resumed, max_epochs=4, checkpoint_dir=tmp_path)
    assert bits(resumed) == bits(whole)
    saved = torch.load(tmp_path / "resume.ckpt", weights_only=True)["state_dict"]
    held = {name.removeprefix("encoder.module.module.") for name in saved if name.startswith("encoder.module.module.")}
    assert held == set(whole.blocks())
    with pytest.raises(ValueError, match="The checkpoint is of another run"):
        train(made, tuned(made[2], 2), max_epochs=4, checkpoint_dir=tmp_path, finetune_blocks=2)


def test_blocks_must_be_there() -> None:
    texture = sd.encoders.get("texture")
    with pytest.raises(ValueError, match=r"'texture' holds no vision transformers of timm.*uni2-h.*vit_…"):
        tuned(texture)


def test_no_more_blocks_than_there_are(make: Callable, toy: Callable) -> None:
    _, _, encoder = toy(make)
    tuned(encoder, 2)
    with pytest.raises(ValueError, match="'toy' has 2 blocks: 3 of them cannot learn"):
        tuned(encoder, 3)


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_the_number_of_blocks(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="finetune_blocks"):
        check_fitting(FAST | {"finetune_blocks": value})  # type: ignore[arg-type]
