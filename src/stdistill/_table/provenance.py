"""What a result stands on: the cells that were fitted, the graph, the features, the teacher; and the checks of it.

A step that makes something writes a fingerprint of it to its record. A step that fits names in its record the
fingerprints of what it stands on, and writes a column of the cells that it, or what it stands on, was fitted on. Both
survive subsetting, shuffling and writing, and concatenation drops at most the records. What has neither, such as labels
set by hand, passes all checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from stdistill._slide.scale import MPP_TOLERANCE
from stdistill._support.arrays import Mask
from stdistill._support.files import digest
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import find_split_key, get_centers, get_split
from stdistill._table.graph import decimals_apart, graph_fingerprint, is_same_radius
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.libraries import find_library_key
from stdistill._table.records import find_record, read_record, records_of

AGAIN = (
    "sd.pp.neighborhoods",
    "sd.pp.embed_expression",
    "sd.tl.nolan",
    "sd.tl.kmeans_niches",
    "sd.tl.leiden",
    "sd.tl.logistic_niches",
    "sd.tl.distill",
    "sd.tl.predict",
)
"""What may have to be run again, in this order."""
MOST_SHARED = 0.5
"""A larger share of test cells does not lie beside training cells where tissue is held out (our choice)."""


def fingerprint(*parts: str | npt.NDArray[Any]) -> str:
    """Tell what was made from what would be made otherwise."""
    return digest(*parts)[:16]


def write_fitted(adata: AnnData, key: str, cells: Mask | None, model: str | None = None) -> None:
    """Write which cells the result under a key was fitted on, and the fingerprint of what made it; `None`: not known.

    Both are columns, which stay with the cells where tables meet and their records are dropped.
    """
    columns = {
        f"{key}{schema.FITTED_SUFFIX}": None if cells is None else np.asarray(cells, dtype=bool),
        f"{key}{schema.MODEL_SUFFIX}": None if model is None else pd.Categorical([model[:16]]).repeat(adata.n_obs),
    }
    for column, values in columns.items():
        if values is not None:
            adata.obs[column] = values
        elif column in adata.obs:
            del adata.obs[column]


def kind_of_features(encoder: str, revision: str, crop_px: int, stain: str | None) -> str:
    """Tell H&E features of an encoder with its weights, of crops of a side and a stain, from all others."""
    return fingerprint(encoder, revision, str(crop_px), str(stain))


def write_kind(adata: AnnData, key: str, kind: str, mpp: float) -> None:
    """Write by which encoder, crops and stain the features under a key were computed, and at how many µm per pixel.

    Both are columns, which stay with the cells where tables of other features meet and their records are dropped.
    """
    adata.obs[f"{key}{schema.MODEL_SUFFIX}"] = pd.Categorical([kind]).repeat(adata.n_obs)
    adata.obs[f"{key}{schema.MPP_SUFFIX}"] = np.full(adata.n_obs, mpp, dtype=np.float32)


def fitted_cells(adata: AnnData, key: str) -> Mask:
    """Tell which cells the result under a key was fitted on, as far as it is known."""
    column = f"{key}{schema.FITTED_SUFFIX}"
    if column not in adata.obs:
        return np.zeros(adata.n_obs, dtype=bool)
    _warn_of_missing_cells(adata, key)
    words = set(map(str, adata.obs[column].dropna().unique())) - {"True", "False"}
    if words:
        msg = f".obs[{column!r}] holds {sorted(words)[:5]}; expected True and False, for cells that were fitted on."
        raise TypeError(msg)
    if not pd.api.types.is_bool_dtype(adata.obs[column].dtype):  # text, as a CSV has it, or missing where tables met
        return np.asarray(adata.obs[column].astype(str) == "True")
    known: Mask = (adata.obs[column] == True).fillna(False).to_numpy(dtype=bool)  # noqa: E712 (missing where tables without it were added)
    return known


def _warn_of_missing_cells(adata: AnnData, key: str) -> None:
    """Warn of cells that have a result of which nobody says whether it was fitted on them, as where tables met."""
    column, niches = f"{key}{schema.FITTED_SUFFIX}", f"{key}{NICHE_SUFFIX}"
    missing = adata.obs[column].isna()
    if niches in adata.obs:
        missing &= adata.obs[niches].notna()
    if missing.any():
        warn(
            f".obs[{column!r}] is missing for {missing.sum()} cells: whether {key!r} was fitted on them is not known, "
            "and they count as cells that it was not. Tables that are concatenated need the column each; fill it in: "
            f"adata.obs[{column!r}] = adata.obs[{column!r}].fillna(True), or False where you know it."
        )


def _warn_of_lost_cells(adata: AnnData, key: str) -> None:
    """Warn of niches of a model that nothing is known of any more, as where tables met of which one did not know it."""
    column = f"{key}{schema.FITTED_SUFFIX}"
    if column in adata.obs or f"{key}_logit_0" not in adata.obs or result_of(adata, key)[2]:
        return
    warn(
        f"Which cells {key!r} was fitted on is not known: there is neither .obs[{column!r}] nor a record, as when "
        "anndata.concat met a table without the column. The test cells may be among them. Run sd.tl.predict again "
        f"with its model, which knows its cells, or set .obs[{column!r}] to True and False."
    )


def stands_on(adata: AnnData, use_rep: str, *, graph: bool, teacher_key: str | None = None) -> dict[str, Any]:
    """Return what the record of a step says of its input; `None` for what is not known, or is not used."""
    _, record = find_record(adata, schema.FEATURE_STEPS, use_rep)
    return {
        "features": record.get("fingerprint"),
        "graph": graph_fingerprint(adata) if graph else None,
        "crop_um": record.get("crop_um"),
        **({} if teacher_key is None else {"teacher": _teacher_of(adata, teacher_key)}),
    }


def _teacher_of(adata: AnnData, teacher_key: str) -> str | None:
    """Return the fingerprint of a teacher, or of labels that were set by hand, whatever the order of the cells."""
    _, step, record = result_of(adata, teacher_key)
    if step is not None or teacher_key not in adata.obs:
        return record.get("fingerprint")
    return fingerprint_labels(adata, teacher_key)


def fingerprint_labels(adata: AnnData, key: str) -> str:
    """Tell the labels in a column from others, whatever the order of the cells."""
    labels = adata.obs[key].astype(object).map(str, na_action="ignore").fillna("").to_numpy(dtype=str)
    order = np.lexsort((labels, *get_centers(adata).T))
    return fingerprint(labels[order])


def add_inherited(adata: AnnData, cells: Mask, use_rep: str, teacher_key: str | None = None) -> Mask:
    """Add to the cells that something is fitted on those that its features and its teacher were fitted on.

    It holds then whatever becomes of these. A latent that was fitted to all cells, when there was no split, adds none:
    it is warned of, and would leave nothing to test on.
    """
    if not _saw_all_cells(adata, use_rep):
        cells = cells | fitted_cells(adata, use_rep)
    if teacher_key is not None:
        cells = cells | fitted_cells(adata, result_of(adata, teacher_key)[0])
    return cells


def fitted_here(adata: AnnData, model_sha256: str) -> tuple[Mask | None, str | None]:
    """Return the cells that a model was fitted on, and the fingerprint of its teacher, if it was fitted to this table.

    A model that was fitted elsewhere has seen none of these cells, so far as the table can tell.
    """
    for _, record in records_of(adata, ["distill", "nolan", "decompose"]):
        key = str(record.get("key_added"))
        if record.get("model_sha256") == model_sha256 and f"{key}{schema.FITTED_SUFFIX}" in adata.obs:
            return fitted_cells(adata, key), record.get("teacher")
    return None, None


def fitted_unrecorded(adata: AnnData, key: str) -> Mask | None:
    """Return the cells that what stands under a key was fitted on, where tables met and their records were dropped.

    A model that writes there again may be the one that was fitted on them.
    """
    if f"{key}{schema.FITTED_SUFFIX}" in adata.obs and not result_of(adata, key)[2]:
        return fitted_cells(adata, key)
    return None


def result_of(adata: AnnData, column: str) -> tuple[str, str | None, dict[str, Any]]:
    """Return the prefix that a column of niches goes by, the step that wrote it and its record, if any."""
    prefix = column.removesuffix(NICHE_SUFFIX)
    return prefix, *find_record(adata, schema.NICHE_STEPS, prefix)


def check_features_unseen(adata: AnnData, use_rep: str, split_key: str | None) -> None:
    """Raise unless what is fitted to the features on the training cells can be measured on the test cells."""
    test = _test_cells(adata, split_key)
    if test is None:
        return
    name = find_split_key(adata, split_key)
    _check_crops(adata, name, f".obsm[{use_rep!r}]", stands_on(adata, use_rep, graph=False)["crop_um"])
    seen = test & fitted_cells(adata, use_rep)
    if not seen.any():
        return
    if _saw_all_cells(adata, use_rep):
        _warn_of_all_cells(adata, use_rep, name)
        return
    msg = (
        f"{_count(seen, test, name)} had a part in fitting .obsm[{use_rep!r}], which was done with another split. Run "
        "sd.pp.embed_expression again, or give split_key=None, which holds no cell out."
    )
    raise ValueError(msg)


def check_teachers(tables: Sequence[AnnData], teacher_key: str, split_key: str | None) -> float | None:
    """Raise unless the tables have one teacher, which was fitted on none of the test cells; return its radius, in µm.

    Labels that were set by hand, or by another program, have none.
    """
    records = [result_of(table, teacher_key)[2] for table in tables]
    known = {record.get("model_sha256", record.get("fingerprint")) for record in records} - {None}
    prefix = teacher_key.removesuffix(NICHE_SUFFIX)
    if len(known) > 1:
        msg = (
            f"The teacher {teacher_key!r} is another one in each of the tables: their niches have the names in common, "
            "and nothing else. Fit one to all with sd.tl.nolan, which takes a list, or apply one to the others with "
            f"sd.tl.predict(key_added={prefix!r})."
        )
        raise ValueError(msg)
    for table in tables:
        test = _test_cells(table, split_key)
        if test is not None and (seen := test & fitted_cells(table, prefix)).any():
            msg = (
                f"{_count(seen, test, find_split_key(table, split_key))} had a part in fitting the teacher "
                f"{teacher_key!r}, which was done with another split, or without one. "
                f"{_run_again(table, [prefix], test)}, or give split_key=None, which holds no cell out."
            )
            raise ValueError(msg)
    radii = [float(record["radius_um"]) for record in records if "radius_um" in record]
    return radii[0] if radii else None


def check_teacher_radius(taught_um: float | None, radius_um: float, teacher_key: str) -> None:
    """Raise when the teacher saw neighbourhoods of another radius than those that there are."""
    if taught_um is not None and not is_same_radius(taught_um, radius_um):
        digits = decimals_apart(taught_um, radius_um)
        msg = (
            f"The teacher {teacher_key!r} saw neighbourhoods with a radius of {taught_um:.{digits}f} µm, and those in "
            f"the table have {radius_um:.{digits}f}: they were made again since. Make them as they were with "
            f"sd.pp.neighborhoods(radius_um={taught_um!r}), or fit the teacher again."
        )
        raise ValueError(msg)


def check_measured(
    adata: AnnData, columns: Iterable[str], split_key: str | None, *, reference_key: str | None = None
) -> None:
    """Raise unless columns of niches can be measured on the test cells, and compared with the reference.

    Parameters
    ----------
    adata
        The table.
    columns
        What is measured.
    split_key
        The split, as users give it.
    reference_key
        What they are compared with.
    """
    columns = list(columns)
    if reference_key is not None:
        for column in columns:
            _check_taught_by(adata, column, reference_key)
        columns = [reference_key, *columns]
    test = _test_cells(adata, split_key)
    if test is None:
        return
    name = find_split_key(adata, split_key)
    for column in columns:
        _warn_of_lost_cells(adata, result_of(adata, column)[0])
    seen = {column: test & fitted_cells(adata, result_of(adata, column)[0]) for column in columns}
    wrong = [column for column in columns if seen[column].any()]
    if wrong:
        msg = (
            f"{_count(seen[wrong[0]], test, name)} had a part in fitting {', '.join(map(repr, wrong))} or what it "
            "stands on, which was done with another split, or without one: they are no test. "
            f"{_run_again(adata, [result_of(adata, column)[0] for column in wrong], test)}; split_key=None measures "
            "all cells, and says so."
        )
        raise ValueError(msg)
    for column in columns:
        _, _, record = result_of(adata, column)
        _check_crops(adata, name, repr(column), record.get("crop_um"))
    for use_rep in dict.fromkeys(result_of(adata, column)[2].get("use_rep") for column in columns):
        if use_rep is not None and _saw_all_cells(adata, use_rep) and (test & fitted_cells(adata, use_rep)).any():
            _warn_of_all_cells(adata, use_rep, name)


def _check_taught_by(adata: AnnData, column: str, reference_key: str) -> None:
    """Raise when a student is to be compared with a teacher of the name of its own that it was not taught by.

    Labels that were set by hand may have been put right since: they are warned of. Of a part of the cells it cannot be
    told.
    """
    _, _, student = result_of(adata, column)
    prefix, step, _ = result_of(adata, reference_key)
    teacher_key, taught_by = str(student.get("teacher_key")), student.get("teacher")
    if teacher_key.removesuffix(NICHE_SUFFIX) != prefix or (step is None and student.get("n_cells") != adata.n_obs):
        return
    found = _teacher_of(adata, teacher_key)
    if taught_by is None or found is None or found == taught_by:
        return
    if step is None:
        warn(
            f"{column!r} was taught by other labels than those in .obs[{reference_key!r}]: they, or the centres of the "
            "cells, were changed since. It is compared with those that are there; run sd.tl.distill again for a "
            "student of them."
        )
        return
    msg = (
        f"{column!r} was taught by another {reference_key!r} than the one in .obs: sd.tl.{step} was run again "
        f"since. Run sd.tl.distill again, or sd.tl.{step} as it was run before."
    )
    raise ValueError(msg)


def _test_cells(adata: AnnData, split_key: str | None) -> Mask | None:
    split = get_split(adata, split_key)
    test: Mask | None = None if split is None else (split == schema.TEST).to_numpy()
    return test if test is not None and test.any() else None


def _saw_all_cells(adata: AnnData, use_rep: str) -> bool:
    """Whether the expression latent was fitted without any split, to all cells."""
    record = read_record(adata, "embed_expression", use_rep)
    applied = "model" in record and not fitted_cells(adata, use_rep).all()
    return bool(record) and "split_key" not in record and not applied


def _warn_of_all_cells(adata: AnnData, use_rep: str, split: str | None) -> None:
    warn(
        f".obsm[{use_rep!r}] was fitted on all cells before there was .obs[{split!r}], the test cells among them. For "
        "a latent that never saw these run sd.pp.embed_expression again, and what stands on it."
    )


def _check_crops(adata: AnnData, split: str | None, what: str, crop_um: float | None) -> None:
    """Raise when crops are larger than those that the split keeps apart."""
    splits = (record for _, record in records_of(adata, ["split_strips"]))
    apart = next((record.get("crop_um") for record in splits if record.get("key_added") == split), None)
    if crop_um is not None and apart is not None and crop_um > apart * (1 + MPP_TOLERANCE):
        msg = (
            f"{what} has crops of {crop_um:.1f} µm, and .obs[{split!r}] was made for crops of {apart:.1f} µm: those of "
            "training and test cells share pixels. Run sd.pp.split_strips again with the crop_px and mpp of the "
            "features (of dense ones crop_px=encoder.seen_px(...)), then sd.pp.neighborhoods and what is fitted."
        )
        raise ValueError(msg)
    if crop_um is not None and schema.SPATIAL in adata.obsm:
        _warn_of_shared_pixels(adata, split, what, crop_um)


def _warn_of_shared_pixels(adata: AnnData, split: str | None, what: str, crop_um: float) -> None:
    """Warn when most test cells lie in crops of training cells, as when cells were dealt out at random."""
    groups = adata.obs[split]
    library_key = find_library_key(adata, None)
    slides = 0 if library_key is None else 2 * crop_um * pd.factorize(adata.obs[library_key])[0]
    places = np.column_stack([get_centers(adata), np.broadcast_to(slides, adata.n_obs)])  # slides lie far apart
    train, test = (places[(groups == group).to_numpy()] for group in (schema.TRAIN, schema.TEST))
    if not len(train) or not len(test):
        return
    shared = np.isfinite(cKDTree(train).query(test, distance_upper_bound=crop_um)[0]).mean()
    if shared > MOST_SHARED:
        warn(
            f"{shared:.0%} of the {schema.TEST!r} cells in .obs[{split!r}] lie within {crop_um:.1f} µm, the side of "
            f"crops of {what}, of a training cell: their crops share pixels, as when cells are dealt out at random. "
            "The test says little of tissue that was not seen: sd.pp.split_strips keeps crops apart."
        )


def _count(seen: Mask, test: Mask, split: str | None) -> str:
    return f"{seen.sum()} of the {test.sum()} cells that are {schema.TEST!r} in .obs[{split!r}]"


def _run_again(adata: AnnData, prefixes: Iterable[str], test: Mask) -> str:
    """Name the steps that would have to be run again for the results under some prefixes."""
    steps: set[str] = set()
    chain = list(dict.fromkeys(prefixes))
    for prefix in chain:  # which grows
        _, step, record = result_of(adata, prefix)
        if step is None:
            return "Fit what was fitted again"
        steps.add(f"sd.tl.{step}")
        if step in ("nolan", "kmeans_niches", "logistic_niches", "distill"):
            steps.add("sd.pp.neighborhoods")
        if (test & fitted_cells(adata, str(record.get("use_rep")))).any():
            steps.add("sd.pp.embed_expression")
        teacher = str(record.get("teacher_key")).removesuffix(NICHE_SUFFIX)
        if teacher not in chain and (test & fitted_cells(adata, teacher)).any():
            chain.append(teacher)
    *some, last = [step for step in AGAIN if step in steps]
    return f"Run {', '.join(some)}{' and ' if some else ''}{last} again"
