"""Expression features: the latent of scVI, which the niche teacher learns from."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from stdistill._support.arrays import Mask
from stdistill._support.checks import check_integer, check_name, some
from stdistill._support.warn import warn
from stdistill._table import schema
from stdistill._table.checks import copy_table, get_centers, get_counts, get_library_codes, get_split, get_table
from stdistill._table.fitting.inputs import check_split, training_cells
from stdistill._table.libraries import find_library_key, warn_of_overlap
from stdistill._table.marks.cells import mark_counts
from stdistill._table.marks.rows import write_features
from stdistill._table.provenance.results import write_fitted
from stdistill._table.records import write_record

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from stdistill.models.expression import ExpressionModel

logger = logging.getLogger("stdistill")


def embed_expression(
    data: AnnData | SpatialData,
    *,
    layer: str | None = None,
    library_key: str | None = None,
    split_key: str | None = schema.SPLIT,
    n_latent: int = 10,
    max_epochs: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    model: str | os.PathLike[str] | None = None,
    save: str | os.PathLike[str] | None = None,
    table_key: str = schema.TABLE,
    key_added: str = schema.EXPRESSION_LATENT,
    copy: bool = False,
) -> AnnData | SpatialData | None:
    """Embed each cell's gene counts with scVI.

    scVI is trained on the training cells alone, when there is a split, and then gives every cell its latent, those for
    testing and of the buffer too. A saved model is applied to another slide with `model`, without any training.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with raw counts. All of its genes are used.
    layer
        Layer with the raw counts; by default ``.X``.
    library_key
        Column of ``.obs`` that names each cell's slide, scVI's ``batch_key``: the decoder accounts for differences
        between slides, so that the latent need not. By default that of the neighbourhoods, else the regions that the
        table annotates, when there are several.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. Without, or with `None`, scVI is trained on all cells.
    n_latent
        Dimension of the latent.
    max_epochs
        Passes over the training cells, all of which are made. By default at most as many as scVI chooses, 400 for up to
        20,000 training cells and 8,000,000 divided by their number for more, and no more once the loss on the held-out
        cells has not fallen for 10 of them.
    batch_size
        Cells in a training step.
    seed
        Of the weights, of the order of the cells and of the tenth of them that scVI holds out.
    accelerator, devices
        Where to train, in Lightning's words: ``"cpu"``, ``"gpu"``, …; a number of devices or their indices.
    model
        Folder of a saved model to apply. It must know no gene that the table lacks; further genes are left out, their
        order is free, and the slide need not be one of those trained on. The other parameters of training are not used.
    save
        New folder that the trained model is written to; it appears when all of it is written.
    table_key
        Name of the table of a SpatialData.
    key_added
        Key of ``.obsm`` that is written.
    copy
        Return a copy with the result instead of writing to `data`. Of a SpatialData the table is copied.

    Returns
    -------
    `None`, or the copy. Written to the table:

    ``.obsm[key_added]``
        (n, n_latent) float32: the mean of each cell's posterior.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that scVI was trained on; of a saved `model` those of its own that it knows again.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the scVI model: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        uint32, a number for each cell's latent: it tells when rows of ``.obs`` or ``.obsm`` were moved by themselves.
    ``.uns["stdistill"]["embed_expression"]``
        How the model was trained: parameters, ``n_training_cells``, ``n_genes``, ``n_epochs`` (those that were
        trained, of ``max_epochs``), ``elbo_train`` (the loss, one value an epoch), ``elbo_validation`` (on the held-out
        tenth, at the end), ``scvi_version``; ``model_sha256``, which tells latents of one model from those of another;
        and ``fingerprint``, which tells this latent from others.

    Raises
    ------
    KeyError
        When the table, `layer`, `library_key` or `split_key` is not there.
    ValueError
        When values are no counts (negative, fractional, NaN), all are zero, gene names are not unique, there are no
        training cells, the table lacks genes of `model`, or the model cannot be read.
    FileExistsError
        When `save` exists already.
    FileNotFoundError
        When there is no model in the folder `model`.
    RuntimeError
        When the training diverged.

    Warns
    -----
    UserWarning
        When cells have no transcripts. They get the latent of an empty cell, which is the same for all of them. When
        genes are controls of a panel by their names, such as ``"NegControlProbe_00042"``.

    Notes
    -----
    scVI as the cells' expression features: Hizmi et al. 2026, section 4.1. The model is that of Lopez et al. 2018
    (doi:10.1038/s41592-018-0229-2) with the defaults of scvi-tools, in which a tenth of the cells given for training is
    held out; training on the training cells alone is our choice (the paper does not say).

    The encoder does not see which slide a cell is from, only the decoder does: that is why a saved model can be applied
    to slides it was not trained on. It is not adapted to them.

    A saved model is a card in JSON and weights as safetensors: scVI's own files are pickled, and opening such a file
    can run code. The matrix is shared with scVI, not copied; one on disk (backed) is read into memory once.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(1.0, (200, 30)))
    >>> sd.pp.embed_expression(adata, max_epochs=1, save="scvi/")
    >>> adata.obsm["X_scVI"].shape
    (200, 10)
    >>> another = ad.AnnData(np.random.default_rng(1).poisson(1.0, (100, 30)))
    >>> sd.pp.embed_expression(another, model="scvi/")
    """
    check_integer(n_latent, "n_latent", minimum=1)
    if max_epochs is not None:
        check_integer(max_epochs, "max_epochs", minimum=1)
    check_integer(batch_size, "batch_size", minimum=3)
    check_integer(seed, "seed", minimum=0, maximum=2**32 - 1)
    check_name(key_added, "key_added")
    if model is not None and save is not None:
        msg = "model= applies a saved model and save= writes a trained one: give one of them."
        raise ValueError(msg)
    if save is not None:
        _check_free(Path(save).expanduser())
    if copy:
        data = copy_table(data, table_key)
    adata = get_table(data, table_key)
    if not adata.var_names.is_unique:
        names = some(map(repr, adata.var_names[adata.var_names.duplicated()]))
        msg = f"Gene names are not unique ({names}): run .var_names_make_unique() on the table."
        raise ValueError(msg)
    if model is None:
        found = _train(
            adata,
            layer,
            library_key,
            split_key,
            n_latent=int(n_latent),
            max_epochs=None if max_epochs is None else int(max_epochs),
            batch_size=int(batch_size),
            seed=int(seed),
            accelerator=accelerator,
            devices=devices,
        )
    else:
        found = _apply(adata, layer, model)
    trained = found.model
    latent = trained.encode(found.counts)
    marks = mark_counts(found.counts, adata.obsm.get(schema.SPATIAL))
    if found.training is not None:
        trained.seen = np.unique(marks[found.training])
    fitted = np.isin(marks, [] if trained.seen is None else trained.seen) if found.training is None else found.training
    made = write_features(adata, key_added, latent)
    write_fitted(adata, key_added, fitted, trained.sha256)
    write_record(
        adata,
        "embed_expression",
        layer=layer,
        key_added=key_added,
        n_cells=adata.n_obs,
        n_genes=len(trained.card.genes),
        n_latent=trained.card.n_latent,
        model_sha256=trained.sha256,
        fingerprint=made,
        **found.params,
        elbo_train=trained.history["elbo_train"].to_numpy(),
        **trained.card.training,
    )
    logger.info('Wrote .obsm["%s"] (%d × %d) with %s.', key_added, *latent.shape, found.source)
    if save is not None:
        trained.save(Path(save).expanduser())
        logger.info("Wrote the model to %s.", os.fspath(save))
    return data if copy else None


class _Found(NamedTuple):
    """A model, and what it is to read."""

    model: ExpressionModel
    counts: Any
    """(n, genes), those of the model in its order."""
    training: Mask | None
    """(n,), the cells that it was trained on, of one that was trained here."""
    params: dict[str, Any]
    """For the record."""
    source: str
    """Where the model is from, in words."""


def _train(adata: AnnData, layer: str | None, library_key: str | None, split_key: str | None, **how: Any) -> _Found:
    """Train a model on the training cells."""
    split = get_split(adata, split_key)
    check_split([adata], split_key)
    training = training_cells(adata, split)
    library_key = find_library_key(adata, library_key)
    libraries = _libraries(adata, library_key)
    if library_key is None and schema.SPATIAL in adata.obsm:
        advice = "Their batches are not told apart: name the slides in a column, and give it as library_key=."
        warn_of_overlap(adata, get_centers(adata), advice)
    counts = get_counts(adata, layer, "scVI needs")
    _check_not_empty(counts)
    source = f"scVI on {training.sum()} of {adata.n_obs} cells"
    source += " (there is no split)" if split is None else f" ({schema.TRAIN!r} in .obs[{split.name!r}])"
    logger.info("Training %s, %d genes.", source, adata.n_vars)
    from stdistill.models import expression  # imports scvi, which takes seconds

    model = expression.train(counts, adata.var_names.tolist(), libraries, np.flatnonzero(training), **how)
    params = {"library_key": library_key, "split_key": None if split is None else split.name}
    return _Found(model, counts, training, params, source)


def _apply(adata: AnnData, layer: str | None, path: str | os.PathLike[str]) -> _Found:
    """Load a saved model, and choose its genes."""
    counts = get_counts(adata, layer, "scVI needs")
    model = _load(Path(path).expanduser())
    counts = _select_genes(counts, adata.var_names, model.card.genes)
    _check_not_empty(counts)
    return _Found(model, counts, None, {"model": os.fspath(path)}, f"the model in {os.fspath(path)}")


def _load(folder: Path) -> ExpressionModel:
    """Read a saved model, or say where one comes from."""
    from stdistill.models.expression import ExpressionModel

    try:
        return ExpressionModel.load(folder)
    except FileNotFoundError as error:
        theirs = " scVI's own files are not read, because opening them can run code." * (folder / "model.pt").is_file()
        msg = f"{error} sd.pp.embed_expression writes one with save=.{theirs}"
        raise FileNotFoundError(msg) from error
    except ValueError as error:
        msg = f"The expression model in {folder} cannot be read ({error}). Write it anew with save=."
        raise ValueError(msg) from error


def _check_free(folder: Path) -> None:
    if folder.exists():
        msg = f"{folder} exists already: give save= a new folder, or remove this one."
        raise FileExistsError(msg)


def _libraries(adata: AnnData, library_key: str | None) -> pd.Series:
    """Name each cell's slide."""
    if library_key is None:
        return pd.Series("all", index=adata.obs_names)
    get_library_codes(adata, library_key)  # checks that each cell has one
    names: pd.Series = adata.obs[library_key].astype(str)
    return names


def _select_genes(counts: Any, names: pd.Index, genes: list[str]) -> Any:
    """Bring the columns into the order of the model's genes."""
    columns = names.get_indexer(pd.Index(genes))
    absent = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
    if absent:
        msg = (
            f"The table lacks {len(absent)} of the {len(genes)} genes of the model: {some(map(repr, absent))}. Its own "
            f"{len(names)} are named like {some(map(repr, names), 3)}. Apply the model to slides of the same panel, or "
            "train one on the genes that both have."
        )
        raise ValueError(msg)
    if np.array_equal(columns, np.arange(len(names))):
        return counts
    logger.info("Used %d of the %d genes, in the order of the model.", len(genes), len(names))
    return counts[:, columns]


def _check_not_empty(counts: Any) -> None:
    n_empty = int((counts.sum(axis=1) == 0).sum())
    if n_empty == counts.shape[0]:
        msg = f"The table has no counts: {counts.shape[0]} cells and {counts.shape[1]} genes, all zero."
        raise ValueError(msg)
    if n_empty:
        warn(
            f"{n_empty} cells have no transcripts. They get the latent of an empty cell, the same for all; remove them "
            "first if they should have none."
        )
