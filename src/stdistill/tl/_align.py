"""H&E and expression in one space: tiles and the graphs of their cells, by contrast at three scales."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from stdistill._runs.finetuning import find_encoder, finetune
from stdistill._support.arguments import takes
from stdistill._support.checks import check_name
from stdistill._table import schema
from stdistill._table.fitting.alignment import (
    AlignmentInputs,
    alignment_inputs,
    check_unseen,
    get_slides,
    write_alignment,
)
from stdistill._table.fitting.origin import common_origin, images_of_training
from stdistill._table.marks.cells import mark_cells
from stdistill._training.arguments import TrainingArguments
from stdistill.models.alignment.arguments import (
    ALIGNMENT_DEFAULTS,
    AlignmentArguments,
    FittingArguments,
    check_fitting,
)

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill._runs.finetuning import Finetuned
    from stdistill.encoders import Encoder
    from stdistill.models import AlignmentModel
    from stdistill.models.alignment.fit import FittedAlignment

logger = logging.getLogger("stdistill")

RECORDED = ("batch_size", "learning_rate", "weight_decay", "seed", "place_dropout")
"""Arguments that the card and the record keep, beside those of the network."""


@takes(AlignmentArguments, TrainingArguments, defaults=ALIGNMENT_DEFAULTS)
def align(
    data: SpatialData | Sequence[SpatialData],
    *,
    use_rep: str = schema.EXPRESSION_LATENT,
    he_rep: str = schema.HE_FEATURES,
    key_added: str = schema.ALIGNED,
    split_key: str | None = schema.SPLIT,
    tiles_key: str = schema.TILES,
    encoder: str | Encoder | None = None,
    **arguments: Unpack[FittingArguments],
) -> AlignmentModel:
    """Bring tiles of the H&E and the cells under them into one space, so that either finds the other.

    A tile is seen at three scales: as 4 × 4 places, as 2 × 2, and as a whole. Its H&E side is what an encoder makes of
    it, its expression side a graph of its cells that grows from the small places to the tile. At each scale both sides
    of a tile are told from those of other tiles.

    Parameters
    ----------
    data
        SpatialData with a table of tiles that has H&E features (:func:`stdistill.pp.tiles`,
        :func:`stdistill.pp.embed_tiles`) and a table of cells; or a list of them, one per slide.
    use_rep
        Key of ``.obsm`` of the cells, what each expresses: the latent of :func:`stdistill.pp.embed_expression`, or any
        other. Cells with a NaN are left out.
    he_rep
        Beginning of the keys of ``.obsm`` of the tiles' features.
    key_added
        Names what is written.
    split_key
        Column of ``.obs`` of the tiles, if there is one; those of the test are not trained on. `None` trains on all.
    tiles_key
        Name of the table of tiles.
    encoder
        With `finetune_blocks`, the encoder that computed the features: an :class:`stdistill.encoders.Encoder` where it
        has no name here. By default the one of their record.
    **arguments

    Returns
    -------
    The model. Written to the table of tiles:

    ``.obsm["X_{key_added}_he"]``, ``.obsm["X_{key_added}_expression"]``
        (m, scales · n_dims) float32, rows of unit length: the product of two rows is the mean over the scales of the
        cosine of their tiles. NaN for tiles without features, or without a cell.
    ``.obsm["X_{key_added}_he_micro"]``, ``.obsm["X_{key_added}_expression_micro"]`` …
        (m, n_dims), the same of each scale.
    ``.obs["X_{key_added}_he_mark"]``, ``.obs["X_{key_added}_expression_mark"]`` …
        A number for each tile, by which rows that were moved or edited are told.
    ``.obs["{key_added}_fitted"]``, ``.obs["{key_added}_model"]``
        The tiles that the model was fitted on, and its fingerprint.
    ``.uns["stdistill"]["align"]``
        The parameters; numbers of tiles and epochs; ``n_dense_tiles``, of which candidates were left out.

    With `finetune_blocks` also the features of the encoder that learned, as :func:`stdistill.pp.embed_tiles` writes
    them, under the key ``"{he_rep}_{key_added}"``: ``.obsm["X_he_aligned_micro"]`` …. The model keeps the blocks, and
    :func:`stdistill.tl.predict` puts them into the encoder, which has to be at hand there.

    Written to the table of cells:

    ``.obsm["X_sigmma_micro"]``, ``.obsm["X_sigmma_meso"]``, ``.obsm["X_sigmma_macro"]``
        (n, width) float32: what a cell and the cells around it express, at each scale; NaN for cells of no tile. What
        it expresses itself outweighs the rest: average over near cells before clustering to microenvironments.

    Raises
    ------
    TypeError
        When `data` holds no tables of tiles and cells, or features are no dense array of numbers.
    KeyError
        When tiles, features or the latent are not there.
    ValueError
        When the slides have other encoders, tiles or latents, the latent was fitted on test cells, a tile is there
        twice, once to train and once to test, there are fewer than two tiles to train on, all are the same, or a number
        is out of range. With `finetune_blocks`: when the encoder is not the one of the features, is no vision
        transformer of timm or has fewer blocks, or the features are of several encoders or of a normalised stain.

    Warns
    -----
    UserWarning
        When the alignment collapsed, so that all tiles look the same by one of the sides, or two slides show one H&E,
        one for training and the other for testing.

    See Also
    --------
    retrieval : how often either side finds the other.
    expression_probe : what a representation says of the genes.

    Notes
    -----
    Jeong et al. 2025 (SIGMMA, arXiv 2511.15464), sections 4 and 5. The paper states neither widths nor temperatures,
    optimiser or length of training, how cells of a micro place are connected, nor what becomes of the draws at
    inference (here: the probability); its formula of the blocks contradicts its text, and this is the reading that
    works. The paper tunes its encoder (UNI) and does not say how; here it is frozen by default. Of one that learns, all
    before the last blocks is frozen, there is no dropout, and the scale of its features stays that of before the
    training. All of that, the hidden layer of the H&E side, that places are left out in training, and that the
    expression side knows how many cells a tile has, is our choice. Training lasts for epochs that see 25,000 tiles
    together, at least 20 and at most 200.

    Examples
    --------
    >>> import stdistill as sd
    >>> sdata = sd.pp.read_xenium(sd.datasets.simulate_xenium("slide/outs", n_cells=800))
    >>> sd.pp.embed_expression(sdata, max_epochs=1)
    >>> sd.pp.tiles(sdata)
    >>> sd.pp.embed_tiles(sdata, encoder="texture")
    >>> model = sd.tl.align(sdata, max_epochs=2, progress_bar=False)
    >>> sdata["tiles"].obsm["X_aligned_he"].shape[1]
    192
    """
    check_fitting(arguments)
    check_name(key_added, "key_added")
    if encoder is not None and not arguments["finetune_blocks"]:
        msg = "encoder= is the one to fine-tune: give finetune_blocks= too. Features are computed by sd.pp.embed_tiles."
        raise ValueError(msg)
    slides = get_slides(data)
    he_keys: dict[str, str] = {scale: f"{he_rep}_{scale}" for scale in arguments["scales"]}
    inputs = alignment_inputs(
        slides,
        he_keys=he_keys,
        use_rep=use_rep,
        radius_um=arguments["radius_um"],
        max_pairs=arguments["max_pairs"],
        split_key=split_key,
        tiles_key=tiles_key,
    )
    check_unseen(inputs, next(iter(he_keys.values())), use_rep, split_key)
    training = inputs.training & inputs.with_he & inputs.with_cells
    if training.sum() < 2:
        msg = (
            f"There are {training.sum()} tiles to train on, and a contrast needs some to tell apart: "
            f"{inputs.training.sum()} of {len(training)} are for training, of which "
            f"{(inputs.training & inputs.with_he).sum()} have H&E features and "
            f"{(inputs.training & inputs.with_cells).sum()} a cell whose expression is known."
        )
        raise ValueError(msg)
    origins = {key: common_origin(inputs.tiles, key) for key in he_keys.values()}
    latent = common_origin(inputs.cells, use_rep)
    from stdistill.models.alignment.fit import fit_alignment
    from stdistill.models.feature_card import FeatureCard

    learned = None
    if arguments["finetune_blocks"]:
        scale, key = next(iter(he_keys.items()))
        base = find_encoder(FeatureCard(key, inputs.data.images[scale].shape[1], **origins[key]), encoder)
        tuned = f"{he_rep}_{key_added}"
        learned = finetune(slides, inputs, training, base, arguments, key_added=tuned, tiles_key=tiles_key)
        fitted, inputs, he_keys = learned.fitted, learned.inputs, learned.he_keys
        origins = {key: common_origin(inputs.tiles, key) for key in he_keys.values()}
    else:
        fitted = fit_alignment(inputs.data, training, arguments)
    model = _build_model(fitted, inputs, training, arguments, he_keys, use_rep, origins, latent, learned)
    how: dict[str, Any] = {"device": arguments["accelerator"]}
    he = model.embed_he(inputs.data.images, tiles=np.flatnonzero(inputs.with_he), **how)
    expression = model.embed_expression(inputs.data.graphs, tiles=np.flatnonzero(inputs.with_cells), **how)
    write_alignment(
        "align",
        inputs,
        model,
        he,
        expression,
        model.embed_cells(inputs.data.graphs, **how),
        inputs.divide(training),
        key_added=key_added,
        use_rep=use_rep,
        he_rep=he_rep,
        split_key=split_key,
        scales=list(arguments["scales"]),
        radius_um=arguments["radius_um"],
        max_pairs=arguments["max_pairs"],
        finetune_blocks=arguments["finetune_blocks"],
        **model.card.network,
        **model.card.training,
    )
    logger.info(
        'Trained on %d tiles in %d epochs; wrote .obsm["X_%s_he"], ….', training.sum(), len(model.history), key_added
    )
    return model


def _build_model(
    fitted: FittedAlignment,
    inputs: AlignmentInputs,
    training: Any,
    arguments: FittingArguments,
    he_keys: dict[str, str],
    use_rep: str,
    origins: dict[str, Any],
    latent: Any,
    learned: Finetuned | None,
) -> AlignmentModel:
    """Give what was fitted its card, and let it remember its tiles."""
    from stdistill.models import AlignmentCard, AlignmentModel
    from stdistill.models.feature_card import FeatureCard

    images = inputs.data.images
    values: dict[str, Any] = dict(arguments)
    first = next(iter(he_keys))
    card = AlignmentCard(
        he={
            scale: FeatureCard(key, images[scale].shape[1], **origins[key]).entries() for scale, key in he_keys.items()
        },
        expression=FeatureCard(use_rep, inputs.data.graphs.cells.shape[1], **latent).entries(),
        tile_um=inputs.data.side_um,
        radius_um=float(arguments["radius_um"]),
        max_pairs=int(arguments["max_pairs"]),
        network=fitted.size,
        finetuned=None if learned is None else learned.described,
        images=images_of_training(inputs.tiles, [he_keys[first]], inputs.divide(training)),
        training={**{name: values[name] for name in RECORDED}, **fitted.training},
        versions={package: version(package) for package in ("stdistill", "torch", "lightning")},
    )
    marks = mark_cells(images[first], inputs.data.centers)
    model = AlignmentModel(fitted.network, card, fitted.history, np.unique(marks[training]), learned and learned.blocks)
    model.known_sha256 = model.sha256
    return model
