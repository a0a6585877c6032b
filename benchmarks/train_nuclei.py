"""Train the network that sees nuclei in H&E; writes the weights that `sd.pp.detect_nuclei` ships with.

    python benchmarks/train_nuclei.py nuclei.safetensors
    python benchmarks/train_nuclei.py fold_1.safetensors --leave-out 1

It learns from the real images of `nuclei_data.py`, without those of the fold left out, and from simulated slides. One
thread and seeds of their own for every step make a run repeat to the same bits, also one that was stopped: it goes on
from the checkpoint beside its output.
"""

from __future__ import annotations

import argparse
import math
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

from stdistill._nuclei.network import NucleusNetwork

STEPS, BATCH = 3000, 8
REAL_SHARE = 0.75
PEAK_RATE, WARM_UP, WEIGHT_DECAY = 3e-3, 300, 1e-3
AVERAGING = 0.998
"""Of the exponential moving average of weights that is kept."""


def rate(step: int, steps: int) -> float:
    """Learning rate: a linear rise, then half a cosine."""
    rise = min(1.0, (step + 1) / min(WARM_UP, steps))
    return PEAK_RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def batch_of(sources: list[Source], seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Draw crops: always the same ones for a step."""
    rng = np.random.default_rng((seed, step))
    kinds = [[source for source in sources if source.is_real], [source for source in sources if not source.is_real]]
    crops = []
    for _ in range(BATCH):
        kind = kinds[0] if rng.random() < REAL_SHARE else kinds[1]
        source = kind[rng.integers(len(kind))]
        crops.append(augment(cut(source, rng), source.is_real, rng))
    density, targets = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
    return density.contiguous(memory_format=torch.channels_last), targets


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
) -> NucleusNetwork:
    """Train on crops of the sources, and return the averaged network without batch normalisation.

    The state is kept in `checkpoint` `every` so many steps; with `stop` it ends early, as if it had been interrupted.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    network = NucleusNetwork(normalised=True).to(memory_format=torch.channels_last).train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    start = 0
    if checkpoint is not None and checkpoint.exists():
        state = load_file(checkpoint)
        start = int(state.pop("step"))
        unpack(state, network, average, optimizer)
    losses, began = [], time.process_time()
    for step in range(start, steps if stop is None else stop):
        density, targets = batch_of(sources, seed, step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = loss_of(network(density), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % every == 0 and checkpoint is not None:
            seconds = (time.process_time() - began) / len(losses)
            print(f"step {step + 1}: loss {np.mean(losses[-every:]):.4f}, {seconds:.2f} CPU s a step", flush=True)
            beside = checkpoint.with_suffix(".writing")
            save_file(pack(network, average, optimizer) | {"step": torch.tensor(step + 1)}, beside)
            beside.replace(checkpoint)
    return fold_norms(average.module)


def main() -> None:
    """Train with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="weights to write (.safetensors)")
    parser.add_argument("--leave-out", type=int, choices=range(N_FOLDS), help="a fold of the real images")
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--cache", type=Path, default=Path("nuclei_cache"), help="folder of the simulated slides")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    real = read_real(arguments.data / "nuclei_dsb2018")
    kept = [field for field, fold in zip(real, fold_of(real), strict=True) if fold != arguments.leave_out]
    sources = [Source(field) for field in kept + read_simulated(arguments.cache, TRAINING_SLIDES)]
    network = train(sources, arguments.out.with_suffix(".checkpoint"), steps=arguments.steps)
    save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, arguments.out)


if __name__ == "__main__":
    main()
