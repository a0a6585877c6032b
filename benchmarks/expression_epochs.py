"""How long scVI has to be trained: held-out loss, and what the latent tells of niches, along the training.

    python benchmarks/expression_epochs.py --seeds 1 2 --n-cells 1000

Simulated slides, each of another tissue. scVI is trained as `sd.pp.embed_expression` does, but for all epochs; at some
of them the latent is taken, averaged over each cell's neighbourhood, and clustered by k-means into as many niches as
there are. The adjusted Rand index is that with the true niches. Below, for each patience of early stopping on the loss:
in which epoch the training would have ended, the loss there, and the index in the nearest epoch that was looked at.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scvi
from anndata import AnnData
from lightning.pytorch import Callback
from scipy.sparse import diags, identity
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import stdistill as sd
from stdistill.models.expression import ARCHITECTURE

LOOKS = (5, 10, 20, 30, 45, 60, 80, 100, 130, 170, 200, 250, 300, 350, 400)
"""Epochs after which the latent is taken."""


class Looks(Callback):
    """Looks at the latent after some epochs.

    Parameters
    ----------
    model
        That is trained.
    judge
        Returns the index of a latent.
    """

    def __init__(self, model: scvi.model.SCVI, judge: Callable[[npt.NDArray[np.float32]], float]) -> None:
        self.model, self.judge = model, judge
        self.losses: list[float] = []
        self.indices: dict[int, float] = {}
        self._spent, self._start = 0.0, time.process_time()

    def on_validation_epoch_end(self, trainer: Any, *_: Any) -> None:
        """Keep the loss, and print it with the index where it is time."""
        if trainer.sanity_checking:
            return
        epoch, now = trainer.current_epoch + 1, time.process_time()
        self.losses.append(float(trainer.callback_metrics["elbo_validation"]))
        if epoch in LOOKS:
            self.model.is_trained = True
            self.indices[epoch] = self.judge(self.model.get_latent_representation(batch_size=4096))
            self.model.is_trained = False
            seconds = now - self._start - self._spent
            print(f"{epoch:8}{self.losses[-1]:16.2f}{self.indices[epoch]:8.3f}{seconds:12.1f}", flush=True)
            self._spent += time.process_time() - now


def measure(seed: int, n_cells: int, max_epochs: int) -> Looks:
    """Train on the slide of a seed, and print what is known along the way."""
    with tempfile.TemporaryDirectory() as folder:
        outs = sd.datasets.simulate_xenium(Path(folder) / "outs", n_cells=n_cells, seed=seed, he_mpp=2.0)
        cells = sd.pp.read_xenium(outs, he_image=False).tables["table"]
        truth = pd.read_parquet(f"{outs}_truth.parquet").set_index("cell_id").loc[cells.obs_names, "niche"]
    sd.pp.neighborhoods(cells, n_neighbors=30)
    near = cells.obsp["spatial_connectivities"] + identity(cells.n_obs)
    near = diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near

    def judge(latent: npt.NDArray[np.float32]) -> float:
        found = KMeans(truth.nunique(), n_init=5, random_state=0).fit_predict(near @ latent)
        return float(adjusted_rand_score(truth, found))

    counts = AnnData(cells.X)
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(counts)
    model = scvi.model.SCVI(counts, n_latent=10, **ARCHITECTURE)
    looks = Looks(model, judge)
    quick = {"enable_progress_bar": False, "callbacks": [looks], "accelerator": "cpu", "batch_size": 128}
    print(f"seed {seed}, {n_cells} cells\n{'epoch':>8}{'held-out loss':>16}{'ARI':>8}{'CPU seconds':>12}", flush=True)
    model.train(max_epochs=max_epochs, check_val_every_n_epoch=1, **quick)
    return looks


def stopped(losses: Sequence[float], patience: int, min_delta: float) -> int:
    """Return the epoch in which a training ends that stops when the loss has not fallen for `patience` epochs."""
    best, since = np.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        best, since = (loss, 0) if loss < best - min_delta else (best, since + 1)
        if since >= patience:
            return epoch
    return len(losses)


def main() -> None:
    """Print what is known along the training, and where early stopping would have ended it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--n-cells", type=int, default=1000)
    parser.add_argument("--max-epochs", type=int, default=400)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    for seed in asked.seeds:
        looks = measure(seed, asked.n_cells, asked.max_epochs)
        for patience in (5, 10, 20, 45):
            for min_delta in (0.0, 0.05, 0.2):
                end = stopped(looks.losses, patience, min_delta)
                near = min(looks.indices, key=lambda epoch: abs(epoch - end))
                print(
                    f"patience {patience}, least {min_delta}: epoch {end}, loss {looks.losses[end - 1]:.2f}, "
                    f"ARI {looks.indices[near]:.3f} after {near}"
                )
        print("losses " + " ".join(f"{loss:.2f}" for loss in looks.losses), flush=True)


if __name__ == "__main__":
    main()
