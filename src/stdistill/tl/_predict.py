"""Niches, abundances of cell types, or tiles in a shared space, of a slide from H&E alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from anndata import AnnData

from stdistill._runs.complete import complete_cells, complete_neighborhoods, complete_tiles
from stdistill._runs.given_model import load_model
from stdistill._support.checks import check_integer, check_name
from stdistill._table import schema
from stdistill._table.abundances import check_free
from stdistill._table.checks import find_split_key, get_table, is_spatialdata
from stdistill._table.fitting.alignment import (
    alignment_inputs,
    check_tile_features,
    find_cells,
    get_slides,
    write_alignment,
)
from stdistill._table.fitting.composition import composition_inputs, write_composition
from stdistill._table.fitting.inputs import check_features, niche_inputs
from stdistill._table.fitting.like_model import (
    check_card,
    check_radius,
    name_features,
    warn_of_density,
    warn_of_unknown_features,
)
from stdistill._table.fitting.origin import warn_of_other_images
from stdistill._table.fitting.seen import find_fitted
from stdistill._table.fitting.trust import judge_features
from stdistill._table.libraries import find_library_key
from stdistill._table.niches import write_niches
from stdistill._table.provenance.results import stands_on
from stdistill._table.provenance.whole import warn_of_other_cells
from stdistill._table.records import write_record
from stdistill._table.tiles import get_tiles

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import AlignmentModel, CompositionModel, NicheModel
    from stdistill.models.feature_card import FeatureCard
    from stdistill.models.niche.card import ModelCard

logger = logging.getLogger("stdistill")

DEFAULT_KEYS = {"niche": schema.STUDENT, "composition": schema.HE_ABUNDANCE, "alignment": schema.ALIGNED}
"""What is written by a model of each kind goes by this name."""


def predict(
    data: AnnData | SpatialData,
    model: NicheModel | CompositionModel | AlignmentModel | str | Path,
    *,
    use_rep: str | Sequence[str] | None = None,
    key_added: str | None = None,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    tiles_key: str = schema.TILES,
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
        From :func:`stdistill.tl.distill`, :func:`stdistill.tl.nolan`, :func:`stdistill.tl.decompose` or
        :func:`stdistill.tl.align`, or the folder of a saved one.
    use_rep
        Key of ``.obsm`` of the features, or several, as many as the model reads; by default those that it was trained
        on.
    key_added
        Prefix of what is written, by default ``"student"``; of abundances their key, by default ``"he_abundance"``; of
        an alignment ``"aligned"``.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; cells of the buffer or of no
        group get no prediction. `None` ignores it, which the neighbourhoods must have done as well.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    batch_size
        Cells or tiles at once, by default as many as the model finds best.
    device
        Where to compute, by default on a GPU when there is one.
    tiles_key
        Name of the table of tiles, of an alignment; where there is none, tiles are laid as the model's were.
    table_key
        Name of the table of a SpatialData.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Of a composition model, what :func:`stdistill.tl.decompose` writes is written to the table; of
    an alignment, what :func:`stdistill.tl.align` writes, the side of expression where the cells have its latent. Of a
    niche model:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns; NaN for cells without a prediction: those in the buffer or off the image.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the largest logit, under the model's names; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits, divided by the temperature that a student was calibrated
        with. It says how sure the student is of tissue like that of its training, and nothing of other tissue.
    ``.obs["{key_added}_ood"]``
        float32, how unusual the cell's neighbourhood is for a student: the distance of the mean of its features from
        those of its training, over the median of cells it had not seen there. About 1 is usual; see `Notes`.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that the model was fitted on: it knows its cells again. All count, with a warning, where
        these are other cells on an H&E that it was trained on. Not written of a model of an earlier version, which
        does not know its cells, unless the table does.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the model: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        The model's colours.
    ``.uns["stdistill"]["predict"]``
        The parameters; ``ood_median``, the median of ``.obs["{key_added}_ood"]``, and ``ood_share_rare``, the share of
        cells above what one cell of a hundred was in the training; of a student by slide ``known_variation``, the share
        of what neighbourhoods of this slide differ by that those of its training differ by, too; and of the model its
        kind, radius, teacher, encoder and ``model_sha256``, the fingerprint of its weights, which its saved
        ``card.json`` lists.

    Raises
    ------
    KeyError
        When the table, the features, `split_key` or `library_key` is not there.
    ValueError
        When the features are of another encoder, scVI model, dimension or µm per pixel than the model's, are principal
        components with other loadings (``.varm["PCs"]``), or the neighbourhoods are of another radius or split.
    TypeError
        When the features are no dense floating point array.

    Warns
    -----
    UserWarning
        When half of the cells are more unusual than a slide may be (median above 1.5; above 8 it says so more
        strongly), or, of a student by slide, when less than 90 % of what neighbourhoods differ by is what those of the
        training differ by (our choices, by what became of students on slides of another stain, focus and
        tissue). When the model was trained on the same H&E, with other cells. When the features are of another H&E than
        the one that is there. When cells have less than half, or more than twice, as many neighbours as those of the
        training. When a teacher, or an alignment, reads features of cells that it was not fitted on, and nothing tells
        whether they are what they were in the training: latents and principal components are of the cells they were
        fitted to.

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
    if batch_size is not None:
        check_integer(batch_size, "batch_size", minimum=1)
    from stdistill.models import AlignmentModel, NicheModel

    loaded = load_model(model)
    key_added = DEFAULT_KEYS[loaded.kind] if key_added is None else key_added
    check_name(key_added, "key_added")
    using = {"device": device} if batch_size is None else {"device": device, "batch_size": batch_size}
    how = _How(key_added, split_key, library_key, using)
    if isinstance(loaded, AlignmentModel):
        (slide,) = get_slides([data])
        name_features(list(loaded.card.inputs.values()), use_rep)
        found = {"split_key": split_key, "table_key": table_key, "device": None if device == "auto" else device}
        slide = complete_tiles(slide, loaded, tiles_key=tiles_key, copy=copy, **found)  # type: ignore[arg-type]
        _write_tiles(slide, loaded, how, tiles_key)
        return slide if copy else None
    sources: Sequence[ModelCard | FeatureCard] = [loaded.card] if isinstance(loaded, NicheModel) else loaded.card.inputs
    reps = name_features(sources, use_rep)
    is_teacher = isinstance(loaded, NicheModel) and loaded.card.kind != "distillation"
    computed = [] if is_teacher else [one for one, rep in zip(sources, reps, strict=True) if one.feature_key == rep]
    data = complete_cells(data, computed, table_key, None if device == "auto" else device, copy=copy)
    table = get_table(data, table_key)
    if is_spatialdata(data):
        for rep in reps:
            warn_of_other_images(data, table, rep)
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
    """Arguments of `predict`, for any kind of model."""

    key_added: str
    split_key: str | None
    library_key: str | None
    using: dict[str, Any]
    """Arguments of the model's own methods: where to compute, and how many at once."""


def _write_niches(table: AnnData, model: NicheModel, use_rep: str, how: _How) -> None:
    """Predict and write niches."""
    card, tables = model.card, [table]
    key_added, split_key, library_key, using = how
    check_features(tables, use_rep)
    is_known = check_card(table, use_rep, card)
    complete_neighborhoods(tables, split_key=split_key, library_key=library_key, radius_um=card.radius_um)
    inputs = niche_inputs(tables, use_rep=use_rep, split_key=split_key, library_key=library_key)
    check_radius(inputs.radius_um, card.radius_um)
    warn_of_density(table, inputs, card)
    if card.standardize == "slide":
        warn_of_other_cells([table], use_rep, library_key)
    logits = model.predict(
        inputs.features,
        inputs.indptr,
        inputs.indices,
        inputs.centers,
        cells=np.flatnonzero(inputs.eligible),
        slides=inputs.libraries,
        **using,
    )
    sha256 = model.sha256
    fitted, teacher = find_fitted(table, model, inputs.features, inputs.centers, key_added=key_added, use_rep=use_rep)
    if card.kind != "distillation" and not is_known and (fitted is None or not fitted.any()):
        warn_of_unknown_features(use_rep)
    found = stands_on(table, use_rep, graph=True)
    ood, judged = (None, {}) if model.usual is None else judge_features(model.usual, inputs, card.standardize)
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
    key_added, split_key, library_key, using = how
    for rep, source in zip(reps, card.inputs, strict=True):
        check_features([table], rep)
        check_card(table, rep, source)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if card.radius_um is not None:
        complete_neighborhoods([table], radius_um=card.radius_um, **keys)
    inputs = composition_inputs([table], use_rep=reps, with_graph=card.radius_um is not None, **keys)
    for rep in reps if card.standardize == "slide" else ():
        warn_of_other_cells([table], rep, library_key)
    if inputs.radius_um is not None and card.radius_um is not None:
        check_radius(inputs.radius_um, card.radius_um)
    places = np.flatnonzero(inputs.eligible)
    mean, spread = model.predict(inputs.rows, places=places, slides=inputs.libraries, **using)
    features = inputs.rows.features[0]
    fitted, _ = find_fitted(table, model, features, inputs.centers, key_added=key_added, use_rep=reps[0])
    write_composition(table, "predict", key_added, mean, spread, model, use_rep=reps, fitted=fitted, **keys)
    n_predicted = int(np.isfinite(mean).all(axis=1).sum())
    logger.info('Wrote .obsm["%s"] of %d of %d rows.', key_added, n_predicted, len(mean))


def _write_tiles(slide: SpatialData, model: AlignmentModel, how: _How, tiles_key: str) -> None:
    """Embed and write tiles by their H&E, and by their cells where what these express is known."""
    card = model.card
    key_added, split_key, _, using = how
    tiles = get_tiles(slide, tiles_key)
    he_keys = {scale: source.feature_key for scale, source in card.inputs.items()}
    for scale, key in he_keys.items():
        check_tile_features([tiles], key)
        check_card(tiles, key, card.inputs[scale])
    warn_of_other_images(slide, tiles, he_keys[card.scales[0]])
    latent = card.cells.feature_key
    cells = find_cells(slide, tiles)
    with_cells = cells is not None and latent in cells.obsm
    if cells is not None and with_cells:
        check_features([cells], latent)
        is_known = check_card(cells, latent, card.cells)
    inputs = alignment_inputs(
        [slide],
        he_keys=he_keys,
        use_rep=latent if with_cells else None,
        radius_um=card.radius_um,
        max_pairs=card.max_pairs,
        split_key=split_key,
        tiles_key=tiles_key,
    )
    he = model.embed_he(inputs.data.images, tiles=np.flatnonzero(inputs.with_he), **using)
    expression, cells_at = None, None
    if with_cells:
        expression = model.embed_expression(inputs.data.graphs, tiles=np.flatnonzero(inputs.with_cells), **using)
        cells_at = model.embed_cells(inputs.data.graphs, **using)
    first = he_keys[card.scales[0]]
    images, centers = inputs.data.images[card.scales[0]], inputs.data.centers
    fitted, _ = find_fitted(tiles, model, images, centers, key_added=key_added, use_rep=first)
    if with_cells and not is_known and (fitted is None or not fitted.any()):
        warn_of_unknown_features(latent)
    named = {"key_added": key_added, "use_rep": latent, "he_rep": first.removesuffix(f"_{card.scales[0]}")}
    write_alignment("predict", inputs, model, he, expression, cells_at, [fitted], **named)
    logger.info('Wrote .obsm["X_%s_he"] of %d of %d tiles.', key_added, inputs.with_he.sum(), len(images))
