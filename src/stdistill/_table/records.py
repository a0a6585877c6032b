"""How each step was run: parameters and versions in ``.uns["stdistill"][step]``, or ``.attrs`` of a SpatialData."""

from __future__ import annotations

import re
from collections.abc import Iterable
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

    A step that adds results under a `key_added` has a record for each, but for its default, under its own name. What
    another step of the same kind recorded under that key is gone, as its result is; unless both are of one model.

    Parameters that are `None` are left out: neither h5ad nor zarr keeps a `None` inside a list, and a
    missing key reads the same.
    """
    kept = {name: value for name, value in params.items() if value is not None}
    records = dict(adata.uns.get(schema.RECORD, {}))
    key_added = params.get("key_added")
    for other in _replaced_by(step):
        name = _name(other, key_added)
        if name in records and not _is_same_model(records[name], kept):
            del records[name]
    records[_name(step, key_added)] = {**kept, "stdistill_version": version("stdistill")}
    adata.uns[schema.RECORD] = records


def read_record(adata: AnnData, step: str, key_added: str | None = None) -> dict[str, Any]:
    """Return what `write_record` wrote for the step (and the key), empty when it has not been run."""
    return dict(adata.uns.get(schema.RECORD, {}).get(_name(step, key_added), {}))


def find_record(adata: AnnData, steps: Iterable[str], key_added: str) -> tuple[str | None, dict[str, Any]]:
    """Return the first of the steps that has a record of what stands under the key, and the record."""
    for step in steps:
        record = read_record(adata, step, key_added)
        if record and record.get("key_added", key_added) == key_added:
            return step, record
    return None, {}


def records_of(adata: AnnData, steps: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return all records of the steps, whatever their keys, with the name of the step."""
    records = adata.uns.get(schema.RECORD, {})
    return [
        (step, dict(record))
        for step in steps
        for name, record in records.items()
        if name == step or name == _name(step, record.get("key_added"))
    ]


def augmented_keys(use_rep: str, n: int) -> list[str]:
    """Name the features of a slide as other laboratories would show it, which go with `use_rep`."""
    return [f"{use_rep}_augmented_{number}" for number in range(1, n + 1)]


def _replaced_by(step: str) -> list[str]:
    """Name the other steps whose result under a key is gone when this step writes one there."""
    return [other for kind in schema.KINDS_OF_STEPS if step in kind for other in kind if other != step]


def _is_same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one.get("model_sha256", 0) == other.get("model_sha256", 1))


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
