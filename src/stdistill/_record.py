"""How each step was run: parameters and versions in ``.uns["stdistill"][step]``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from anndata import AnnData

from stdistill import _keys


def write_record(adata: AnnData, step: str, **params: Any) -> None:
    """Write `params` and the version of stdistill under the name of the step.

    A step that adds results under a `key_added` other than its own has a record for each of them.

    Parameters that are `None` are left out: neither h5ad nor zarr keeps a `None` inside a list, and a
    missing key reads the same.
    """
    kept = {name: value for name, value in params.items() if value is not None}
    records = dict(adata.uns.get(_keys.RECORD, {}))
    records[_name(step, params.get("key_added"))] = {**kept, "stdistill_version": version("stdistill")}
    adata.uns[_keys.RECORD] = records


def read_record(adata: AnnData, step: str, key_added: str | None = None) -> dict[str, Any]:
    """Return what `write_record` wrote for the step (and the key), empty when it has not been run."""
    return dict(adata.uns.get(_keys.RECORD, {}).get(_name(step, key_added), {}))


def _name(step: str, key_added: str | None) -> str:
    own = _keys.ADDED_BY.get(step)
    return step if own is None or key_added in (None, own) else f"{step}_{key_added}"
