"""From features of tiles and cells to a trained alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from stdistill._support.arrays import Float64s, Floats, Integers, Mask
from stdistill._support.files import digest
from stdistill._support.warn import warn
from stdistill._training.arguments import default_epochs
from stdistill._training.fingerprint import fingerprint_run
from stdistill._training.state import own_torch_state
from stdistill._training.trainer import fit, seeded
from stdistill.models.alignment.arguments import FittingArguments, network_arguments
from stdistill.models.alignment.network import AlignmentNetwork
from stdistill.models.alignment.objective import Alignment
from stdistill.models.alignment.tiles import PIXELS, CellGraphs, TileDataset
from stdistill.models.features import ReadableRows, digest_rows, feature_statistics

TILES_SEEN = 25_000
"""Tiles that training sees by default, all epochs together, within `EPOCHS` (our choice)."""
EPOCHS = (20, 200)
COLLAPSED = -0.05
"""Uniformity above this: the tiles of a side are all but the same (our choice; spread evenly it is about -3.9)."""


class AlignmentData(NamedTuple):
    """The tiles of all slides, one after the other."""

    images: Mapping[str, Floats]
    """(n_tiles, d) features of each scale."""
    graphs: CellGraphs
    slide: Integers
    """(n_tiles,), number of each tile's slide."""
    centers: Float64s
    """(n_tiles, 2), µm."""
    side_um: float


class Tuning(NamedTuple):
    """An encoder that learns as well, and what it sees."""

    encoder: nn.Module
    """Makes features of each scale, (b, d), of pixels (b, 3, side, side). It is trained in place."""
    pixels: ReadableRows
    """(n_tiles, 3, side, side), 0 to 255."""


class FittedAlignment(NamedTuple):
    """A trained network and how it came about."""

    network: AlignmentNetwork
    history: pd.DataFrame
    size: dict[str, Any]
    """Arguments of the network."""
    training: dict[str, Any]
    """Numbers of tiles and epochs."""


@own_torch_state()
def fit_alignment(
    data: AlignmentData, training: Mask, arguments: FittingArguments, tuning: Tuning | None = None
) -> FittedAlignment:
    """Fit the alignment that the arguments describe.

    Parameters
    ----------
    data
        The tiles.
    training
        (n_tiles,), those to train on; they have features at all scales, and cells.
    arguments
        How to fit, complete.
    tuning
        The encoder whose features the data holds, to learn from pixels. The scale stays that of these features.
    """
    tiles = np.flatnonzero(training)
    if len(tiles) < 2:
        msg = f"A contrast needs tiles to tell apart, and there are {len(tiles)} to train on."
        raise ValueError(msg)
    if arguments["max_epochs"] is None:
        arguments = {**arguments, "max_epochs": default_epochs(len(tiles), TILES_SEEN, EPOCHS)}
    size = network_arguments(arguments)
    images: dict[str, Floats] = {scale: data.images[scale] for scale in arguments["scales"]}
    network = _new_network(data, images, tiles, size, arguments["seed"])
    with_candidates = arguments["edges"] != "none"
    objective = Alignment(
        network,
        TileDataset(
            images if tuning is None else {PIXELS: tuning.pixels},
            data.graphs,
            data.slide,
            data.centers,
            with_candidates=with_candidates,
            left_out=arguments["place_dropout"],
        ),
        data.side_um,
        fitting=tiles,
        arguments=arguments,
        fingerprint=fingerprint_run(
            arguments,
            arguments["place_dropout"],
            arguments["radius_um"],
            arguments["max_pairs"],
            arguments["finetune_blocks"],
            n_training_tiles=len(tiles),
            tiles=digest(tiles, data.centers[tiles]),
            # Only a checkpoint has to know its features from others.
            features=None if arguments["checkpoint_dir"] is None else _digest(data, images, tiles),
            network=str(sorted(size.items())),
        ),
        encoder=None if tuning is None else tuning.encoder,
    )
    history = fit(objective)
    _warn_of_collapse(history)
    facts = {"n_training_tiles": len(tiles), "n_epochs": len(history), "n_dense_tiles": data.graphs.pairs_left_out()}
    return FittedAlignment(network, history, size, facts)


def _new_network(
    data: AlignmentData, images: Mapping[str, Floats], tiles: Integers, size: dict[str, Any], seed: int
) -> AlignmentNetwork:
    """Build a network with random weights and the scale of the training tiles and of their cells."""
    cells = data.graphs.cells
    with seeded(seed):
        network = AlignmentNetwork({scale: each.shape[1] for scale, each in images.items()}, cells.shape[1], **size)
    for scale, features in images.items():
        mean, std = feature_statistics([features], tiles)
        _check_varies(std, f"the H&E features of the scale {scale!r}", "tiles")
        network.he[scale].set_scale(mean, std)  # type: ignore[operator]
    at, _ = data.graphs.rows(tiles)
    mean, std = feature_statistics([cells], data.graphs.order[at])
    _check_varies(std, "what is known of their expression", "cells")
    network.expression.set_scale(mean, std, torch.from_numpy(data.graphs.n_cells[tiles]))
    return network


def _check_varies(std: Any, what: str, of: str) -> None:
    if not (std > 0).any():
        msg = f"All {of} of the training are the same by {what}: nothing can be told from them."
        raise ValueError(msg)


def _digest(data: AlignmentData, images: Mapping[str, Floats], tiles: Integers) -> str:
    """Tell what is learned from from other features and cells."""
    graphs = data.graphs
    at, which = graphs.rows(tiles)
    rows = graphs.order[at]
    seen = [digest_rows(features, tiles) for features in images.values()]
    return digest(*seen, digest_rows(graphs.cells, rows), which, graphs.code[at], graphs.centers[rows])


def _warn_of_collapse(history: pd.DataFrame) -> None:
    """Warn when the tiles of a side all look the same."""
    last = history.iloc[-1]
    alike = [name for name in history.columns if name.startswith("uniformity") and last[name] > COLLAPSED]
    if alike:
        warn(
            f"The alignment collapsed: by {', '.join(alike)} (near 0) tiles are all but the same. Lower learning_rate, "
            "or look at the features: sd.pl.training shows the history."
        )
