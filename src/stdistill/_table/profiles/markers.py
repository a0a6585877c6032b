"""Marker genes of niches, by scanpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from stdistill._measures.labels import Labels
from stdistill._measures.profiles.profile import COLUMNS
from stdistill._support.arrays import Integers, Mask

FEWEST_CELLS = 10
"""Niches of fewer cells with counts have no markers: neither mean nor variance is known."""
NAMES = {
    "names": "gene",
    "scores": "score",
    "logfoldchanges": "log2_fold_change",
    "pct_nz_group": "share_in",
    "pct_nz_reference": "share_out",
    "pvals": "p",
    "pvals_adj": "q",
}
"""scanpy's columns, and ours."""


def rank_markers(
    counts: Any, genes: pd.Index, labels: Labels, cells: Mask, n_markers: int | None
) -> tuple[pd.DataFrame, Integers]:
    """Rank the genes of each niche against the cells of all other niches, by Welch's t on log-normalised counts.

    Parameters
    ----------
    counts
        Raw counts (n, genes), CSR or an array; they stay as they are.
    genes
        Names of the genes.
    labels
        Niches of the n cells.
    cells
        The cells to use.
    n_markers
        Genes to keep of each niche, of those that it has more of than the rest; `None`: all genes, whichever way.

    Returns
    -------
    The markers, and how many cells of each niche they are of. Sparse counts stay sparse: no more than copies of those
    of the cells that are used are made.
    """
    import scanpy as sc

    totals = np.asarray(counts.sum(axis=1)).ravel()
    used = np.flatnonzero(cells & labels.known & (totals > 0))
    sizes = np.bincount(labels.codes[used], minlength=len(labels.names))
    tested = [str(code) for code in np.flatnonzero(sizes >= FEWEST_CELLS)]
    if not tested or (sizes > 0).sum() < 2:
        return pd.DataFrame(columns=COLUMNS["markers"]), sizes
    adata = AnnData(
        csr_matrix(counts[used], dtype=np.float32),  # a copy
        obs=pd.DataFrame({"niche": pd.Categorical(labels.codes[used].astype(str))}, index=used.astype(str)),
        var=pd.DataFrame(index=genes),
    )
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.tl.rank_genes_groups(adata, "niche", groups=tested, method="t-test", pts=True)
    found = [_markers_of(adata, labels.names[int(code)], code, n_markers) for code in tested]
    return pd.concat(found, ignore_index=True), sizes


def _markers_of(adata: AnnData, niche: str, code: str, n_markers: int | None) -> pd.DataFrame:
    """Take the genes of one niche out of scanpy's result."""
    import scanpy as sc

    frame: pd.DataFrame = sc.get.rank_genes_groups_df(adata, group=code).rename(columns=NAMES)
    if n_markers is not None:
        frame = frame[frame["log2_fold_change"] > 0].head(n_markers).copy()
    frame["niche"] = niche
    return frame[COLUMNS["markers"]].reset_index(drop=True)
