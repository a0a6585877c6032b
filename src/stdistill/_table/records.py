"""How each step was run: parameters and versions in ``.uns["stdistill"][step]``, or ``.attrs`` of a SpatialData."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from stdistill._table import schema

if TYPE_CHECKING:
    from spatialdata import SpatialData

UNFIT = re.compile(r"[^\w.-]+")
"""What a column's name may hold, and a key on disk may not."""


def write_record(adata: AnnData, step: str, **params: Any) -> None:
    """Write `params` and the version of stdistill under the name of the step.

    A step that adds results under a `key_added` has a record for each, but for its default, under its own name.

    Parameters that are `None` are left out: neither h5ad nor zarr keeps a `None` inside a list, and a
    missing key reads the same.
    """
    kept = {name: value for name, value in params.items() if value is not None}
    records = dict(adata.uns.get(schema.RECORD, {}))
    records[_name(step, params.get("key_added"))] = {**kept, "stdistill_version": version("stdistill")}
    adata.uns[schema.RECORD] = records


def read_record(adata: AnnData, step: str, key_added: str | None = None) -> dict[str, Any]:
    """Return what `write_record` wrote for the step (and the key), empty when it has not been run."""
    return dict(adata.uns.get(schema.RECORD, {}).get(_name(step, key_added), {}))


def write_slide_step(sdata: SpatialData, step: str, **params: Any) -> None:
    """Write `params` and the version of stdistill to ``.attrs["stdistill"][step]``, as JSON can hold them."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in params.items()
        if value is not None
    }
    records = dict(sdata.attrs.get(schema.RECORD, {}))
    sdata.attrs[schema.RECORD] = {**records, step: {**plain, "stdistill_version": version("stdistill")}}


def read_slide_step(sdata: SpatialData, step: str) -> dict[str, Any]:
    """Return what `write_slide_step` wrote, empty when the step has not been run."""
    return dict(sdata.attrs.get(schema.RECORD, {}).get(step, {}))


def _name(step: str, key_added: str | None) -> str:
    if key_added is None or step not in schema.ADDED_BY or key_added == schema.ADDED_BY[step]:
        return step
    return f"{step}_{UNFIT.sub('-', key_added)}"
