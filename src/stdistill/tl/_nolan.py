"""The self-supervised niche teacher."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from anndata import AnnData

from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.fitting.inputs import check_features, check_split, ensure_neighborhoods, get_tables, niche_inputs
from stdistill._table.fitting.origin import common_origin
from stdistill._table.fitting.results import Naming, check_counts, check_training, default_epochs, write_model
from stdistill._table.niches import default_colors

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models import NicheModel

logger = logging.getLogger("stdistill")

Centering = Literal["centering", "sinkhorn"]

CELLS_SEEN = 60_000
"""Cells that training sees by default, all epochs together, within `EPOCHS` (our choice)."""
EPOCHS = (3, 200)


def nolan(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    k: int = 20,
    use_rep: str = schema.EXPRESSION_LATENT,
    key_added: str = schema.TEACHER,
    centering: Centering = "centering",
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    size: Literal["small", "base"] = "small",
    width: int | None = None,
    depth: int | None = None,
    n_heads: int | None = None,
    n_frequencies: int = 6,
    dropout: float = 0.0,
    max_tokens: int | None = None,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.04,
    max_epochs: int | None = None,
    max_steps: int = -1,
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "32-true",
    n_workers: int = 0,
    checkpoint_dir: str | Path | None = None,
    progress_bar: bool = True,
    seed: int = 0,
    table_key: str = schema.TABLE,
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
        Column of ``.obs`` that names each cell's slide, in a table of several.
    size
        ``"small"`` (width 128, 2 layers, 4 heads) trains in minutes on two CPU cores; ``"base"`` (384, 4, 8) is the
        size for whole slides and a GPU.
    width, depth, n_heads
        Width of the tokens, number of layers, heads of each; by default those of `size`.
    n_frequencies
        Frequencies of the encoding of positions.
    dropout
        Share of activations set to 0 in training.
    max_tokens
        Cells of a neighbourhood to keep, those nearest to its centre; by default all. The share of cells that it
        touches is recorded.
    batch_size
        Cells per step and device.
    learning_rate, weight_decay
        Of AdamW, whose learning rate rises over the first tenth of the steps and then falls along a cosine.
    max_epochs, max_steps
        How long to train, whichever ends first. By default epochs that see 60,000 cells together, at least 3 and at
        most 200.
    accelerator, devices, num_nodes, strategy, precision
        As of :class:`lightning.pytorch.Trainer`. With several devices each of the processes returns the model and
        writes to its own table: let one of them save.
    n_workers
        Processes that make batches, beside the one that trains; the result does not depend on it.
    checkpoint_dir
        Folder for a checkpoint after each epoch. The same call goes on from it, to the same bits: after a kill to the
        end, after the end without training again.
    progress_bar
        Whether to show one.
    seed
        Of the weights, the order of the cells, the views and the start.
    table_key
        Name of the table of a SpatialData.

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
    ``.uns["{key_added}_niche_colors"]``
        Their colours.
    ``.uns["stdistill"]["nolan"]``
        The parameters, ``radius_um``, ``n_training_cells``, ``n_epochs``, ``occupied_niches``.

    Raises
    ------
    KeyError
        When the table, the features, `split_key` or `library_key` is not there, or several tables have no latent.
    ValueError
        When there are fewer training cells than niches, all have the same features, features are infinite or of
        different dimensions, encoders or scVI models, radii differ, the graph joins training and test cells, or a
        number is out of range.
    TypeError
        When features are no dense floating point array.
    RuntimeError
        When the niches collapse into one.

    Warns
    -----
    UserWarning
        When niches are empty.

    Notes
    -----
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
    check_training(
        k=k,
        key_added=key_added,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_steps=max_steps,
        seed=seed,
    )
    check_counts(max_epochs=max_epochs, max_tokens=max_tokens)
    if centering not in get_args(Centering):
        msg = f"centering must be one of {list(get_args(Centering))}, found {centering!r}."
        raise ValueError(msg)
    from stdistill.models.niche.network import network_arguments

    network = network_arguments(
        size, "prototypes", width=width, depth=depth, n_heads=n_heads, n_frequencies=n_frequencies, dropout=dropout
    )
    tables = get_tables(data, table_key)
    check_split(tables, split_key)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if use_rep == schema.EXPRESSION_LATENT:
        _ensure_expression(tables, seed=seed, **keys)
    check_features(tables, use_rep)
    origin = common_origin(tables, use_rep)
    ensure_neighborhoods(tables, **keys)
    inputs = niche_inputs(tables, use_rep=use_rep, **keys)

    from stdistill._training.trainer import Learning, TrainerOptions
    from stdistill.models.niche.fit_teacher import train_teacher

    neighborhoods = inputs.neighborhoods(max_tokens)
    training = inputs.training & neighborhoods.known
    n_training = int(training.sum())
    if n_training < k:
        msg = (
            f"{n_training} cells can be trained on, for k={k} niches: {inputs.training.sum()} are training cells, "
            f"of which {n_training} have features in .obsm[{use_rep!r}]. Expected at least one per niche."
        )
        raise ValueError(msg)
    max_epochs = default_epochs(n_training, CELLS_SEEN, EPOCHS) if max_epochs is None else max_epochs
    fitted = train_teacher(
        neighborhoods,
        inputs.libraries,
        training,
        k=k,
        network=network,
        centering=centering,
        learning=Learning(batch_size, learning_rate, weight_decay, seed, n_workers),
        options=TrainerOptions(
            max_epochs=max_epochs,
            max_steps=max_steps,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,
            checkpoint_dir=checkpoint_dir,
            progress_bar=progress_bar,
        ),
    )
    model, sizes = write_model(
        fitted,
        inputs,
        Naming("nolan", key_added, use_rep, [str(niche) for niche in range(k)], default_colors(k)),
        training=training,
        network=network,
        max_tokens=max_tokens,
        origin=origin,
        parameters={
            "size": size,
            "centering": centering,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "max_epochs": max_epochs,
            "seed": seed,
        },
        keys=keys,
    )
    if not sizes.all():
        warn(f"{(sizes == 0).sum()} of k={k} niches are empty: no training cell is in {np.flatnonzero(sizes == 0)}.")
    return model


def _ensure_expression(tables: Sequence[AnnData], *, split_key: str | None, library_key: str | None, seed: int) -> None:
    """Compute the expression latent of a table that has none."""
    if all(schema.EXPRESSION_LATENT in table.obsm for table in tables):
        return
    if len(tables) > 1:
        msg = (
            f'Not all tables have .obsm["{schema.EXPRESSION_LATENT}"], and latents made slide by slide would not be '
            "comparable: compute them in one go on the concatenated tables with "
            "sd.pp.embed_expression(library_key=...)."
        )
        raise KeyError(msg)
    from stdistill.pp._embed_expression import embed_expression

    logger.info("There is no expression latent: computing it with sd.pp.embed_expression.")
    embed_expression(tables[0], split_key=split_key, library_key=library_key, seed=seed)
