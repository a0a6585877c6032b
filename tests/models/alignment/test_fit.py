"""Training: it learns what both sides share, goes on from a checkpoint to the same bits, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stdistill.models.alignment.arguments import ALIGNMENT_DEFAULTS, check_fitting
from stdistill.models.alignment.fit import AlignmentData, FittedAlignment, fit_alignment
from stdistill.models.alignment.objective import Alignment

FAST: dict[str, Any] = {
    **ALIGNMENT_DEFAULTS,
    "width": 16,
    "hidden": 16,
    "n_dims": 8,
    "batch_size": 16,
    "progress_bar": False,
    "accelerator": "cpu",
    "max_epochs": 3,
}


def train(data: AlignmentData, training: np.ndarray | None = None, **changes: Any) -> FittedAlignment:
    arguments = FAST | changes
    check_fitting(arguments)  # type: ignore[arg-type]
    everything = np.ones(len(data.slide), dtype=bool) if training is None else training
    return fit_alignment(data, everything, arguments)  # type: ignore[arg-type]


def bits(fitted: FittedAlignment) -> list[bytes]:
    return [value.numpy().tobytes() for value in fitted.network.state_dict().values()]


@torch.inference_mode()
def share_found(fitted: FittedAlignment, data: AlignmentData, tiles: np.ndarray) -> float:
    """How many tiles find their partner first among these."""
    network = fitted.network.eval()
    he = network.embed_he({scale: torch.from_numpy(each[tiles]).float() for scale, each in data.images.items()})
    expression = network.embed_expression(data.graphs.batch(tiles), len(tiles))
    products = sum(he[scale] @ expression[scale].T for scale in he)
    return float((products.argmax(dim=1) == torch.arange(len(tiles))).float().mean())


@pytest.mark.parametrize("edges", ["stochastic", "none"])
def test_tiles_find_their_partners(make: Callable, edges: str) -> None:
    """Of tiles that it did not learn from; by chance one of twenty would be found."""
    data = make(n_side=10, n_cells=6, noise=0.2)
    training = np.ones(100, dtype=bool)
    test = np.arange(0, 100, 5)
    training[test] = False
    fitted = train(data, training, edges=edges, max_epochs=25, learning_rate=1e-2)
    assert share_found(fitted, data, test) >= 0.5
    last = fitted.history.iloc[-1]
    assert last["training_loss"] < fitted.history["training_loss"].iloc[0]
    assert last["alignment_macro"] < fitted.history["alignment_macro"].iloc[0]
    assert (last.filter(like="uniformity") < -1).all()


def test_the_same_seed_gives_the_same_bits(make: Callable) -> None:
    data = make()
    first = train(data)
    assert bits(train(data)) == bits(first)
    assert bits(train(data, seed=1)) != bits(first)
    assert bits(train(data, n_workers=1)) == bits(first)


def test_goes_on_from_a_checkpoint(make: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make()
    whole = train(data, max_epochs=4)
    step = Alignment.training_step

    def killed(self: Alignment, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Alignment, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(data, max_epochs=4, checkpoint_dir=tmp_path)
    monkeypatch.setattr(Alignment, "training_step", step)
    resumed = train(data, max_epochs=4, checkpoint_dir=tmp_path)
    assert bits(resumed) == bits(whole)
    pd.testing.assert_frame_equal(resumed.history, whole.history)


@pytest.mark.parametrize("change", ["cells", "radius_um", "scales", "edges"])
def test_a_checkpoint_of_another_run_is_refused(make: Callable, tmp_path: Path, change: str) -> None:
    data = make()
    train(data, max_epochs=1, checkpoint_dir=tmp_path)
    changes: dict[str, Any] = {"radius_um": 10.0, "scales": ("macro",), "edges": "all"}
    if change == "cells":
        data = make(cells=data.graphs.cells + 1)
    with pytest.raises(ValueError, match="checkpoint is of another run"):
        train(data, max_epochs=1, checkpoint_dir=tmp_path, **{change: changes[change]} if change in changes else {})


def test_some_scales_alone(make: Callable) -> None:
    fitted = train(make(), scales=("macro",))
    assert fitted.network.scales == ["macro"]
    assert {name for name in fitted.history if name.startswith("alignment")} == {"alignment_macro"}


def test_a_collapse_is_noticed(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with weights that blow up: all tiles come out the same."""
    data = make()
    monkeypatch.setattr("stdistill.models.alignment.network.standardize", lambda features, mean, std: features * 0 + 1)
    with pytest.warns(UserWarning, match=r"collapsed: by uniformity_he_micro.*tiles are all but the same"):
        train(data, dropout=0.0)


def test_what_cannot_be_learned_from_is_refused(make: Callable) -> None:
    data = make()
    one = np.zeros(36, dtype=bool)
    one[3] = True
    with pytest.raises(ValueError, match="needs tiles to tell apart, and there are 1"):
        train(data, one)
    with pytest.raises(ValueError, match="cells of the training are the same by what is known of their expression"):
        train(make(cells=np.ones_like(data.graphs.cells)))
    same = {**data.images, "meso": np.ones_like(data.images["meso"])}
    with pytest.raises(ValueError, match="tiles of the training are the same by the H&E features of the scale 'meso'"):
        train(data._replace(images=same))


@pytest.mark.parametrize(("n_side", "n_epochs"), [(3, 200), (12, 174), (25, 40), (36, 20)])
def test_small_slides_train_for_more_epochs(
    make: Callable, monkeypatch: pytest.MonkeyPatch, n_side: int, n_epochs: int
) -> None:
    monkeypatch.setattr("stdistill.models.alignment.fit.fit", lambda objective: asked.append(objective) or history)
    asked: list[Alignment] = []
    history = pd.DataFrame({"training_loss": [1.0]})
    train(make(n_side=n_side, n_cells=2), max_epochs=None)
    assert asked[0].arguments["max_epochs"] == n_epochs


def test_places_are_left_out_whole(make: Callable) -> None:
    graphs = make().graphs
    tiles = np.arange(36)
    half = [graphs.batch(tiles, left_out=0.5, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(half[0].cells, half[1].cells)
    assert not torch.equal(half[0].tile, half[2].tile)
    assert 0.4 < len(half[0].cells) / len(graphs.batch(tiles).cells) < 0.6
    whole = graphs.batch(tiles)
    for pairs in (half[0].micro, half[0].meso, half[0].macro):
        assert torch.equal(half[0].tile[pairs[0]], half[0].tile[pairs[1]])
    left = {tuple(cell) for cell in half[0].cells.tolist()}
    beside = [{tuple(each.cells[end].tolist()) for end in each.micro.T.unique()} for each in (whole, half[0])]
    assert beside[1] == beside[0] & left  # who had a neighbour and is there still has it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": ("macro", "nano")}, "scales must be some of"),
        ({"scales": "macro"}, "scales must be some of"),
        ({"scales": ()}, "scales must be some of"),
        ({"scales": ("macro", "macro")}, "each once"),
        ({"edges": "some"}, "edges must be one of"),
        ({"radius_um": 0}, "radius_um"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_pairs": 0}, "max_pairs"),
        ({"batch_size": 1}, "batch_size"),
        ({"dropout": 1.0}, "dropout must be a number from 0 to less than 1"),
        ({"place_dropout": True}, "place_dropout must be a number"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        check_fitting(FAST | changes)  # type: ignore[arg-type]


TWO_PROCESSES = """
import sys
import torch
sys.path.insert(0, {folder!r})
from conftest import make_data
from test_fit import train
torch.set_num_threads(1)
how = {{"batch_size": 8, "dropout": 0.0, "place_dropout": 0.0, "edges": "all", "max_epochs": 4}}
how |= {{"devices": 2, "strategy": "ddp"}}
fitted = train(make_data(n_side=6), **how)
if int(__import__("os").environ.get("LOCAL_RANK", 0)) == 0:
    torch.save(fitted.network.state_dict(), sys.argv[1])
    fitted.history.to_csv(sys.argv[1] + ".csv")
"""


def test_two_processes_train_as_one(make: Callable, tmp_path: Path) -> None:
    """The negatives of each are the tiles of both."""
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES.format(folder=str(Path(__file__).parent)))
    subprocess.run([sys.executable, str(script), str(tmp_path / "weights")], check=True, cwd=tmp_path, timeout=300)
    alone = train(make(n_side=6), batch_size=16, dropout=0.0, place_dropout=0.0, edges="all", max_epochs=4)
    found = torch.load(tmp_path / "weights", weights_only=True)
    for name, expected in alone.network.state_dict().items():
        torch.testing.assert_close(found[name], expected, atol=2e-4, rtol=2e-3, msg=name)
    history = pd.read_csv(tmp_path / "weights.csv")
    np.testing.assert_allclose(history["training_loss"], alone.history["training_loss"], rtol=1e-3)
