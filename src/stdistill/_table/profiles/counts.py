"""Raw counts of a table, checked to be some."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse

from stdistill._support.checks import check_key

CHUNK = 2**24
"""Values whose being counts is checked at a time."""


def get_counts(adata: AnnData, layer: str | None, who: str) -> Any:
    """Return raw counts (n, genes), checked to be counts: CSR or an array, shared with the table where it is either.

    Parameters
    ----------
    adata
        The table.
    layer
        Layer of the counts; `None`: ``.X``.
    who
        Who asks, for messages, with its verb: ``"scVI needs"``.
    """
    names = [key for key in adata.layers if key is not None]  # from anndata 0.13 on, None stands for .X among them
    if layer is not None:
        check_key(layer, names, "a layer of the table", argument="layer")
    matrix = adata.X if layer is None else adata.layers[layer]
    name = ".X" if layer is None else f".layers[{layer!r}]"
    layers = ", ".join(repr(key) for key in names)
    hint = (
        f"name the layer with raw counts in layer=; there is: {layers}."
        if layers
        else "there is no layer either that layer= could name. Read the slide again, and keep its raw counts."
    )
    if matrix is None:
        msg = f"The table has no .X: {hint}"
        raise ValueError(msg)
    matrix = AnnData(matrix).to_memory().X  # reads what is on disk, and shares what is in memory
    counts: Any = csr_matrix(matrix) if issparse(matrix) else np.asarray(matrix)
    values: npt.NDArray[Any] = counts.data if issparse(counts) else counts.ravel(order="K")
    if values.dtype.kind not in "iuf":
        msg = f"{name} holds {values.dtype}, and {who} raw counts: {hint}"
        raise ValueError(msg)
    for start in range(0, values.size, CHUNK):
        chunk = values[start : start + CHUNK]
        is_count = np.isfinite(chunk) & (chunk >= 0) & (chunk == np.floor(chunk))
        if not is_count.all():
            found = chunk[~is_count][0]
            kind = "normalised or log-transformed" if np.isfinite(found) and found > 0 else "scaled or spoilt"
            msg = f"{name} holds {found:g}, which is no count; the values look {kind}. {who} raw counts: {hint}"
            raise ValueError(msg)
    return counts
