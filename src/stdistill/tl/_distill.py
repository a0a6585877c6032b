"""Distillation of a niche teacher into a student that sees H&E alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, get_args

from stdistill._runs.complete import complete_neighborhoods
from stdistill._support.arguments import takes
from stdistill._support.checks import check_choice, check_integer, check_positive
from stdistill._table import schema
from stdistill._table.fitting.inputs import check_fittable, check_split, fitting_inputs, get_tables
from stdistill._table.fitting.results import Naming, check_niches, write_model
from stdistill._table.fitting.targets import has_targets, missing_targets, read_targets, warn_of_labels_alone
from stdistill._table.provenance.checks import check_teacher_radius, check_teachers
from stdistill._table.provenance.whole import warn_of_other_cells
from stdistill._training.arguments import Standardization, TrainingArguments, check_training, default_epochs
from stdistill.models.niche.arguments import (
    STUDENT_DEFAULTS,
    NetworkArguments,
    NicheArguments,
    network_size,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stdistill.models import NicheModel

logger = logging.getLogger("stdistill")

CELLS_SEEN, MOST_SEEN = 60_000, 300_000
"""Cells that training sees by default, all epochs together, within `EPOCHS`; and that the fewest of these may see (our
choice)."""
EPOCHS = (5, 50)
SHARED_WITH_TEACHER = ("accelerator", "devices", "num_nodes", "strategy", "precision", "progress_bar", "seed")
"""Arguments that a teacher takes over when one is fitted on the way."""


def _default_epochs(n_training_cells: int) -> int:
    fewest, most = EPOCHS
    fewest = max(1, min(fewest, MOST_SEEN // n_training_cells))
    return default_epochs(n_training_cells, CELLS_SEEN, (fewest, most))


@takes(NetworkArguments, TrainingArguments, defaults=STUDENT_DEFAULTS)
def distill(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    k: int = 20,
    teacher_key: str = schema.TEACHER,
    use_rep: str = schema.HE_FEATURES,
    key_added: str = schema.STUDENT,
    temperature: float | None = None,
    standardize: Standardization = "training",
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    patience: int | None = None,
    table_key: str = schema.TABLE,
    **arguments: Unpack[NicheArguments],
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
        Key of ``.obsm`` of the features, floating point; a row with a NaN is a cell without features. Where
        :func:`stdistill.pp.embed_he` also computed those of augmented slides, it is learned from all of them in turn.
    key_added
        Prefix of what is written.
    temperature
        τ. By default the one at which the teacher's softened niches have on average a quarter of the entropy of even
        ones, which does not depend on the scale of its logits. The confidence is of logits on the teacher's scale: a τ
        far below the default, such as 0.05, may find the same niches with a confidence near 1/k. Any above 0 is taken
        (our choice).
    standardize
        Features are brought to the mean and spread of all ``"training"`` cells; or with ``"slide"`` those of each
        slide to that of all of its own cells, in training and of whatever is predicted: what a stain and a scanner do
        to a slide as a whole is then taken away. So is what its tissue as a whole differs by: slides should hold the
        same tissues in similar parts, and be predicted whole. Features of test cells count in the mean of their slide.
        ``student_ood`` is of features as the student sees them.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. Without, or with `None`, all cells are trained on.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    patience
        By default training goes to the end of its schedule and holds nothing out, which was the most accurate on every
        slide that it was measured on. A number holds blocks of the training tissue out, stops after so many epochs in
        which the loss there did not fall, keeps the best epoch, and calibrates the confidence on them; tissue too small
        for blocks holds nothing out.
    table_key
        Name of the table of a SpatialData.
    **arguments

    Returns
    -------
    The student. Written to the table:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns; NaN for cells without a prediction: those in the buffer or off the image.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the largest logit, under the teacher's names; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits; with `patience` they are divided by the temperature at
        which the student is as often right on held-out blocks as it says.
    ``.obs["{key_added}_ood"]``
        float32, how unusual the cell's neighbourhood is: the Mahalanobis distance of the mean of its features from
        those of the training, over the median of cells that these were not described by: test cells, or where there
        are fewer than 100 of them blocks of the training tissue. About 1 is usual. Not written when there are fewer
        than 100 of both.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that the student, or its teacher, was fitted on.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the model: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        The teacher's colours.
    ``.uns["stdistill"]["distill"]``
        The parameters, ``temperature``, ``radius_um``, ``n_training_cells``, ``n_validation_cells``, ``n_epochs``,
        ``occupied_niches``, ``ece_before`` and ``ece_after`` (calibration error on the test cells, of plain and of
        calibrated confidence; the same where nothing was calibrated); fingerprints of the neighbourhoods (``graph``),
        the ``features``, the ``teacher``, the model (``model_sha256``) and the logits (``fingerprint``).

    Raises
    ------
    KeyError
        When the table, the features, `teacher_key`, `split_key` or `library_key` is not there.
    ValueError
        When the teacher has another number of niches, there are fewer training cells than niches, features are infinite
        or of different dimensions or encoders, radii differ, the graph joins training and test cells or was made with
        another split, a cell is there twice, once to train and once to test, the teacher was fitted on test cells, with
        neighbourhoods of another radius or to each table anew, H&E crops are larger than those that the split keeps
        apart, or a number is out of range.
    TypeError
        When features are no dense floating point array, or the labels are floating point numbers.

    Warns
    -----
    UserWarning
        When `teacher_key` is the column of labels of a model whose logits are there and could teach, or labels differ
        in blanks or capitals alone, on one slide or between slides.

    Notes
    -----
    By default training lasts for epochs that see 60,000 cells together, at most 50; at least 5, or of many cells as few
    as see 300,000, and one in any case.

    The loss, the student's input and that only the student is trained: Hizmi et al. 2026, section 4.2 and equation 1.
    The paper states neither temperature, nor size, nor optimiser, nor when to stop: all of that is our choice.

    Calibration by one temperature is that of Guo et al. 2017. The distance is that in a Gaussian of the standardised
    features, exact along 128 principal axes and round around them (Tipping and Bishop 1999); it is kept in the model.

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
    check_niches(k, key_added)
    check_training(arguments)
    if patience is not None:
        check_integer(patience, "patience", minimum=1)
    check_choice(standardize, "standardize", get_args(Standardization))
    if temperature is not None:
        check_positive(temperature, "temperature")
    size = network_size(arguments, "linear")
    tables = get_tables(data, table_key)
    check_split(tables, split_key)
    origin = check_fittable(tables, use_rep, split_key)
    keys: dict[str, Any] = {"split_key": split_key, "library_key": library_key}
    if not has_targets(tables, teacher_key):
        if teacher_key != schema.TEACHER:
            raise missing_targets(tables, teacher_key)
        _fit_teacher(data, k, keys, table_key, arguments)
    warn_of_labels_alone(tables, teacher_key)
    teacher = read_targets(tables, teacher_key, k)
    radius_um = check_teachers(tables, teacher_key, split_key)
    complete_neighborhoods(tables, **keys, radius_um=radius_um)
    inputs = fitting_inputs(tables, use_rep=use_rep, **keys)
    if standardize == "slide":
        warn_of_other_cells(tables, use_rep, library_key)
    check_teacher_radius(radius_um, inputs.radius_um, teacher_key)

    from stdistill.models.niche.fit_student import train_student

    neighborhoods = inputs.neighborhoods(arguments["max_tokens"], with_augmented=True, standardize=standardize)
    training = inputs.training & neighborhoods.known & teacher.known
    n_training, k = int(training.sum()), len(teacher.niches)
    if n_training < k:
        msg = (
            f"{n_training} cells can be trained on, for k={k} niches: {inputs.training.sum()} are training cells, "
            f"of which {(inputs.training & neighborhoods.known).sum()} have features and "
            f"{(inputs.training & teacher.known).sum()} a teacher. Expected at least one per niche."
        )
        raise ValueError(msg)
    if arguments["max_epochs"] is None:
        arguments["max_epochs"] = _default_epochs(n_training)
    fitted = train_student(
        neighborhoods,
        inputs.libraries,
        teacher.values,
        training,
        k=k,
        size=size,
        temperature=temperature,
        patience=patience,
        arguments=arguments,
    )
    model, _ = write_model(
        fitted,
        inputs,
        Naming("distill", key_added, use_rep, teacher.niches, teacher.colors),
        training=training,
        size=size,
        arguments=arguments,
        origin=origin,
        **keys,
        teacher=teacher_key,
        targets=teacher,
        standardize=standardize,
        patience=patience,
    )
    return model


def _fit_teacher(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    k: int,
    keys: dict[str, Any],
    table_key: str,
    arguments: TrainingArguments,
) -> None:
    """Fit a teacher on the same machine, with a folder for checkpoints beside the student's."""
    from stdistill.tl._nolan import nolan

    logger.info("There is no teacher in .obs: fitting one with sd.tl.nolan(k=%d).", k)
    folder = arguments["checkpoint_dir"]
    shared: dict[str, Any] = {name: value for name, value in arguments.items() if name in SHARED_WITH_TEACHER}
    nolan(
        data,
        k=k,
        table_key=table_key,
        checkpoint_dir=None if folder is None else Path(folder) / schema.TEACHER,
        **keys,
        **shared,
    )
