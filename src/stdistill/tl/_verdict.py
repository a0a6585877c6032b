"""Whether the niches that a student saw on a slide are to be believed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stdistill._measures.verdict import OUTSIDE, Verdict, judge, nothing_seen
from stdistill._runs.given_model import load_model
from stdistill._slide.stain import stain_angle
from stdistill._slide.tissue import NothingSeenError
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.checks import check_one_model, get_table, is_spatialdata
from stdistill._table.fitting.like_model import check_radius
from stdistill._table.fitting.origin import warn_of_other_images
from stdistill._table.graph import graph_radius, read_graph
from stdistill._table.he.images import mark_images
from stdistill._table.he.slide_record import read_slide_record
from stdistill._table.labels import NICHE_SUFFIX, warn_of_edited_labels
from stdistill._table.provenance.checks import warn_of_other_graph
from stdistill._table.provenance.results import result_of
from stdistill._table.provenance.whole import warn_of_part
from stdistill._table.records import read_record, write_record, write_slide_step
from stdistill.pp._quality import STEP as QUALITY
from stdistill.pp._quality import quality
from stdistill.tl._predict import predict

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill._support.arrays import Mask
    from stdistill.models import NicheModel
    from stdistill.models.niche.card import ModelCard

logger = logging.getLogger("stdistill")

STEP = "verdict"
ESTIMATED = "estimated"
SAME_FIELDS = 1.15
"""Focus is compared with that of training slides whose fields were seen at up to so many times the µm per pixel."""


def verdict(
    data: AnnData | SpatialData,
    model: NicheModel | str | Path,
    *,
    key_added: str = schema.STUDENT,
    image_key: str = schema.HE_IMAGE,
    table_key: str = schema.TABLE,
) -> Verdict:
    """Judge whether the niches that a student saw on a slide are to be believed, and of which cells.

    What is missing is made first: the niches (:func:`stdistill.tl.predict`) and, of a SpatialData, the quality of its
    H&E (:func:`stdistill.pp.quality`), which is measured again where the image was replaced since.

    Parameters
    ----------
    data
        SpatialData with an H&E; or a table, of which only the features are judged.
    model
        The student, or the folder of a saved one.
    key_added
        Prefix of the student's niches, and of what is written.
    image_key
        Name of the H&E.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    The verdict: ``verdict`` is ``"usable"``, ``"partly"`` or ``"not"``; ``reasons`` say why in words and numbers;
    ``measures`` is a table of what was found, and of the limits. Written to the table:

    ``.obs["{key_added}_trusted"]``
        Boolean, the cells whose niche may be believed: their neighbourhoods are at most 8 times as far from those of
        the training as usual (``.obs["{key_added}_ood"]``); they are in focus; and neither folds nor pen take half of
        their surroundings.
    ``.uns["stdistill"]["verdict"]``
        ``verdict``, ``reasons``, the measures, and the names of the ``niches_unseen``, which no cell got. Of a slide
        on which nothing is seen, and which has no table therefore, ``.attrs["stdistill"]["verdict"]``.

    Raises
    ------
    KeyError
        When the table, the image or the features are not there.
    ValueError
        When the niches are of another model or of several, or as of :func:`stdistill.tl.predict`. A slide without
        tissue or nuclei is no error: its verdict is ``"not"``.

    Warns
    -----
    UserWarning
        When the features are of another H&E than the one that is there, or cells were taken away since they were
        computed, such as those that are not trusted: the verdict is of what is left.

    See Also
    --------
    stdistill.pp.quality : the measures of the H&E.

    Notes
    -----
    A slide is usable when 90 % of its cells can be trusted and nothing else is amiss, and is not when fewer than half
    can. Beside that are judged: the median of ``{key_added}_ood`` (1.5); of a student by slide also the share of what
    neighbourhoods differ by that those of the training differ by (90 %; 80 %); the angle between the
    slide's stain and that of the training (10 degrees), the median diameter of nuclei that were found (5 to 10 µm; 4 to
    14), how dense cells lie (a third to three times that of the training), and whether µm per pixel had to be
    estimated. Rule and limits are our choice: those of features by what became of students on simulated slides, the
    others coarse on purpose. What a model has never seen it cannot judge
    by: whether a niche of another organ is among its own is for a pathologist.

    Focus and stain are compared with the training slides where these had been measured by
    :func:`stdistill.pp.quality` before :func:`stdistill.tl.distill`; else focus with the rest of the slide, and stain
    not at all.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> def slide(shift):
    ...     adata = ad.AnnData(np.zeros((900, 1)), obsm={"spatial": rng.uniform(0, 500, (900, 2))})
    ...     adata.obsm["X_he"] = (rng.normal(size=(900, 6)) + shift).astype("float16")
    ...     return adata
    >>> paired = slide(0)
    >>> paired.obs["split"] = np.where(paired.obsm["spatial"][:, 1] < 350, "train", "test")
    >>> paired.obs["pathologist"] = np.where(paired.obsm["X_he"][:, 0] < 0, "tumour", "stroma")
    >>> student = sd.tl.distill(paired, teacher_key="pathologist", max_epochs=2, progress_bar=False)
    >>> sd.tl.verdict(slide(0), student).verdict, sd.tl.verdict(slide(5), student).verdict
    ('usable', 'not')
    """
    check_name(key_added, "key_added")
    from stdistill.models import NicheModel

    student = load_model(model)
    if not isinstance(student, NicheModel):
        msg = f"A verdict is on niches; the model is a {type(student).__name__}."
        raise TypeError(msg)
    try:
        _complete(data, student, key_added, image_key, table_key)
    except NothingSeenError as error:
        found = nothing_seen(str(error))
        if is_spatialdata(data):
            write_slide_step(data, STEP, verdict=found.verdict, reasons=found.reasons)
        return found
    table = get_table(data, table_key)
    warn_of_other_graph(table, key_added)
    _check_is_of(table, key_added, student)
    warn_of_edited_labels(table, f"{key_added}{NICHE_SUFFIX}")
    use_rep = str(result_of(table, key_added)[2].get("use_rep"))
    warn_of_part(table, use_rep)
    if is_spatialdata(data):
        warn_of_other_images(data, table, use_rep)
    has_niche = table.obs[f"{key_added}_niche"].notna().to_numpy()
    causes = _causes(table, key_added, student.card)
    trusted = has_niche & ~np.logical_or.reduce([np.zeros(table.n_obs, dtype=bool), *causes.values()])
    shares = {name: float(cells[has_niche].mean()) for name, cells in causes.items()} if has_niche.any() else {}
    measures = {
        "trusted_share": float(trusted[has_niche].mean()) if has_niche.any() else 0.0,
        **shares,
        **_of_features(table, key_added),
        **_of_slide(table, student.card),
        **_of_cells(table, student.card, has_niche),
    }
    found = judge(measures)
    seen = set(table.obs[f"{key_added}_niche"].dropna())
    table.obs[f"{key_added}_trusted"] = trusted
    write_record(
        table,
        STEP,
        key_added=key_added,
        model_sha256=student.sha256,
        verdict=found.verdict,
        reasons=found.reasons,
        niches_unseen=[name for name in student.card.niches if name not in seen],
        **measures,
    )
    logger.info('Wrote .obs["%s_trusted"]. Verdict: %s.', key_added, found)
    return found


def _complete(data: AnnData | SpatialData, model: NicheModel, key_added: str, image_key: str, table_key: str) -> None:
    """Make the niches and the measures of the H&E that are not there, or are of another image."""
    has_table = not is_spatialdata(data) or table_key in data.tables
    if not has_table or f"{key_added}_niche" not in get_table(data, table_key).obs:
        predict(data, model, key_added=key_added, table_key=table_key)
    if is_spatialdata(data) and image_key in data.images:
        record = read_record(get_table(data, table_key), QUALITY)
        is_of_another = "images" in record and record["images"] != mark_images(data, [image_key])
        if is_of_another:
            logger.info("The quality that is recorded is of another image than %r: it is measured again.", image_key)
        if not record or is_of_another:
            quality(data, image_key=image_key, table_key=table_key)


def _check_is_of(table: AnnData, key_added: str, model: NicheModel) -> None:
    """Raise unless the niches under the key are of this model."""
    check_one_model(table, key_added)
    _, step, record = result_of(table, key_added)
    if record.get("model_sha256") != model.sha256:
        by = "they have no record" if step is None else f"they are of another model (sd.tl.{step})"
        msg = (
            f'.obs["{key_added}_niche"] is not of the given model: {by}. Run sd.tl.predict(data, model) with it, or '
            "name the niches that are to be judged with key_added=."
        )
        raise ValueError(msg)


def _causes(table: AnnData, key_added: str, card: ModelCard) -> dict[str, Mask]:
    """Tell which cells are not to be trusted, by why."""
    causes: dict[str, Mask] = {}
    if f"{key_added}_ood" in table.obs:
        causes["unlike_share"] = (~(table.obs[f"{key_added}_ood"] <= OUTSIDE)).to_numpy()  # nor is one without features
    limit = _focus_limit(table, card)
    if limit is not None and "he_focus" in table.obs:
        causes["unfocused_share"] = (table.obs["he_focus"] < limit).to_numpy()
    for name, column in (("fold_share", "he_fold"), ("pen_share", "he_pen")):
        if column in table.obs:
            causes[name] = (table.obs[column] > 0.5).to_numpy()
    return causes


def _focus_limit(table: AnnData, card: ModelCard) -> float | None:
    """Return what is out of focus: by the training slides whose fields were as fine, or else by the slide itself."""
    own = read_record(table, QUALITY)
    if not own:
        return None
    mpp = float(own["mpp"])
    known = [
        float(one["focus_limit"])
        for one in card.quality or []
        if max(mpp / one["mpp"], one["mpp"] / mpp) <= SAME_FIELDS
    ]
    return min(known, default=float(own["focus_limit"]))


def _of_features(table: AnnData, key_added: str) -> dict[str, float]:
    """Say how unlike the training features are, by where they lie and, of features by slide, by what they differ by."""
    unusual = table.obs.get(f"{key_added}_ood")
    if unusual is None or unusual.isna().all():
        return {"ood_is_unknown": 1.0}
    variation = result_of(table, key_added)[2].get("known_variation")
    known = {} if variation is None else {"known_variation": float(variation)}
    return {"ood_median": float(unusual.median()), **known}


def _of_slide(table: AnnData, card: ModelCard) -> dict[str, float]:
    """Compare stain and scale with what they should be."""
    slide, own = read_slide_record(table), read_record(table, QUALITY)
    found: dict[str, float] = {}
    if slide is not None and slide.mpp is not None:
        found["mpp_is_estimated"] = float(slide.mpp_source == ESTIMATED)
    stains = [np.array(one["stain_vectors"]) for one in card.quality or [] if "stain_vectors" in one]
    if stains and "stain_vectors" in own:
        vectors = np.asarray(own["stain_vectors"])
        found["stain_distance"] = min(stain_angle(vectors, each) for each in stains)
    return found


def _of_cells(table: AnnData, card: ModelCard, cells: Mask) -> dict[str, float]:
    """Measure size and density of the cells that have a niche."""
    found: dict[str, float] = {}
    if "method" in read_record(table, "detect_nuclei") and cells.any():
        area: Any = table.obs["area_um2"].to_numpy()[cells]
        found["nucleus_um"] = float(np.median(2 * np.sqrt(area / np.pi)))
    if card.n_neighbors and cells.any():
        check_radius(graph_radius(table), card.radius_um)
        found["density_ratio"] = float(np.diff(read_graph(table).indptr)[cells].mean()) / card.n_neighbors
    return found
