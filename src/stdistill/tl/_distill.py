"""Distillation of a niche teacher into a student that sees H&E alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stdistill._table import schema
from stdistill._table.checks import check_positive
from stdistill._table.fitting.inputs import check_features, check_split, ensure_neighborhoods, get_tables, niche_inputs
from stdistill._table.fitting.origin import common_origin
from stdistill._table.fitting.results import Naming, check_counts, check_training, default_epochs, write_model
from stdistill._table.fitting.targets import has_teacher, missing_teacher, read_teacher

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models import NicheModel

logger = logging.getLogger("stdistill")

CELLS_SEEN = 200_000
"""Cells that training sees by default, all epochs together, within `EPOCHS` (our choice)."""
EPOCHS = (5, 50)


def distill(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    k: int = 20,
    teacher_key: str = schema.TEACHER,
    use_rep: str = schema.HE_FEATURES,
    key_added: str = schema.STUDENT,
    temperature: float | None = None,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    size: Literal["small", "base"] = "small",
    width: int | None = None,
    depth: int | None = None,
    n_heads: int | None = None,
    n_frequencies: int = 6,
    dropout: float = 0.1,
    max_tokens: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    max_epochs: int | None = None,
    max_steps: int = -1,
    patience: int | None = 5,
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
    """Teach a student to see in H&E the niches that a teacher sees in expression.

    The student is a transformer over the H&E features of a cell's neighbourhood. It learns from the training cells to
    match the teacher's softened niches, L = τ² · mean KL(softmax(teacher / τ) ‖ softmax(student / τ)), and then says
    for every cell which niche it is in. Test and buffer cells are never trained on, nor used to stop.

    What is missing on the way is made first, and said so in the log: neighbourhoods, and, for the default
    `teacher_key`, the expression latent and the teacher (:func:`stdistill.tl.nolan`).

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with H&E features; or a list of them, one per slide, whose cells are trained
        on together, with the same niches and one radius.
    k
        Number of niches: that of the teacher. Of a column of labels it is the number of labels, and not used.
    teacher_key
        Prefix of the teacher's logits in ``.obs``, or a column of labels (another method's niches, a pathologist's
        regions); cells without a label are not trained on. Labels are learned by cross-entropy.
    use_rep
        Key of ``.obsm`` of the features, floating point; a row with a NaN is a cell without features.
    key_added
        Prefix of what is written.
    temperature
        τ. By default the one at which the teacher's softened niches have on average a quarter of the entropy of even
        ones, which does not depend on the scale of its logits.
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
        How long to train, whichever ends first. By default epochs that see 200,000 cells together, at least 5 and at
        most 50.
    patience
        Stop after so many epochs in which the loss on held-out blocks of the training tissue did not fall, and keep the
        best epoch. `None` trains to the end and holds nothing out; so does tissue too small for blocks.
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
        Of the weights, the order of the cells, dropout and the held-out blocks.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    The student. Written to the table:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns; NaN for cells without a prediction: those in the buffer or off the image.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the largest logit, under the teacher's names; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits.
    ``.uns["{key_added}_niche_colors"]``
        The teacher's colours.
    ``.uns["stdistill"]["distill"]``
        The parameters, ``temperature``, ``radius_um``, ``n_training_cells``, ``n_validation_cells``, ``n_epochs``,
        ``occupied_niches``.

    Raises
    ------
    KeyError
        When the table, the features, `teacher_key`, `split_key` or `library_key` is not there.
    ValueError
        When the teacher has another number of niches, there are fewer training cells than niches, features are infinite
        or of different dimensions or encoders, radii differ, the graph joins training and test cells, or a number is
        out of range.
    TypeError
        When features are no dense floating point array, or the labels are floating point numbers.

    Notes
    -----
    The loss, the student's input and that only the student is trained: Hizmi et al. 2026, section 4.2 and equation 1.
    The paper states neither temperature, nor size, nor optimiser, nor when to stop: all of that is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    >>> adata.obs["pathologist"] = np.where(adata.obsm["spatial"][:, 0] < 150, "tumour", "stroma")
    >>> student = sd.tl.distill(adata, teacher_key="pathologist", max_epochs=2, progress_bar=False)
    >>> adata.obs["student_niche"].cat.categories.tolist()
    ['stroma', 'tumour']
    """
    check_training(
        k=k,
        key_added=key_added,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_steps=max_steps,
        seed=seed,
    )
    check_counts(max_epochs=max_epochs, max_tokens=max_tokens, patience=patience)
    if temperature is not None:
        check_positive(temperature, "temperature")
    from stdistill.models.niche.network import network_arguments

    network = network_arguments(
        size, "linear", width=width, depth=depth, n_heads=n_heads, n_frequencies=n_frequencies, dropout=dropout
    )
    tables = get_tables(data, table_key)
    check_features(tables, use_rep)
    origin = common_origin(tables, use_rep)
    check_split(tables, split_key)
    where: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
        "progress_bar": progress_bar,
    }
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if not has_teacher(tables, teacher_key):
        if teacher_key != schema.TEACHER:
            raise missing_teacher(tables, teacher_key)
        from stdistill.tl._nolan import nolan

        logger.info("There is no teacher in .obs: fitting one with sd.tl.nolan(k=%d).", k)
        kept = None if checkpoint_dir is None else Path(checkpoint_dir) / teacher_key
        nolan(data, k=k, seed=seed, table_key=table_key, checkpoint_dir=kept, **keys, **where)
    teacher = read_teacher(tables, teacher_key, k)
    ensure_neighborhoods(tables, **keys)
    inputs = niche_inputs(tables, use_rep=use_rep, **keys)

    from stdistill._training.trainer import Learning, TrainerOptions
    from stdistill.models.niche.fit_student import train_student

    neighborhoods = inputs.neighborhoods(max_tokens)
    training = inputs.training & neighborhoods.known & teacher.known
    n_training, k = int(training.sum()), len(teacher.niches)
    if n_training < k:
        msg = (
            f"{n_training} cells can be trained on, for k={k} niches: {inputs.training.sum()} are training cells, "
            f"of which {(inputs.training & neighborhoods.known).sum()} have features and "
            f"{(inputs.training & teacher.known).sum()} a teacher. Expected at least one per niche."
        )
        raise ValueError(msg)
    max_epochs = default_epochs(n_training, CELLS_SEEN, EPOCHS) if max_epochs is None else max_epochs
    fitted = train_student(
        neighborhoods,
        inputs.libraries,
        teacher.targets,
        training,
        k=k,
        network=network,
        temperature=temperature,
        patience=patience,
        learning=Learning(batch_size, learning_rate, weight_decay, seed, n_workers),
        options=TrainerOptions(max_epochs=max_epochs, max_steps=max_steps, checkpoint_dir=checkpoint_dir, **where),
    )
    model, _ = write_model(
        fitted,
        inputs,
        Naming("distill", key_added, use_rep, teacher.niches, teacher.colors),
        training=training,
        network=network,
        max_tokens=max_tokens,
        teacher=teacher_key,
        origin=origin,
        parameters={
            "size": size,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "max_epochs": max_epochs,
            "seed": seed,
        },
        keys=keys,
    )
    return model
