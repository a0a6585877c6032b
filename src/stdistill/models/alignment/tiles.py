"""Tiles as the model reads them: the cells of each with what they express, and what the H&E shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stdistill._support.arrays import Float64s, Floats, Integers
from stdistill._training.sampling import BatchRequest
from stdistill.models.alignment.pairs import candidate_pairs, near_pairs
from stdistill.models.features import ReadableRows

SIDE = 4
"""Micro places along the side of a tile; a meso place is 2 × 2 of them."""
PIXELS = "pixels"
"""Stands for the scales where tiles are read as they are, to be encoded in training."""


class Graphs(NamedTuple):
    """The cells of some tiles."""

    cells: Tensor
    """(n, d), what each expresses."""
    tile: Tensor
    """(n,), place of its tile among those of the batch."""
    micro: Tensor
    """(2, n_edges): cells of one micro place that are near, and the cells that these hear from."""
    meso: Tensor
    """(2, n_pairs): candidates, cells of one meso place that lie in different micro places."""
    macro: Tensor
    """(2, n_pairs): candidates, cells of the tile that lie in different meso places."""
    n_cells: Tensor
    """(b,), cells of each tile, with those that are left out of the training."""


class TileBatch(NamedTuple):
    """Some tiles."""

    images: dict[str, Tensor]
    """(b, d) of each scale, or `PIXELS` (b, 3, side, side), 0 to 255."""
    graphs: Graphs
    slide: Tensor
    """(b,), number of each tile's slide."""
    centers: Tensor
    """(b, 2), µm."""


class CellGraphs:
    """The cells of tiles, from which batches of graphs are made.

    Parameters
    ----------
    cells
        (n, d), what each cell expresses; without NaN.
    centers
        (n, 2), µm.
    tile
        (n,), the row of each cell's tile.
    place
        (n,), its micro place in the tile, row by row.
    n_tiles
        Number of tiles.
    radius_um
        Cells of one micro place that lie within it are connected.
    max_pairs
        Candidates of a tile and scale that are kept, the nearest.
    """

    def __init__(
        self,
        cells: Floats,
        centers: Float64s,
        tile: Integers,
        place: Integers,
        n_tiles: int,
        *,
        radius_um: float,
        max_pairs: int,
    ) -> None:
        row, column = np.divmod(place, SIDE)
        meso = row // 2 * 2 + column // 2
        micro = meso * 4 + row % 2 * 2 + column % 2
        code = tile.astype(np.int64) * SIDE**2 + micro
        self.order = np.argsort(code, kind="stable")
        """Rows (n,) of the cells, tile by tile and place by place."""
        self.code = code[self.order]
        self.cells = cells
        self.centers = centers
        self.starts = np.searchsorted(self.code, np.arange(n_tiles + 1) * SIDE**2)
        self.radius_um = radius_um
        self.max_pairs = max_pairs

    @property
    def n_cells(self) -> Integers:
        """(n_tiles,), cells of each."""
        return np.diff(self.starts)

    def rows(self, tiles: Integers) -> tuple[Integers, Integers]:
        """Return the cells of some tiles in the order of a batch: their places in `order`, and of their tiles."""
        sizes = self.n_cells[tiles]
        which = np.repeat(np.arange(len(tiles)), sizes)
        within = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.starts[tiles][which] + within, which

    def batch(
        self,
        tiles: Integers,
        *,
        with_candidates: bool = True,
        left_out: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Graphs:
        """Make the graphs of some tiles, without the cells of a share of their micro places that is drawn.

        Whole places: of cells left out one by one, the others would be beside nobody.
        """
        at, which = self.rows(tiles)
        if rng is not None:
            kept = (rng.random((len(tiles), SIDE**2)) >= left_out)[which, self.code[at] % SIDE**2]
            at, which = at[kept], which[kept]
        rows = self.order[at]
        micro = which * SIDE**2 + self.code[at] % SIDE**2
        meso = micro // 4
        centers = self.centers[rows]
        near = near_pairs(micro, centers, self.radius_um)
        none = np.zeros((2, 0), dtype=np.int64)
        if with_candidates:
            candidates = [
                candidate_pairs(groups, parts, which, centers, self.max_pairs).both_ways()
                for groups, parts in ((meso, micro), (which, meso))
            ]
        else:
            candidates = [none, none]
        cells = np.asarray(self.cells[rows], dtype=np.float32)
        made = (cells, which, near.both_ways(), *candidates, self.n_cells[tiles])
        return Graphs(*map(torch.from_numpy, made))

    def pairs_left_out(self) -> int:
        """Count the tiles of which some candidates are left out, at either scale."""
        n_tiles = len(self.n_cells)
        within = []
        for n_places in (1, 4, SIDE**2):
            place = self.code // (SIDE**2 // n_places)
            n = np.bincount(place, minlength=n_tiles * n_places).reshape(n_tiles, n_places)
            within.append((n * (n - 1) // 2).sum(axis=1))
        tile, meso, micro = within
        return int((np.maximum(tile - meso, meso - micro) > self.max_pairs).sum())


class TileDataset(Dataset[TileBatch]):
    """Makes the batch of a request: some tiles with their cells.

    Parameters
    ----------
    images
        (n_tiles, d) features of each scale, or `PIXELS` (n_tiles, 3, side, side).
    graphs
        The cells of the tiles.
    slide
        (n_tiles,), number of each tile's slide.
    centers
        (n_tiles, 2), µm.
    with_candidates
        Whether pairs between places are read.
    left_out
        Share of the micro places whose cells are left out, others each time.
    """

    def __init__(
        self,
        images: Mapping[str, Floats | ReadableRows],
        graphs: CellGraphs,
        slide: Integers,
        centers: Float64s,
        *,
        with_candidates: bool,
        left_out: float,
    ) -> None:
        self.images = images
        self.graphs = graphs
        self.slide = slide
        self.centers = centers
        self.with_candidates = with_candidates
        self.left_out = left_out

    def __getitem__(self, request: BatchRequest) -> TileBatch:
        tiles = request.rows
        rng = np.random.default_rng(request.seed)
        graphs = self.graphs.batch(tiles, with_candidates=self.with_candidates, left_out=self.left_out, rng=rng)
        return TileBatch(
            {scale: as_float(features, tiles) for scale, features in self.images.items()},
            graphs,
            torch.from_numpy(self.slide[tiles]),
            torch.from_numpy(self.centers[tiles]),
        )


def as_float(features: Floats | ReadableRows, rows: Integers) -> Tensor:
    """Read some rows as float32."""
    return torch.from_numpy(np.asarray(features[rows], dtype=np.float32))
