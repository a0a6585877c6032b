"""Where features come from: which of them may be trained on together, and which a model may be applied to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._slide.pyramid import is_same_mpp
from stdistill._support.arrays import Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.he.images import mark_images
from stdistill._table.loadings import describe_loadings, find_loadings
from stdistill._table.marks.cells import fingerprint_rows
from stdistill._table.provenance.results import kind_of_features
from stdistill._table.records import read_record
from stdistill.encoders._encoder import BY_WINDOWS, DENSE, UNKNOWN_REVISION

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models.feature_card import FeatureCard
    from stdistill.models.niche.card import ModelCard

Origin = dict[str, Any]
"""What is known of where features come from, under the names of a model's card; what is not known is left out."""

RECORDED = {
    "encoder": ("embed_he", "encoder"),
    "encoder_licence": ("embed_he", "licence"),
    "encoder_revision": ("embed_he", "revision"),
    "crop_px": ("embed_he", "crop_px"),
    "mpp": ("embed_he", "mpp"),
    "context": ("embed_he", "context"),
    "stain_normalization": ("embed_he", "stain_normalization"),
    "expression_model_sha256": ("embed_expression", "model_sha256"),
}
"""Entries of a model's card, and of which step's record they are."""
TELLS_APART = [entry for entry in RECORDED if entry != "encoder_licence"]
LOADINGS = "loadings"
"""What principal components are made of, which no record says: they are compared gene by gene."""
KIND = "kind"
"""What the column ``.obs["<key>_model"]`` says of features whose record was dropped, as where tables were joined."""

REMEDIES = {
    "expression_model_sha256": (
        "Latents of different scVI models are not comparable: compute them in one go on the concatenated tables with "
        "sd.pp.embed_expression(library_key=...), or with one saved model, sd.pp.embed_expression(model=...)."
    )
}
"""What to do about tables that differ, where it is not simply to use one for all."""


def origin_of(table: AnnData, use_rep: str) -> Origin:
    """Return what the table records about its features; nothing of those that were put there by hand."""
    records = {
        "embed_he": he_record(table, use_rep),
        "embed_expression": read_record(table, "embed_expression", use_rep),
    }
    # What only several tables say together, as uns_merge="same" leaves it, has no fingerprint, which differs.
    whole = [record for record in records.values() if "n_cells" in record and "fingerprint" in record]
    n_cells = max((int(record["n_cells"]) for record in whole), default=table.n_obs)
    if table.n_obs > n_cells:
        msg = (
            f"The table has {table.n_obs} cells, but its record of .obsm[{use_rep!r}] is of {n_cells}: it was "
            "concatenated with the records of one of several tables. Give the tables as a list, whose records are "
            'compared, or concatenate them with uns_merge="same", which keeps what all of them say.'
        )
        raise ValueError(msg)
    if n_cells == table.n_obs and use_rep in table.obsm and whole:
        _warn_of_other_features(table, use_rep, str(whole[0]["fingerprint"]))
    recorded = {entry: records[step].get(key) for entry, (step, key) in RECORDED.items()}
    loadings = find_loadings(table, use_rep)
    recorded[LOADINGS] = None if loadings is None else describe_loadings(loadings)
    return known_origin(
        {**_of_columns(table, use_rep), **{name: one for name, one in recorded.items() if one is not None}}
    )


def _of_columns(table: AnnData, use_rep: str) -> Origin:
    """Return what the columns of features say of all of them, which stays where records are dropped."""
    model, mpp = (table.obs.get(f"{use_rep}{suffix}") for suffix in (schema.MODEL_SUFFIX, schema.MPP_SUFFIX))
    kinds = [] if model is None else model.dropna().unique()
    return {
        KIND: str(kinds[0]) if len(kinds) == 1 else None,
        "mpp": None if mpp is None or mpp.isna().all() else float(mpp.mean()),
    }


def _warn_of_other_features(table: AnnData, use_rep: str, recorded: str) -> None:
    """Warn of features that are not those that were recorded, as where others were put under the same key."""
    if fingerprint_rows(np.asarray(table.obsm[use_rep])) != recorded:
        warn(
            f".obsm[{use_rep!r}] was changed since it was computed: what is recorded of it (encoder, model, µm per "
            "pixel) may not be true of it, and a model would be applied to features that were not changed so. Put what "
            "you make of features under a key of its own, use_rep=."
        )


def he_record(table: AnnData, use_rep: str) -> dict[str, Any]:
    """Return the record of H&E features of cells, or of one scale of tiles; empty when there is none."""
    record = read_record(table, "embed_he", use_rep)
    key_added, _, scale = use_rep.rpartition("_")
    if record or scale not in schema.SCALES:
        return record
    record = read_record(table, "embed_tiles", key_added)
    own = {"fingerprint": record.get(f"fingerprint_{scale}"), "n_cells": record.get("n_tiles")}
    return record | {name: value for name, value in own.items() if value is not None}


def images_of(table: AnnData, use_rep: str) -> list[str]:
    """Return the fingerprints of the H&E images that features show, as far as it is recorded."""
    images = he_record(table, use_rep).get("images")
    return [] if images is None else str(images).split("+")


def images_of_training(tables: Sequence[AnnData], use_rep: Sequence[str], trained: Sequence[Mask]) -> list[str] | None:
    """Return the fingerprints of the H&E images of rows that were trained on, each once; `None` where none is known."""
    seen = [table for table, rows in zip(tables, trained, strict=True) if rows.any()]
    return list(dict.fromkeys(image for table in seen for key in use_rep for image in images_of(table, key))) or None


def warn_of_other_images(
    sdata: SpatialData, table: AnnData, use_rep: str, image_keys: Iterable[str] | None = None
) -> None:
    """Warn when features were computed from another image than the one that is there.

    Parameters
    ----------
    sdata
        Holds the images.
    table, use_rep
        The features; of those without a record nothing is known.
    image_keys
        Names of the images; by default those that are recorded, as far as they are there.
    """
    embedded = images_of(table, use_rep)
    if image_keys is None:
        recorded = str(he_record(table, use_rep).get("image_key", "")).split(", ")
        image_keys = [key for key in recorded if key in sdata.images]
    names = list(dict.fromkeys(image_keys))
    if embedded and not set((mark_images(sdata, names) or "").split("+")) <= {*embedded, ""}:
        warn(
            f"{', '.join(map(repr, sorted(names)))} is not the image that .obsm[{use_rep!r}] was computed from: it was "
            "replaced since, or is a part of it. Crops are cut from the image that is there; niches, and whatever else "
            "a model tells, are of the features. If it was replaced, run sd.pp.embed_he again, and what stands on it."
        )


def origin_of_card(card: ModelCard | FeatureCard) -> Origin:
    """Return what is known of the features that a model was trained on."""
    known = known_origin({entry: getattr(card, entry) for entry in RECORDED})
    if "expression_model_sha256" in known:
        return known | {KIND: known["expression_model_sha256"][:16]}
    if "encoder" not in known or "crop_px" not in known:
        return known
    revision = known.get("encoder_revision", UNKNOWN_REVISION)
    crops = known["crop_px"], known["stain_normalization"], known["context"]
    kind = kind_of_features(known["encoder"], revision, *crops)
    return known | {KIND: kind}


def known_origin(values: Mapping[str, Any]) -> Origin:
    """Leave out what is not known."""
    known = {entry: value for entry, value in values.items() if value not in (None, UNKNOWN_REVISION)}
    if "encoder" in known:
        # Features with a record, and without these, were not normalised and are of crops alone.
        known = {"stain_normalization": None, "context": None, **known}
    return known


def find_difference(one: Origin, other: Origin) -> str | None:
    """Return the entry in which two origins differ, if any; what is not known of both differs from nothing."""
    for entry in TELLS_APART:
        if entry in one and entry in other and not _is_same(entry, one[entry], other[entry]):
            return entry
    unrecorded = any("encoder" not in each and "expression_model_sha256" not in each for each in (one, other))
    if unrecorded and KIND in one and KIND in other and one[KIND] != other[KIND]:
        return KIND
    if "encoder" in one and "encoder" in other and ways_of(one) != ways_of(other):
        return "encoder_revision"
    return None


def ways_of(origin: Origin) -> dict[str, str]:
    """Return the encoders whose features are not those of crops one by one, and how they were computed.

    Of earlier versions there are none.
    """
    names, revisions = (str(origin.get(entry) or "").split("+") for entry in ("encoder", "encoder_revision"))
    return {
        name: way
        for name, revision in zip(names, revisions, strict=False)
        for way in (BY_WINDOWS, DENSE)
        if revision.endswith(way)
    }


def tells_of_both(one: Origin, other: Origin) -> bool:
    """Whether two origins have an entry in common that says by which model features were computed."""
    return any(entry in one and entry in other for entry in ("encoder", "expression_model_sha256", KIND))


def common_origin(tables: Sequence[AnnData], use_rep: str) -> Origin:
    """Return what is known of where the tables' features come from; raise unless they may be trained on together."""
    origins = [origin_of(table, use_rep) for table in tables]
    for one, other in combinations(origins, 2):
        entry = find_difference(one, other)
        if entry == KIND:
            msg = f"{of_another_kind(use_rep, one, other, 'those of another table')} Use one for all."
            raise ValueError(msg)
        if entry is not None:
            msg = (
                f".obsm[{use_rep!r}] was computed with different {entry} in the tables: "
                f"[{', '.join(show(each.get(entry, UNKNOWN_REVISION)) for each in (one, other))}]. "
                f"{REMEDIES.get(entry, 'Use one for all.')}"
            )
            raise ValueError(msg)
    common: Origin = {}
    for origin in reversed(origins):  # the first that knows an entry has the last word
        common |= origin
    common.pop(KIND, None)  # what a model is trained on is known by more than that, or not at all
    return common


def of_another_kind(use_rep: str, found: Origin, expected: Origin, whose: str) -> str:
    """Say that features, whose record was dropped, were made otherwise than the features of `whose`."""
    return (
        f".obsm[{use_rep!r}] was computed by another model, or from other crops, than {whose}: "
        f".obs[{use_rep + schema.MODEL_SUFFIX!r}] is {found[KIND]!r}, and theirs {expected[KIND]!r}. (The table has no "
        "record that says more, as after anndata.concat without uns_merge.)"
    )


def show(value: object) -> str:
    """Write a value of an origin into a message."""
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _is_same(entry: str, one: Any, other: Any) -> bool:
    if entry == "mpp":
        return is_same_mpp(one, other)
    if entry == "encoder_revision":
        # Of several encoders, joined by "+", some may be known and some not.
        revisions = [one.split("+"), other.split("+")]
        return len(revisions[0]) == len(revisions[1]) and all(
            _is_same_revision(left, right) for left, right in zip(*revisions, strict=True)
        )
    return bool(one == other)


def _is_same_revision(one: str, other: str) -> bool:
    """Whether two revisions may be of one network; those of an earlier version do not tell the structure of modules."""
    short, long = sorted((one, other), key=len)
    return UNKNOWN_REVISION in (one, other) or one == other or long.startswith(f"{short}.")
