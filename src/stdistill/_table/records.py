"""How each step was run: parameters and versions in ``.uns["stdistill"][step]``, or ``.attrs`` of a SpatialData."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from stdistill._table import schema

if TYPE_CHECKING:
    from spatialdata import SpatialData

UNFIT = re.compile(r"[^\w.-]+")
"""What a column's name may hold, and a key on disk may not."""
TEXT = {
    *("encoder", "fingerprint", "graph", "images", "key_added", "labels", "licence", "model_sha256", "revision"),
    *("target", "target_key", "teacher_key"),
}
NUMBERS = {
    *("context", "crop_px", "crop_um", "mean_neighbors", "mpp", "n_augmented", "n_cells", "n_tiles", "radius_um"),
    "seen_px",
}
"""Entries that later steps go by, in whichever record they are."""


def write_record(adata: AnnData, step: str, **params: Any) -> None:
    """Write `params` and the version of stdistill under the name of the step.

    A step that adds results under a `key_added` has a record for each, but for its default, under its own name. What
    another step of the same kind recorded under that key is gone, as its result is; unless both are of one model.

    Parameters that are `None` are left out: neither h5ad nor zarr keeps a `None` inside a list, and a
    missing key reads the same.
    """
    kept = {name: value for name, value in params.items() if value is not None}
    records = dict(_all_records(adata))
    key_added = params.get("key_added")
    for other in _replaced_by(step):
        name = _name(other, key_added)
        if name in records and not _is_same_model(records[name], kept):
            del records[name]
    records[_name(step, key_added)] = {**kept, "stdistill_version": version("stdistill")}
    adata.uns[schema.RECORD] = records


def read_record(adata: AnnData, step: str, key_added: str | None = None) -> dict[str, Any]:
    """Return what `write_record` wrote for the step (and the key), empty when it has not been run."""
    return _one_record(_all_records(adata), _name(step, key_added), ".uns")


def drop_record(adata: AnnData, step: str, key_added: str | None = None) -> None:
    """Take away what `write_record` wrote for the step (and the key), if anything."""
    records, name = dict(_all_records(adata)), _name(step, key_added)
    if name in records:
        del records[name]
        adata.uns[schema.RECORD] = records


def find_record(adata: AnnData, steps: Iterable[str], key_added: str) -> tuple[str | None, dict[str, Any]]:
    """Return the first of the steps that has a record of what stands under the key, and the record."""
    for step in steps:
        record = read_record(adata, step, key_added)
        if record and record.get("key_added", key_added) == key_added:
            return step, record
    return None, {}


def records_of(adata: AnnData, steps: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return all records of the steps, whatever their keys, with the name of the step."""
    records = _all_records(adata)
    named = [(step, name) for step in steps for name in records if name.startswith(step)]
    found = [(step, name, _one_record(records, name, ".uns")) for step, name in named]
    return [
        (step, record) for step, name, record in found if name == step or name == _name(step, record.get("key_added"))
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
    records = dict(_all_records(sdata))
    sdata.attrs[schema.RECORD] = {**records, step: {**plain, "stdistill_version": version("stdistill")}}


def read_slide_step(sdata: SpatialData, step: str) -> dict[str, Any]:
    """Return what `write_slide_step` wrote, empty when the step has not been run."""
    return _one_record(_all_records(sdata), step, ".attrs")


def _name(step: str, key_added: str | None) -> str:
    if key_added is None or step not in schema.ADDED_BY or key_added == schema.ADDED_BY[step]:
        return step
    return f"{step}_{UNFIT.sub('-', key_added)}"


def _all_records(data: AnnData | SpatialData) -> Mapping[str, Any]:
    """Return the records as they are, which others may have written to."""
    where, holder = (".uns", data.uns) if isinstance(data, AnnData) else (".attrs", data.attrs)
    records = holder.get(schema.RECORD, {})
    if not isinstance(records, Mapping):
        msg = (
            f'{where}["{schema.RECORD}"] is a {type(records).__name__}, where the records of the steps are expected: '
            f'take it away, del {where}["{schema.RECORD}"], or run the steps again.'
        )
        raise TypeError(msg)
    return records


def _one_record(records: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return a record, empty where there is none, checked as far as later steps go by it."""
    found = records.get(name, {})
    wrong = None if isinstance(found, Mapping) else f"is a {type(found).__name__}"
    if wrong is None:
        for kind, entries in ((str, TEXT), ((int, float, np.number), NUMBERS)):
            for entry in entries & found.keys():
                if not isinstance(found[entry], kind):
                    wrong = f"holds {entry}={found[entry]!r}, a {type(found[entry]).__name__}"
    if wrong is not None:
        msg = (
            f'{where}["{schema.RECORD}"]["{name}"] {wrong}: it is not what the step wrote. Run the step again, or take '
            f'the record away, del {where}["{schema.RECORD}"]["{name}"], if you know what the result is of.'
        )
        raise TypeError(msg)
    return dict(found)
