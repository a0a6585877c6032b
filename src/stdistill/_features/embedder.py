"""Runs encoders over the windows of slides, on as many devices as there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from stdistill._features.encoding import encode_window, measure_dim, prepare, prepared_px, run_encoder
from stdistill._features.store import FeatureStore, Fingerprint, prepare_store
from stdistill._slide.crops import CropCutter
from stdistill._slide.plan import Slide, Window
from stdistill._slide.windows import read_windows
from stdistill._support.progress import Progress
from stdistill._support.quiet import quiet
from stdistill._support.threads import FreeThreads
from stdistill._training.callbacks import AdjustThreads
from stdistill._training.devices import environment
from stdistill._training.state import own_torch_state
from stdistill.encoders._dense import DensePatches
from stdistill.encoders._encoder import Encoder, Precision

BATCH_SIZE_CPU = 32
BATCH_SIZE_GPU = 256


@dataclass(frozen=True)
class Task:
    """A window, its place among those of all slides, and the row of the store where its crops begin."""

    number: int
    slide: Slide
    window: Window
    row: int

    @property
    def n_crops(self) -> int:
        """Number of its crops."""
        return self.window.stop - self.window.start


@dataclass(frozen=True)
class EmbeddingRun:
    """All that the processes of one run have to know."""

    slides: Sequence[Slide]
    encoders: Sequence[Encoder]
    crop_px: int
    precision: Precision | None
    batch_size: int | None
    store: Path
    fingerprint: Fingerprint
    cell_ids: npt.NDArray[Any]
    resume: bool

    def tasks(self) -> list[Task]:
        """List the windows of all slides."""
        tasks: list[Task] = []
        row = 0
        for slide in self.slides:
            for window in slide.plan.windows:
                tasks.append(Task(len(tasks), slide, window, row + window.start))
            row += len(slide.plan.order)
        return tasks


class Embedder(pl.LightningModule):
    """Cuts the crops of each window on the device, encodes them, and writes the features to the store."""

    def __init__(self, run: EmbeddingRun, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.run = run
        self.modules_of = nn.ModuleList(modules)
        self.tasks = run.tasks()
        self.progress: Progress | None = None

    def setup(self, stage: str) -> None:
        """Open the store, which one process prepares, and take this process's part of what is left to do."""
        run, strategy = self.run, self.trainer.strategy
        if self.trainer.is_global_zero:
            dim = sum(self._dims())
            prepare_store(run.store, run.fingerprint, run.cell_ids, dim, len(self.tasks), resume=run.resume)
        strategy.barrier()
        self.store = FeatureStore(run.store)
        left = [self.tasks[number] for number in self.store.unfinished()]
        strategy.barrier()  # nobody writes before everybody has looked
        self.mine = _share(left, self.trainer.global_rank, self.trainer.world_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Load the windows."""
        return DataLoader(_Windows(self.mine), batch_size=None)

    def on_predict_start(self) -> None:
        """Show the progress of this process; by now it is known on what it runs."""
        for module in self.modules_of:
            if isinstance(module, DensePatches):
                module.tiles_at_once = self._batch_size()
        rank = f" (process {self.trainer.global_rank})" if self.trainer.world_size > 1 else ""
        total = sum(task.n_crops for task in self.mine)
        self.progress = Progress(total, f"H&E features{rank}", "crops")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Compute the features of one window."""
        task = self.mine[batch_idx]
        try:
            rows = self._encode(batch["pixels"], task)
        except torch.OutOfMemoryError as error:
            msg = f"The device is out of memory with batch_size={self._batch_size()}: try a smaller one. ({error})"
            raise MemoryError(msg) from error
        n_bad = int((~torch.isfinite(rows)).any(dim=1).sum())
        if n_bad:
            names = " and ".join(encoder.name for encoder in self.run.encoders)
            msg = (
                f"{names} returned NaN, or values beyond float16 (65,504), for {n_bad} of {len(rows)} crops; expected "
                'finite features. If it runs in half precision, try precision="float32".'
            )
            raise ValueError(msg)
        self.store.write(task.number, task.row, rows.cpu().numpy())

    def on_predict_end(self) -> None:
        """Wait for the other processes: the store is complete when any of them goes on."""
        self.trainer.strategy.barrier()

    def close(self) -> None:
        """Close the bar, also after a failure."""
        if self.progress is not None:
            self.progress.close()

    def _encode(self, pixels: Tensor, task: Task) -> Tensor:
        """Encode the crops of a window, by each encoder in its own way."""
        plan, window, crop_px = task.slide.plan, task.window, self.run.crop_px
        whole = {
            number: encode_window(encoder, module, pixels, plan, window, crop_px, self._precision(encoder))
            for number, (encoder, module) in enumerate(zip(self.run.encoders, self.modules_of, strict=True))
            if encoder.takes_windows(crop_px)
        }
        if len(whole) == len(self.modules_of):
            self._advance(task.n_crops)
            return torch.cat(list(whole.values()), dim=1).half()
        cutter = CropCutter(pixels, plan, window)
        return torch.cat([self._encode_crops(cutter, part, whole) for part in self._parts(task.n_crops)])

    def _encode_crops(self, cutter: CropCutter, part: slice, whole: dict[int, Tensor]) -> Tensor:
        """Encode some crops, and set beside them what the encoders by whole windows gave."""
        crops = cutter.cut(part)
        features = []
        for number, (encoder, module) in enumerate(zip(self.run.encoders, self.modules_of, strict=True)):
            if number in whole:
                features.append(whole[number][part])
                continue
            side = prepared_px(encoder, self.run.crop_px)
            images = prepare(cutter.images(crops, part, side, encoder.interpolation), encoder)
            features.append(run_encoder(encoder, module, images, self._precision(encoder)))
        self._advance(len(crops))
        return torch.cat(features, dim=1).half()

    def _advance(self, n_crops: int) -> None:
        if self.progress is not None:
            self.progress.advance(n_crops)

    def _parts(self, n_crops: int) -> list[slice]:
        """Cut a window's crops into batches of nearly one size."""
        bounds = np.linspace(0, n_crops, math.ceil(n_crops / self._batch_size()) + 1).round().astype(int)
        return [slice(start, stop) for start, stop in pairwise(bounds)]

    def _batch_size(self) -> int:
        return self.run.batch_size or (BATCH_SIZE_CPU if self.device.type == "cpu" else BATCH_SIZE_GPU)

    def _precision(self, encoder: Encoder) -> Precision:
        """Half precision is slower than full on a CPU."""
        return self.run.precision or ("float32" if self.device.type == "cpu" else encoder.precision)

    def _dims(self) -> list[int]:
        """Features of each encoder; one that does not say is tried."""
        return [
            encoder.dim or measure_dim(encoder, module, self.run.crop_px)
            for encoder, module in zip(self.run.encoders, self.modules_of, strict=True)
        ]


class _Windows(IterableDataset[dict[str, Any]]):
    """The pixels of the windows, read ahead in the background."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _, group in groupby(self.tasks, key=lambda task: id(task.slide)):
            tasks = list(group)
            slide = tasks[0].slide
            for pixels in read_windows(slide.plan.level, [task.window for task in tasks], slide.background):
                yield {"pixels": torch.from_numpy(pixels)}


@own_torch_state()
def embed(run: EmbeddingRun, *, accelerator: str, devices: Any, num_nodes: int, strategy: str) -> None:
    """Compute what the store lacks."""
    modules = [encoder.load() for encoder in run.encoders]
    with quiet(), FreeThreads() as threads:
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[AdjustThreads(threads)],
            plugins=environment(devices, num_nodes),
        )
        embedder = Embedder(run, modules)
        try:
            trainer.predict(embedder, return_predictions=False)
        finally:
            embedder.close()


def _share(tasks: Sequence[Task], rank: int, world_size: int) -> list[Task]:
    """Take the part of one process: neighbouring windows, about as many crops as the others have."""
    sizes = np.array([task.n_crops for task in tasks])
    middles = np.cumsum(sizes) - sizes / 2
    ranks = np.floor(middles * world_size / max(1, sizes.sum())).astype(int)
    return [task for task, owner in zip(tasks, ranks, strict=True) if owner == rank]
