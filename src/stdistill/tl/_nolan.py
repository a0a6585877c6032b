"""The self-supervised niche teacher."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack, get_args

import numpy as np

from stdistill._runs.complete import complete_expression, complete_neighborhoods
from stdistill._support.arguments import takes
from stdistill._support.checks import check_choice
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.fitting.inputs import check_fittable, check_split, fitting_inputs, get_tables
from stdistill._table.fitting.results import Naming, check_niches, write_model
from stdistill._table.niches import default_colors
from stdistill._training.arguments import TrainingArguments, check_training, default_epochs
from stdistill.models.niche.arguments import (
    TEACHER_DEFAULTS,
    Centering,
    NetworkArguments,
    NicheArguments,
    network_size,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models import NicheModel

logger = logging.getLogger("stdistill")

CELLS_SEEN = 60_000
"""Cells that training sees by default, all epochs together, within `EPOCHS` (our choice)."""
EPOCHS = (3, 200)


@takes(NetworkArguments, TrainingArguments, defaults=TEACHER_DEFAULTS)
def nolan(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    k: int = 20,
    use_rep: str = schema.EXPRESSION_LATENT,
    key_added: str = schema.TEACHER,
    centering: Centering = "centering",
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    table_key: str = schema.TABLE,
    **arguments: Unpack[NicheArguments],
) -> NicheModel:
    """Find tissue niches without labels, by self-distillation.

    A student sees parts of each cell's neighbourhood: some of its cells, all over it or within three quarters of its
    radius around a place near the cell. It learns to name the niche that the teacher, its own moving average, sees in
    the whole neighbourhood. The niches are the `k` prototypes of the head: what the parts of a neighbourhood agree on.
    Cells for testing and of the buffer are never trained on; every cell in a group of the split gets a niche.

    What is missing is made first, and said so in the log: the expression latent
    (:func:`stdistill.pp.embed_expression`) and the neighbourhoods (:func:`stdistill.pp.neighborhoods`).

    Parameters
    ----------
    data
        Table, or SpatialData with a table; or a list of them, one per slide, whose cells are trained on together, with
        the same niches and one radius.
    k
        Number of niches. Fewer may be used; the empty ones are reported.
    use_rep
        Key of ``.obsm`` of the features, floating point; a row with a NaN is a cell without features. With ``"X_he"``
        (and ``key_added="he_nolan"``) this is the baseline that learns niches from H&E alone.
    key_added
        Prefix of what is written.
    centering
        How the niches are kept from becoming one. ``"centering"`` subtracts from the teacher's outputs their running
        mean, and lets niches be of any size; ``"sinkhorn"`` makes the targets of each batch of even size.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. Without, or with `None`, all cells are trained on.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    table_key
        Name of the table of a SpatialData.
    **arguments

    Returns
    -------
    The teacher. Its ``history`` has a row per epoch: ``training_loss``, ``occupied_niches``, ``largest_niche`` (share
    of the cells), ``size_entropy`` (1 for even niches), ``target_entropy`` (0 when each cell's niche is sure) and
    ``effective_rank`` of what the network reads. Written to the table:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns; NaN for cells without a prediction: those in the buffer or off the image.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the largest logit; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that the teacher, or the latent it stands on, was fitted on.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the model: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        Their colours.
    ``.uns["stdistill"]["nolan"]``
        The parameters, ``radius_um``, ``n_training_cells``, ``n_epochs``, ``occupied_niches``; fingerprints of the
        neighbourhoods (``graph``), the ``features``, the model (``model_sha256``) and the logits (``fingerprint``).

    Raises
    ------
    KeyError
        When the table, the features, `split_key` or `library_key` is not there, or several tables have no latent.
    ValueError
        When there are fewer training cells than niches, all have the same features, features are infinite or of
        different dimensions, encoders or scVI models, radii differ, the graph joins training and test cells or was made
        with another split, a cell is there twice, once to train and once to test, the latent was fitted on test cells,
        H&E crops are larger than those that the split keeps apart, or a number is out of range.
    TypeError
        When features are no dense floating point array.
    RuntimeError
        When the niches collapse into one.

    Warns
    -----
    UserWarning
        When niches are empty, or the latent was fitted on all cells before there was a split.

    Notes
    -----
    By default training lasts for epochs that see 60,000 cells together, at least 3 and at most 200.

    That NOLAN (named and described in Hizmi et al. 2026, section 3.2) is self-distillation in the manner of DINO (Caron
    et al. 2021), with global views of radius R and local ones of 0.75 R, is inferred from what is public of it; we know
    of no public text or code. Temperatures (0.1 and 0.04) and centring are DINO's. DINO has tens of thousands of
    prototypes; with as few as there are niches, where they start decides what they become, so for the first 30 % of the
    steps the targets are the k-means clusters of the neighbourhoods' mean features. That, the moving average's momentum
    of 0.99, the number of views and the share of dropped cells are our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_scVI"] = np.c_[adata.obsm["spatial"] // 150, rng.normal(size=(300, 6))].astype("float32")
    >>> teacher = sd.tl.nolan(adata, k=4, width=16, max_epochs=5, progress_bar=False)
    >>> adata.obs["teacher_niche"].cat.categories.tolist()
    ['0', '1', '2', '3']
    """
    check_niches(k, key_added)
    check_training(arguments)
    check_choice(centering, "centering", get_args(Centering))
    size = network_size(arguments, "prototypes")
    tables = get_tables(data, table_key)
    check_split(tables, split_key)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if use_rep == schema.EXPRESSION_LATENT:
        complete_expression(tables, seed=arguments["seed"], accelerator=arguments["accelerator"], **keys)
    origin = check_fittable(tables, use_rep, split_key)
    complete_neighborhoods(tables, **keys)
    inputs = fitting_inputs(tables, use_rep=use_rep, **keys)

    from stdistill.models.niche.fit_teacher import train_teacher

    neighborhoods = inputs.neighborhoods(arguments["max_tokens"])
    training = inputs.training & neighborhoods.known
    n_training = int(training.sum())
    if n_training < k:
        msg = (
            f"{n_training} cells can be trained on, for k={k} niches: {inputs.training.sum()} are training cells, "
            f"of which {n_training} have features in .obsm[{use_rep!r}]. Expected at least one per niche."
        )
        raise ValueError(msg)
    if arguments["max_epochs"] is None:
        arguments["max_epochs"] = default_epochs(n_training, CELLS_SEEN, EPOCHS)
    fitted = train_teacher(
        neighborhoods, inputs.libraries, training, k=k, size=size, centering=centering, arguments=arguments
    )
    model, sizes = write_model(
        fitted,
        inputs,
        Naming("nolan", key_added, use_rep, [str(niche) for niche in range(k)], default_colors(k)),
        training=training,
        size=size,
        arguments=arguments,
        origin=origin,
        **keys,
        centering=centering,
    )
    if not sizes.all():
        warn(f"{(sizes == 0).sum()} of k={k} niches are empty: no training cell is in {np.flatnonzero(sizes == 0)}.")
    return model
