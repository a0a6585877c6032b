"""Niches, or abundances of cell types, of a slide from H&E alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from anndata import AnnData

from stdistill._features.inputs import DEVICES
from stdistill._support.checks import check_integer, check_name
from stdistill._table import schema
from stdistill._table.abundances import check_free
from stdistill._table.checks import copy_table, find_split_key, get_table, is_spatialdata, share_elements
from stdistill._table.fitting.composition import composition_inputs, write_composition
from stdistill._table.fitting.inputs import check_features, niche_inputs
from stdistill._table.fitting.like_model import check_card, name_features
from stdistill._table.fitting.seen import find_fitted
from stdistill._table.fitting.trust import measure_ood, summarise_ood
from stdistill._table.graph import decimals_apart, is_same_radius
from stdistill._table.he.place import find_place
from stdistill._table.libraries import find_library_key
from stdistill._table.niches import write_niches
from stdistill._table.provenance import stands_on
from stdistill._table.records import write_record
from stdistill.pp._detect_nuclei import detect_nuclei
from stdistill.pp._embed_he import embed_he
from stdistill.pp._find_tissue import find_tissue
from stdistill.pp._neighborhoods import ensure_neighborhoods

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import CompositionModel, NicheModel
    from stdistill.models.composition.card import FeatureCard
    from stdistill.models.niche.card import ModelCard

logger = logging.getLogger("stdistill")


def predict(
    data: AnnData | SpatialData,
    model: NicheModel | CompositionModel | str | Path,
    *,
    use_rep: str | Sequence[str] | None = None,
    key_added: str | None = None,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    batch_size: int = 512,
    device: str = "auto",
    table_key: str = schema.TABLE,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Say of every cell which niche it is in, or what cell types are there, by a trained model.

    Only the model's features, and the neighbourhoods that it reads, are needed: of a student or a composition model,
    that is H&E alone. What is not there yet is made first, and said so in the log: of a SpatialData with an H&E the
    tissue and the cells in it (:func:`stdistill.pp.find_tissue`, :func:`stdistill.pp.detect_nuclei`) and, as the
    model's were, their features (:func:`stdistill.pp.embed_he`); and the neighbourhoods, at the model's radius.

    Parameters
    ----------
    data
        Table with the features that the model was trained on; or SpatialData with such a table or, for a student
        or a composition model, with an H&E, as :func:`stdistill.pp.read_slide` reads it.
    model
        From :func:`stdistill.tl.distill`, :func:`stdistill.tl.nolan` or :func:`stdistill.tl.decompose`, or the folder
        of a saved one.
    use_rep
        Key of ``.obsm`` of the features, or several, as many as the model reads; by default those that it was trained
        on.
    key_added
        Prefix of what is written, by default ``"student"``; of abundances their key, by default ``"he_abundance"``.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; cells of the buffer or of no
        group get no prediction. `None` ignores it, which the neighbourhoods must have done as well.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    batch_size
        Cells at once.
    device
        Where to compute, by default on a GPU when there is one.
    table_key
        Name of the table of a SpatialData.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Of a composition model, what :func:`stdistill.tl.decompose` writes is written to the table. Of
    a niche model:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns; NaN for cells without a prediction: those in the buffer or off the image.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the largest logit, under the model's names; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits, divided by the temperature that a student was calibrated
        with. It says how sure the student is of tissue like that of its training, and nothing of other tissue.
    ``.obs["{key_added}_ood"]``
        float32, how unusual the cell's own features are for a student: their distance from those of its training, over
        the median of cells it had not seen there. About 1 is usual; see `Notes`.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that the model was fitted on: it knows its cells again. All count, with a warning, where
        these are other cells on an H&E that it was trained on. Not written of a model of an earlier version, which
        does not know its cells, unless the table does.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the model: tables that are concatenated may have several.
    ``.uns["{key_added}_niche_colors"]``
        The model's colours.
    ``.uns["stdistill"]["predict"]``
        The parameters; ``ood_median``, the median of ``.obs["{key_added}_ood"]``, and ``ood_share_rare``, the share of
        cells above what one cell of a hundred was in the training; and of the model its kind, radius, teacher, encoder
        and ``model_sha256``, the fingerprint of its weights, which its saved ``card.json`` lists.

    Raises
    ------
    KeyError
        When the table, the features, `split_key` or `library_key` is not there.
    ValueError
        When the features are of another encoder, scVI model, dimension or µm per pixel than the model's, or the
        neighbourhoods of another radius or split.
    TypeError
        When the features are no dense floating point array.

    Warns
    -----
    UserWarning
        When half of the cells are more unusual than a slide may be (median above √2; above √10 it says so more
        strongly: our choice, by what became of a student on slides of another stain, focus and tissue). When the model
        was trained on the same H&E, with other cells.

    Notes
    -----
    At inference the student sees H&E alone, and the niche is the one with the largest logit: Hizmi et al. 2026,
    sections 4 and 4.2. How unusual a cell is says more than how sure the model is: on a slide of another stain a
    student may be wrong and sure. Features that are unusual need not be seen wrongly, though.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> def slide():
    ...     adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    ...     adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    ...     return adata
    >>> paired, archive = slide(), slide()
    >>> paired.obs["pathologist"] = np.where(paired.obsm["spatial"][:, 0] < 150, "tumour", "stroma")
    >>> student = sd.tl.distill(paired, teacher_key="pathologist", max_epochs=2, progress_bar=False)
    >>> sd.tl.predict(archive, student)
    >>> archive.obs["student_niche"].cat.categories.tolist()
    ['stroma', 'tumour']
    """
    check_integer(batch_size, "batch_size", minimum=1)
    from stdistill.models import NicheModel

    loaded = load_model(model)
    is_niche = isinstance(loaded, NicheModel)
    key_added = (schema.STUDENT if is_niche else schema.HE_ABUNDANCE) if key_added is None else key_added
    check_name(key_added, "key_added")
    sources: Sequence[ModelCard | FeatureCard] = [loaded.card] if isinstance(loaded, NicheModel) else loaded.card.inputs
    reps = name_features(sources, use_rep)
    is_teacher = isinstance(loaded, NicheModel) and loaded.card.kind != "distillation"
    computed = [] if is_teacher else [one for one, rep in zip(sources, reps, strict=True) if one.feature_key == rep]
    data = _complete(data, computed, table_key, None if device == "auto" else device, copy=copy)
    table = get_table(data, table_key)
    how = _How(key_added, split_key, library_key, batch_size, device)
    if isinstance(loaded, NicheModel):
        _check_no_abundances(table, key_added)
        _write_niches(table, loaded, reps[0], how)
    else:
        check_free(table, key_added)
        _write_abundances(table, loaded, reps, how)
    return data if copy else None


def _check_no_abundances(table: AnnData, key: str) -> None:
    """Raise when abundances stand under a key that niches are to be written to, whose record would go."""
    if key in table.obsm:
        msg = f"key_added={key!r} is taken: .obsm holds something of that name. Name another key for the niches."
        raise ValueError(msg)


class _How(NamedTuple):
    """Arguments of `predict`, for either kind of model."""

    key_added: str
    split_key: str | None
    library_key: str | None
    batch_size: int
    device: str


def _write_niches(table: AnnData, model: NicheModel, use_rep: str, how: _How) -> None:
    """Predict and write niches."""
    card, tables = model.card, [table]
    key_added, split_key, library_key, batch_size, device = how
    check_features(tables, use_rep)
    check_card(table, use_rep, card)
    ensure_neighborhoods(tables, split_key=split_key, library_key=library_key, radius_um=card.radius_um)
    inputs = niche_inputs(tables, use_rep=use_rep, split_key=split_key, library_key=library_key)
    _check_radius(inputs.radius_um, card.radius_um)
    logits = model.predict(
        inputs.features,
        inputs.indptr,
        inputs.indices,
        inputs.centers,
        cells=np.flatnonzero(inputs.eligible),
        batch_size=batch_size,
        device=device,
    )
    sha256 = model.sha256
    fitted, teacher = find_fitted(table, model, inputs.features, inputs.centers, key_added=key_added, use_rep=use_rep)
    found = stands_on(table, use_rep, graph=True)
    ood = None if model.usual is None else measure_ood(model.usual, inputs)
    judged = {} if ood is None or model.usual is None else summarise_ood(ood, model.usual)
    fingerprint = write_niches(
        table,
        key_added,
        logits,
        niches=card.niches,
        colors=card.colors,
        fitted=fitted,
        model=sha256,
        temperature=card.confidence_temperature,
        ood=ood,
    )
    write_record(
        table,
        "predict",
        use_rep=use_rep,
        key_added=key_added,
        split_key=find_split_key(table, split_key),
        library_key=find_library_key(table, library_key),
        kind=card.kind,
        radius_um=card.radius_um,
        teacher_key=card.teacher,
        encoder=card.encoder,
        model_sha256=sha256,
        fingerprint=fingerprint,
        **found,
        teacher=teacher,
        **judged,
    )
    n_predicted = int(np.isfinite(logits[:, 0]).sum())
    logger.info('Wrote .obs["%s_niche"] of %d of %d cells.', key_added, n_predicted, len(logits))


def _write_abundances(table: AnnData, model: CompositionModel, reps: Sequence[str], how: _How) -> None:
    """Predict and write abundances."""
    card = model.card
    key_added, split_key, library_key, batch_size, device = how
    for rep, source in zip(reps, card.inputs, strict=True):
        check_features([table], rep)
        check_card(table, rep, source)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if card.radius_um is not None:
        ensure_neighborhoods([table], radius_um=card.radius_um, **keys)
    inputs = composition_inputs([table], use_rep=reps, with_graph=card.radius_um is not None, **keys)
    if inputs.radius_um is not None and card.radius_um is not None:
        _check_radius(inputs.radius_um, card.radius_um)
    places = np.flatnonzero(inputs.eligible)
    mean, spread = model.predict(inputs.rows, places=places, batch_size=batch_size, device=device)
    features = inputs.rows.features[0]
    fitted, _ = find_fitted(table, model, features, inputs.centers, key_added=key_added, use_rep=reps[0])
    write_composition(table, "predict", key_added, mean, spread, model, use_rep=reps, fitted=fitted, **keys)
    n_predicted = int(np.isfinite(mean).all(axis=1).sum())
    logger.info('Wrote .obsm["%s"] of %d of %d rows.', key_added, n_predicted, len(mean))


def _check_radius(found_um: float, expected_um: float) -> None:
    """Raise unless the neighbourhoods are as wide as the model's."""
    if is_same_radius(found_um, expected_um):
        return
    digits = decimals_apart(found_um, expected_um)
    msg = (
        f"The neighbourhoods have a radius of {found_um:.{digits}f} µm, those of the model "
        f"{expected_um:.{digits}f}. Make them again with sd.pp.neighborhoods(radius_um=model.radius_um)."
    )
    raise ValueError(msg)


def load_model(model: NicheModel | CompositionModel | str | Path) -> NicheModel | CompositionModel:
    """Return a niche or composition model, or load that of a folder."""
    if not isinstance(model, str | Path):
        return model
    from stdistill.models import CompositionModel, NicheModel, load

    loaded = load(model)
    if not isinstance(loaded, NicheModel | CompositionModel):
        msg = f"{model} holds a model of the kind {loaded.kind!r}: expected a niche or a composition model."
        raise ValueError(msg)
    return loaded


def _complete(
    data: AnnData | SpatialData,
    sources: Sequence[ModelCard | FeatureCard],
    table_key: str,
    device: str | None,
    *,
    copy: bool,
) -> AnnData | SpatialData:
    """Find the cells and compute the features of `sources` that an H&E lacks; return what was given, or a copy."""
    if not is_spatialdata(data):
        return copy_table(data, table_key) if copy else data
    has_table = table_key in data.tables
    missing = [one for one in sources if not has_table or one.feature_key not in data.tables[table_key].obsm]
    if not missing:
        return copy_table(data, table_key) if copy else data
    if device not in DEVICES:
        msg = f"device must be one of {['auto', *DEVICES[1:]]} where features are yet to be computed, found {device!r}."
        raise ValueError(msg)
    from stdistill._table.fitting.like_model import embedding_arguments, find_encoders

    encoders = [find_encoders(source) for source in missing]
    if copy:
        data = copy_table(data, table_key) if has_table else share_elements(data)
    if not has_table:
        logger.info("There is no table %r: finding the nuclei of the H&E (sd.pp.detect_nuclei).", table_key)
        if schema.TISSUE not in data.shapes and find_place(data, schema.HE_IMAGE) is not None:
            find_tissue(data)
        detect_nuclei(data, table_key=table_key, device=device)
    cells = get_table(data, table_key)
    for source, own in zip(missing, encoders, strict=True):
        key = source.feature_key
        logger.info('There is no .obsm["%s"]: computing it as the model\'s was (sd.pp.embed_he).', key)
        embed_he(data, **embedding_arguments(source, own, cells), table_key=table_key, device=device)
    return data
