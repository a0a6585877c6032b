"""What a niche model is, in words and numbers: the card that is saved beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from stdistill._support.checks import check_choice
from stdistill._training.arguments import Standardization
from stdistill.models.niche.network import NicheNetwork
from stdistill.models.saved import Card


@dataclass(frozen=True)
class ModelCard(Card):
    """Everything about a niche model but its weights: what ``card.json`` of a saved one says.

    What is not known, such as the encoder of features that were put into the table by hand, is `None`.

    Parameters
    ----------
    kind
        ``"self-distillation"``, a teacher, or ``"distillation"``, a student.
    k
        Number of niches.
    feature_key
        Key of ``.obsm`` of the features it was trained on.
    n_features
        Their dimension.
    radius_um
        Radius of the neighbourhoods, in µm.
    niches, colors
        Names and colours of the niches.
    network
        Arguments of the network: width, depth, heads, frequencies, dropout, head.
    max_tokens
        Largest number of cells read of a neighbourhood; `None`: all.
    encoder, encoder_licence, encoder_revision
        The encoder that computed the features, the licence of its weights, and a hash of them.
    mpp, crop_px
        µm per pixel of the crops, and their side in pixels.
    context
        How many times as wide the tissue around is that the features also describe.
    stain_normalization
        The stains that the crops were normalised to.
    expression_model_sha256
        Fingerprint of the scVI model that computed the features, of a teacher.
    teacher
        What a student was taught by: prefix of the logits, or the column of the labels.
    temperature
        τ, of a student of logits.
    calibration
        Of a student that held tissue out: the ``temperature`` that its logits are divided by for the confidence, the
        ``n_cells`` it was fitted on, and the expected calibration error on them before and after (``ece_before``,
        ``ece_after``).
    n_neighbors
        Mean number of neighbours of the training cells.
    quality
        Of a student: ``mpp``, ``focus_limit`` and ``stain_vectors`` of each training slide that
        :func:`stdistill.pp.quality` had measured.
    images
        Fingerprints of the H&E images that it was trained on.
    n_slides
        Number of slides that it was trained on.
    sizes
        Number of training cells in each niche, as the model sees them.
    agreement
        Of a student with its teacher: ``ari`` and ``nmi`` on ``n_cells`` of ``cells``, which are ``"test"``, those of
        the split, or where it has fewer than 100 ``"held-out"``, by which the training was stopped.
    cell_types
        Commonest cell types of each niche and their shares, where :meth:`NicheModel.push_to_hub` was told.
    loadings
        Of features that are principal components: the ``gene`` that leads each, and its ``loading``.
    standardize
        ``"training"`` where features are brought to the mean and spread of all training cells, ``"slide"`` where those
        of each slide are brought to that of its own cells.
    tissue, licence
        What it was trained on, and the terms under which it was shared, in the words of whoever shared it.
    training
        How it was trained: parameters, numbers of cells, epochs.
    versions
        Of the packages that trained it.
    unknown
        Entries of a later stdistill, which are kept.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import stdistill as sd
    >>> adata = ad.AnnData(np.zeros((200, 1)), obsm={"spatial": np.random.default_rng(0).uniform(0, 300, (200, 2))})
    >>> adata.obsm["X_he"] = np.c_[adata.obsm["spatial"] / 100, np.ones(200)].astype("float16")
    >>> adata.obs["region"] = np.where(adata.obsm["spatial"][:, 0] < 150, "left", "right")
    >>> student = sd.tl.distill(adata, teacher_key="region", max_epochs=1, progress_bar=False)
    >>> isinstance(student.card, sd.models.ModelCard), student.card.k
    (True, 2)
    """

    kind: str
    k: int
    feature_key: str
    n_features: int
    radius_um: float
    niches: list[str]
    colors: list[str]
    network: dict[str, Any]
    max_tokens: int | None = None
    encoder: str | None = None
    encoder_licence: str | None = None
    encoder_revision: str | None = None
    mpp: float | None = None
    crop_px: int | None = None
    context: float | None = None
    stain_normalization: str | None = None
    expression_model_sha256: str | None = None
    teacher: str | None = None
    temperature: float | None = None
    calibration: dict[str, Any] | None = None
    n_neighbors: float | None = None
    quality: list[dict[str, Any]] | None = None
    images: list[str] | None = None
    n_slides: int | None = None
    sizes: list[int] | None = None
    agreement: dict[str, Any] | None = None
    cell_types: list[dict[str, Any]] | None = None
    loadings: list[dict[str, Any]] | None = None
    standardize: str = "training"

    def __post_init__(self) -> None:
        check_choice(self.standardize, "standardize", get_args(Standardization))
        for name in ("niches", "colors", "sizes", "cell_types"):
            names = getattr(self, name)
            if names is not None and len(names) != self.k:
                msg = f"The card lists {len(names)} {name}; expected k = {self.k}."
                raise ValueError(msg)

    @property
    def confidence_temperature(self) -> float:
        """What logits are divided by for the confidence."""
        return 1.0 if self.calibration is None else float(self.calibration["temperature"])

    def build_network(self) -> NicheNetwork:
        """Build a network of this size, with weights yet to be learned or loaded."""
        return NicheNetwork(self.n_features, self.k, **self.network)
