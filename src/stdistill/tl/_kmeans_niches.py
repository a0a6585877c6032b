"""Niches as k-means of neighbourhood means: the plain teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stdistill._runs.complete import complete_expression, complete_neighborhoods
from stdistill._support.checks import check_integer
from stdistill._table import schema
from stdistill._table.fitting.inputs import check_fittable, check_split, fitting_inputs, get_tables
from stdistill._table.fitting.plain import write_plain
from stdistill._table.fitting.results import Naming, check_niches
from stdistill._table.niches import default_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def kmeans_niches(
    data: AnnData | SpatialData | Sequence[AnnData | SpatialData],
    *,
    k: int = 20,
    use_rep: str = schema.EXPRESSION_LATENT,
    key_added: str = schema.KMEANS,
    split_key: str | None = schema.SPLIT,
    library_key: str | None = None,
    seed: int = 0,
    table_key: str = schema.TABLE,
) -> None:
    """Find tissue niches as k-means clusters of the mean features of neighbourhoods.

    The plain teacher: seconds instead of minutes. It can teach a student as :func:`stdistill.tl.nolan` does
    (``sd.tl.distill(adata, teacher_key="kmeans", k=...)``), and is where that one starts from. When it is enough is
    said on the page of the docs on the teacher. Cells for testing and of the buffer are never fitted on; every cell in
    a group of the split gets a niche.

    What is missing is made first, and said so in the log: the expression latent
    (:func:`stdistill.pp.embed_expression`) and the neighbourhoods (:func:`stdistill.pp.neighborhoods`).

    Parameters
    ----------
    data
        Table, or SpatialData with a table; or a list of them, one per slide, which get the same niches.
    k
        Number of niches.
    use_rep
        Key of ``.obsm`` of the features, floating point; a row with a NaN is a cell without features. With ``"X_he"``
        (and ``key_added="he_kmeans"``) this is a baseline that finds niches in H&E alone.
    key_added
        Prefix of what is written.
    split_key
        Column of ``.obs`` written by :func:`stdistill.pp.split_strips`, if there is one; the default also finds it
        under another name. Without, or with `None`, all cells are fitted on.
    library_key
        Column of ``.obs`` that names each cell's slide, in a table of several. By default that of the neighbourhoods,
        else the regions that the table annotates, when there are several.
    seed
        Of k-means, and of the sample that it is fitted to.
    table_key
        Name of the table of a SpatialData.

    Returns
    -------
    `None`. Written to the table:

    ``.obs["{key_added}_logit_0"]`` …
        float32, k columns: -d² / 2σ² of the squared distance d² to each centre; NaN for cells without a prediction:
        those in the buffer or without features.
    ``.obs["{key_added}_niche"]``
        Categorical, the niche with the nearest centre; missing without a prediction.
    ``.obs["{key_added}_confidence"]``
        float32, the largest softmax probability of the logits; it is not calibrated, and near 1 for many features.
    ``.obs["{key_added}_fitted"]``
        Boolean, the training cells, and those that the latent was fitted on.
    ``.obs["{key_added}_model"]``
        Categorical, the fingerprint of the clusters: tables that are concatenated may have several.
    ``.obs["{key_added}_mark"]``
        A number for each cell's niche, by which niches that were edited or moved are told.
    ``.uns["{key_added}_niche_colors"]``
        Their colours.
    ``.uns["stdistill"]["kmeans_niches"]``
        The parameters, ``radius_um``, ``n_training_cells``, ``sigma``, ``occupied_niches``; fingerprints of the
        neighbourhoods (``graph``), the ``features``, the clusters (``model_sha256``) and the logits
        (``fingerprint``).

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

    Notes
    -----
    Features are brought to the mean and spread of the training cells, clipped, and averaged over each cell and its
    neighbours. k-means (scikit-learn, the best of ten starts) is fitted to at most 20,000 training cells, drawn at
    random, and applied to all others. Logits are those of a mixture of k equally large round Gaussians, whose variance
    σ² per feature is the mean squared distance of a training cell to its centre, divided by the number of features.
    All of that is our choice.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> rng = np.random.default_rng(0)
    >>> adata = ad.AnnData(np.zeros((300, 1)), obsm={"spatial": rng.uniform(0, 300, (300, 2))})
    >>> adata.obsm["X_scVI"] = np.c_[adata.obsm["spatial"] // 150, rng.normal(size=(300, 2))].astype("float32")
    >>> sd.tl.kmeans_niches(adata, k=4)
    >>> adata.obs["kmeans_niche"].cat.categories.tolist()
    ['0', '1', '2', '3']
    """
    check_niches(k, key_added)
    check_integer(seed, "seed", minimum=0)
    tables = get_tables(data, table_key)
    check_split(tables, split_key)
    if use_rep == schema.EXPRESSION_LATENT:
        complete_expression(tables, seed=seed, accelerator="auto", split_key=split_key, library_key=library_key)
    check_fittable(tables, use_rep, split_key)
    complete_neighborhoods(tables, split_key=split_key, library_key=library_key)
    inputs = fitting_inputs(tables, use_rep=use_rep, split_key=split_key, library_key=library_key)

    from stdistill.models.niche.plain.clusters import cluster_logits

    neighborhoods = inputs.neighborhoods(None)
    training = inputs.training & neighborhoods.known
    n_training = int(training.sum())
    if n_training < k:
        msg = (
            f"{n_training} cells can be fitted on, for k={k} niches: {inputs.training.sum()} are training cells, of "
            f"which {n_training} have features in .obsm[{use_rep!r}]. Expected at least one per niche."
        )
        raise ValueError(msg)
    told = inputs.eligible & neighborhoods.known
    logits, clusters = cluster_logits(neighborhoods, inputs.libraries, training, told, k=k, seed=seed)
    write_plain(
        inputs,
        Naming("kmeans_niches", key_added, use_rep, [str(niche) for niche in range(k)], default_colors(k)),
        logits,
        training,
        split_key=split_key,
        library_key=library_key,
        n_training_cells=n_training,
        sigma=clusters.variance**0.5,
        seed=seed,
    )
