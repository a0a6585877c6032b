"""Train the network that sees nuclei in H&E; writes the weights that `sd.pp.detect_nuclei` ships with.

    python benchmarks/train_nuclei.py nuclei.safetensors
    python benchmarks/train_nuclei.py fold_1.safetensors --leave-out 1 --device cuda --workers 8

It learns from the real images of `nuclei_data.py`, without those of the fold left out, and from simulated slides. Each
step has a seed of its own for its crops, whichever process draws them, and arithmetic is deterministic, so that a run
repeats to the same bits on the same kind of device, also one that was stopped: it goes on from the checkpoint beside
its output.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from nuclei_augmentation import Source, augment, cut
from nuclei_data import N_FOLDS, SHARED_DATA, TRAINING_SLIDES, fold_of, read_real, read_simulated
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from stdistill._nuclei.network import NucleusNetwork

STEPS, BATCH = 4500, 16
REAL_SHARE = 0.75
PEAK_RATE, WARM_UP, WEIGHT_DECAY = 3e-3, 300, 1e-3
AVERAGING = 0.998
"""Of the exponential moving average of weights that is kept."""


def rate(step: int, steps: int) -> float:
    """Learning rate: a linear rise, then half a cosine."""
    rise = min(1.0, (step + 1) / min(WARM_UP, steps))
    return PEAK_RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """The crops of every step, drawn with seeds of their own: always the same ones for a step."""

    def __init__(self, sources: list[Source], seed: int) -> None:
        self.real = [source for source in sources if source.is_real]
        self.simulated = [source for source in sources if not source.is_real]
        self.seed = seed

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the optical densities (b, 3, h, w) and targets (b, 2, h, w) of a step."""
        rng = np.random.default_rng((self.seed, step))
        crops = []
        for _ in range(BATCH):
            kind = self.real if rng.random() < REAL_SHARE else self.simulated
            source = kind[rng.integers(len(kind))]
            crops.append(augment(cut(source, rng), source.is_real, rng))
        densities, targets = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        return densities, targets


def loss_of(maps: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of both maps, and the soft Dice loss of the foreground."""
    entropy = functional.binary_cross_entropy_with_logits(maps, targets, reduction="none").mean((0, 2, 3))
    found, truth = maps[:, 0].sigmoid(), targets[:, 0]
    dice = 1 - 2 * (found * truth).sum() / (found.sum() + truth.sum() + 1)
    return entropy[0] + 2 * entropy[1] + 0.5 * dice


def fold_norms(network: NucleusNetwork) -> NucleusNetwork:
    """Fold the batch normalisation of a trained network into its convolutions."""
    plain = NucleusNetwork().eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in plain.state_dict()}, strict=False)
    for normed, folded in zip([*network.encoder, *network.decoder], [*plain.encoder, *plain.decoder], strict=True):
        for i in (0, 1):
            convolution = fuse_conv_bn_eval(normed[3 * i].eval(), normed[3 * i + 1].eval())
            folded[2 * i].load_state_dict(convolution.state_dict())
    return plain


def pack(network: torch.nn.Module, average: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Collect all tensors of the state of a training."""
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    state |= {f"average.{k}": v for k, v in average.state_dict().items()}
    moments = optimizer.state_dict()["state"]
    state |= {f"optimizer.{i}.{k}": v for i, part in moments.items() for k, v in part.items()}
    return {key: tensor.contiguous() for key, tensor in state.items()}


def unpack(
    state: dict[str, Tensor], network: torch.nn.Module, average: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Restore what :func:`pack` collected."""
    for name, part in (("network.", network), ("average.", average)):
        part.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def train(
    sources: list[Source],
    checkpoint: Path | None,
    *,
    steps: int = STEPS,
    stop: int | None = None,
    every: int = 500,
    seed: int = 0,
    device: str = "cpu",
    workers: int = 0,
) -> NucleusNetwork:
    """Train on crops of the sources, and return the averaged network without batch normalisation.

    The state is kept in `checkpoint` `every` so many steps; with `stop` it ends early, as if it had been interrupted.
    Crops are drawn by so many `workers`, or by this process when there are none.
    """
    torch.set_num_threads(1)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # On GPUs max pooling counts as not repeatable, since it adds where windows overlap; those here do not.
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    torch.manual_seed(seed)
    network = NucleusNetwork(normalised=True).to(device, memory_format=torch.channels_last).train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    start, end = 0, steps if stop is None else stop
    if checkpoint is not None and checkpoint.exists():
        state = load_file(checkpoint)
        start = int(state.pop("step"))
        unpack(state, network, average, optimizer)
    losses: list[Tensor] = []
    began = time.monotonic()
    crops = DataLoader(Crops(sources, seed), batch_size=None, sampler=range(start, end), num_workers=workers)
    for step, (densities, targets) in enumerate(crops, start):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = loss_of(network(densities.to(device, memory_format=torch.channels_last)), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        losses.append(loss.detach())
        if (step + 1) % every == 0:
            mean, seconds = float(torch.stack(losses[-every:]).mean()), (time.monotonic() - began) / len(losses)
            print(f"step {step + 1}: loss {mean:.4f}, {seconds:.3f} s a step", flush=True)
            if checkpoint is not None:
                beside = checkpoint.with_suffix(".writing")
                save_file(pack(network, average, optimizer) | {"step": torch.tensor(step + 1)}, beside)
                beside.replace(checkpoint)
    return fold_norms(average.module.cpu())


def main() -> None:
    """Train with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="weights to write (.safetensors)")
    parser.add_argument("--leave-out", type=int, choices=range(N_FOLDS), help="a fold of the real images")
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--cache", type=Path, default=Path("nuclei_cache"), help="folder of the simulated slides")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw crops")
    arguments = parser.parse_args()
    real = read_real(arguments.data / "nuclei_dsb2018")
    kept = [field for field, fold in zip(real, fold_of(real), strict=True) if fold != arguments.leave_out]
    sources = [Source(field) for field in kept + read_simulated(arguments.cache, TRAINING_SLIDES)]
    network = train(
        sources,
        arguments.out.with_suffix(".checkpoint"),
        steps=arguments.steps,
        device=arguments.device,
        workers=arguments.workers,
    )
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
