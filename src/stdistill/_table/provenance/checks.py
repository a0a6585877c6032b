"""Whether results may be measured, taught by and compared, by what they stand on.

What has neither a record nor a column of the cells that it was fitted on, such as labels set by hand, passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from stdistill._slide.pyramid import MPP_TOLERANCE
from stdistill._support.arrays import Mask
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import find_split_key, get_centers, get_split
from stdistill._table.graph import decimals_apart, graph_fingerprint, is_same_radius
from stdistill._table.labels import NICHE_SUFFIX
from stdistill._table.libraries import find_library_key
from stdistill._table.provenance.results import fitted_cells, result_of, saw_all_cells, stands_on, teacher_of
from stdistill._table.records import records_of

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
VALIDATION = ("val", "valid", "validation")
"""Groups of a split of the user's own that are held out beside the test cells."""
MOST_SHARED = 0.5
"""A larger share of test cells does not lie beside training cells where tissue is held out (our choice)."""


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
    if saw_all_cells(adata, use_rep):
        _warn_of_all_cells(use_rep, name)
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
        if use_rep is not None and saw_all_cells(adata, use_rep) and (test & fitted_cells(adata, use_rep)).any():
            _warn_of_all_cells(use_rep, name)


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


def warn_of_other_graph(adata: AnnData, key: str) -> None:
    """Warn when cells were connected again since the result under a key, with which the graph is looked at."""
    made_of, found = result_of(adata, key)[2].get("graph"), graph_fingerprint(adata)
    if None not in (made_of, found) and made_of != found:
        warn(
            f"The neighbourhoods were made again since {key!r}, which is of those of before: their split or their "
            "radius is another. What is said of neighbours is of those that are there. Run sd.tl.predict again."
        )


def warn_of_other_teacher(adata: AnnData, columns: Iterable[str]) -> None:
    """Warn when niches stand side by side of which some are taught by others than those there, of the same name."""
    for column, reference_key in permutations(columns, 2):
        if _is_taught_by_another(adata, column, reference_key):
            warn(
                f"{column!r} was taught by another {reference_key!r} than the one in .obs: niches of one name and "
                "colour are not the same. Run sd.tl.distill again."
            )


def _is_taught_by_another(adata: AnnData, column: str, reference_key: str) -> bool:
    """Whether the labels that taught a student under the name of a column are not those there.

    Of labels that were set by hand it cannot be told of a part of the cells.
    """
    _, _, student = result_of(adata, column)
    prefix, step, _ = result_of(adata, reference_key)
    teacher_key, taught_by = str(student.get("teacher_key")), student.get("teacher")
    if teacher_key.removesuffix(NICHE_SUFFIX) != prefix or (step is None and student.get("n_cells") != adata.n_obs):
        return False
    found = teacher_of(adata, teacher_key)
    return None not in (taught_by, found) and found != taught_by


def _check_taught_by(adata: AnnData, column: str, reference_key: str) -> None:
    """Raise when a student is to be compared with a teacher of the name of its own that it was not taught by.

    Labels that were set by hand may have been put right since: they are warned of.
    """
    if not _is_taught_by_another(adata, column, reference_key):
        return
    _, step, _ = result_of(adata, reference_key)
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
    test: Mask | None = None if split is None else split.isin([schema.TEST, *VALIDATION]).to_numpy()
    return test if test is not None and test.any() else None


def _warn_of_all_cells(use_rep: str, split: str | None) -> None:
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
    return f"{seen.sum()} of the {test.sum()} cells that are held out in .obs[{split!r}]"


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
