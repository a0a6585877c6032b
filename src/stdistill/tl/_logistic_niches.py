"""A teacher's niches by logistic regression on neighbourhood means: what a student has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from stdistill._runs.complete import complete_neighborhoods
from stdistill._support.checks import check_choice, check_integer, check_name
from stdistill._table import schema
from stdistill._table.fitting.inputs import check_fittable, check_split, fitting_inputs, get_tables
from stdistill._table.fitting.plain import write_plain
from stdistill._table.fitting.results import Naming
from stdistill._table.fitting.targets import has_targets, missing_targets, read_targets
from stdistill._table.niches import logit_columns
from stdistill._table.provenance.checks import check_teacher_radius, check_teachers
from stdistill._table.provenance.whole import warn_of_other_cells
from stdistill._training.arguments import Standardization

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def logistic_niches(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    teacher_key: str = schema.TEACHER,
    use_rep: str = schema.HE_FEATURES,
    key_added: str = schema.LOGISTIC,
    standardize: Standardization = "training",
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    seed: int = 0,
    table_key: str = schema.TABLE,
) -> None:
    """Learn a teacher's niches by logistic regression on the mean features of neighbourhoods.

    The baseline to which a student is compared: the same teacher, the same H&E features and the same neighbourhoods,
    without a network. A student that is not ahead of it has learned nothing that a mean does not tell. Test and buffer
    cells are never fitted on, nor used to choose the penalty.

    Parameters
    ----------
    data
        Table, or SpatialData with a table, with features and a teacher; or a list of them, one per slide.
    teacher_key
        Prefix of the teacher's logits in ``.obs``, of which the largest is learned, or a column of labels; cells
        without a label are not fitted on.
    use_rep
        Key of ``.obsm`` of the features, floating point; a row with a NaN is a cell without features.
    key_added
        Prefix of what is written.
    standardize
        By what cells features are brought to one mean and spread before they are averaged, as in
        :func:`stdistill.tl.distill`.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. Without, or with `None`, all cells are fitted on.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    seed
        Of the sample that is fitted to, and of the blocks that the penalty is chosen by.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    `None`. Written to the table:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns: logarithms of the probabilities; NaN for cells without a prediction: those in the buffer or
        without features.
    ``.obs["{key_added}_niche"]``
        Categorical, the most probable niche, under the teacher's names; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, its probability.
    ``.obs["{key_added}_fitted"]``
        Boolean, the cells that it, or its teacher, was fitted on.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the regression: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        The teacher's colours.
    ``.uns["stdistill"]["logistic_niches"]``
        The parameters, ``radius_um``, ``n_training_cells``, ``n_validation_cells``, ``inverse_penalty``,
        ``occupied_niches``; fingerprints of the neighbourhoods (``graph``), the ``features``, the ``teacher``, the
        regression (``model_sha256``) and the logits (``fingerprint``).

    Raises
    ------
    KeyError
        When the table, the features, `teacher_key`, `split_key` or `library_key` is not there.
    ValueError
        When no training cell has both features and a niche, or all of them are in one; and where
        :func:`stdistill.tl.distill` raises it for features, splits, neighbourhoods and teachers that do not fit.
    TypeError
        When features are no dense floating point array, or the labels are floating point numbers.

    Notes
    -----
    Features are averaged as in :func:`stdistill.tl.kmeans_niches`, and the means brought to mean 0 and variance 1 of
    the training cells. The regression is scikit-learn's, multinomial with a ridge penalty, fitted to at most 20,000
    training cells, drawn at random. From C = 0.0001 on the penalty is weakened tenfold, up to C = 1, for as long as the
    niches of blocks of the training tissue become more probable to the regression of the other cells. The one that is
    kept is fitted to all of them, as the student is. Tissue too small for blocks has C = 0.01. All of that is our
    choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, rng.normal(size=(300, 6))].astype("float16")
    >>> adata.obs["pathologist"] = np.where(adata.obsm["spatial"][:, 0] < 150, "tumour", "stroma")
    >>> sd.tl.logistic_niches(adata, teacher_key="pathologist")
    >>> bool((adata.obs["logistic_niche"] == adata.obs["pathologist"]).mean() > 0.9)
    True
    """
    check_integer(seed, "seed", minimum=0)
    check_name(key_added, "key_added")
    check_choice(standardize, "standardize", get_args(Standardization))
    tables = get_tables(data, table_key)
    check_split(tables, split_key)
    check_fittable(tables, use_rep, split_key)
    if not has_targets(tables, teacher_key):
        raise missing_targets(tables, teacher_key)
    teacher = read_targets(tables, teacher_key, len(logit_columns(tables[0], teacher_key)))
    radius_um = check_teachers(tables, teacher_key, split_key)
    complete_neighborhoods(tables, split_key=split_key, library_key=library_key, radius_um=radius_um)
    inputs = fitting_inputs(tables, use_rep=use_rep, split_key=split_key, library_key=library_key)
    if standardize == "slide":
        warn_of_other_cells(tables, use_rep, library_key)
    check_teacher_radius(radius_um, inputs.radius_um, teacher_key)

    from stdistill.models.niche.plain.logistic import logistic_logits

    neighborhoods = inputs.neighborhoods(None, standardize=standardize)
    training = inputs.training & neighborhoods.known & teacher.known
    if not training.any():
        msg = (
            f"None of the {inputs.training.sum()} training cells has features in .obsm[{use_rep!r}] and a niche of the "
            f"teacher {teacher_key!r}."
        )
        raise ValueError(msg)
    told = inputs.eligible & neighborhoods.known
    logits, fitted = logistic_logits(
        neighborhoods, inputs.libraries, teacher.labels, training, told, k=len(teacher.niches), seed=seed
    )
    write_plain(
        inputs,
        Naming("logistic_niches", key_added, use_rep, teacher.niches, teacher.colors),
        logits,
        training,
        teacher=teacher_key,
        split_key=split_key,
        library_key=library_key,
        standardize=standardize,
        seed=seed,
        **fitted._asdict(),
    )
