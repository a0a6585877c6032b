"""The names under which results are written; ``docs/outputs.md`` is their documentation."""

from __future__ import annotations

SPATIAL = "spatial"
"""``.obsm``: cell centres (x, y) in µm."""

SPLIT = "split"
"""``.obs``: `TRAIN`, `TEST` or `BUFFER`."""
TRAIN = "train"
TEST = "test"
BUFFER = "buffer"

RECORD = "stdistill"
"""``.uns``: how each step was run, ``.uns["stdistill"][step]``."""

HE_FEATURES = "X_he"
"""``.obsm``: H&E features, float16."""
EXPRESSION_LATENT = "X_scVI"
"""``.obsm``: expression latent, float32."""

TEACHER = "teacher"
"""Prefix of ``.obs["teacher_logit_0"]``…, ``.obs["teacher_niche"]``, ``.obs["teacher_confidence"]``."""
STUDENT = "student"

TABLE = "table"
TISSUE = "tissue"
"""``.shapes``: outlines of the tissue, in µm."""
NUCLEI = "nuclei"
"""``.shapes``: outlines of the nuclei, in µm."""
INSTANCE = "instance_id"
"""``.obs``: which outline a row of a table of nuclei is of."""
HE_IMAGE = "he"
CELL_TYPE = "cell_type"

HE_LEIDEN = "he_leiden"
"""Prefix of ``.obs["he_leiden_niche"]``."""
KMEANS = "kmeans"
LOGISTIC = "logistic"
"""Prefixes of ``.obs["kmeans_niche"]`` and ``.obs["logistic_niche"]``."""

ABUNDANCE = "abundance"
"""``.obsm``: how much of each cell type is in a place, float32; the names of the types are in the record."""
HE_ABUNDANCE = "he_abundance"
"""``.obsm``: the same as the H&E tells it."""
TISSUE_SHARE = "he_tissue_share"
"""``.obs``: how much of what lies around a place on the H&E is tissue."""
SPREAD_SUFFIX = "_std"
"""Ending of the key of ``.obsm`` of how far the members of a model disagree: ``.obsm["he_abundance_std"]``."""

TILES = "tiles"
"""Table of the tiles of the H&E, one row a tile."""
SQUARES_SUFFIX = "_squares"
"""Ending of the name of their ``.shapes``, ``"tiles_squares"``: no two elements of a SpatialData have one name."""
TILE = "tile"
"""``.obs`` of the cells: which tile a cell is in."""
TILE_PLACE = "tile_place"
"""``.obs`` of the cells: in which of the smallest places of its tile, row by row."""
SCALES = {"micro": 4, "meso": 2, "macro": 1}
"""Places along the side of a tile, at each scale."""
ALIGNED = "aligned"
"""Names ``.obsm["X_aligned_he"]`` and ``.obsm["X_aligned_expression"]`` of the tiles."""

COUNTS = "counts"
"""``.layers`` of a table of slides: numbers of cells of each niche."""
AREA = "area"
"""``.layers`` of a table of slides: share of each niche in the area."""
ADJACENCY = "adjacency"
"""``.obsm`` of a table of slides: neighbours of cells of each niche by niche."""

CHOOSE_K = "choose_k"
"""Record of how stable the niches are for each number of them."""

CONFIDENCE_SUFFIX = "_confidence"
"""Ending of the column of ``.obs`` of how sure a niche model is of each cell: ``.obs["student_confidence"]``…"""
OOD_SUFFIX = "_ood"
"""Of how unusual each cell is to a student: ``.obs["student_ood"]``…"""
TRUSTED_SUFFIX = "_trusted"
"""Of which cells the verdict trusts: ``.obs["student_trusted"]``…"""

FITTED_SUFFIX = "_fitted"
"""Ending of the column of ``.obs`` that says which cells a result was fitted on: ``.obs["teacher_fitted"]``…"""

MODEL_SUFFIX = "_model"
"""Ending of the column of ``.obs`` that says which model a result is of: ``.obs["teacher_model"]``…"""

MPP_SUFFIX = "_mpp"
"""Ending of the column of ``.obs`` of the µm per pixel that H&E features were computed at: ``.obs["X_he_mpp"]``."""

MARK_SUFFIX = "_mark"
"""Ending of the column of ``.obs`` by which each row of features is known again: ``.obs["X_he_mark"]``…"""

ADDED_BY: dict[str, str | None] = {
    "split_strips": SPLIT,
    "embed_he": HE_FEATURES,
    "embed_tiles": HE_FEATURES,
    "embed_expression": EXPRESSION_LATENT,
    "nolan": TEACHER,
    "distill": STUDENT,
    "predict": STUDENT,
    "verdict": STUDENT,
    "leiden": HE_LEIDEN,
    "kmeans_niches": KMEANS,
    "logistic_niches": LOGISTIC,
    "abundances": ABUNDANCE,
    "tissue_share": TISSUE_SHARE,
    "decompose": HE_ABUNDANCE,
    "cross_validate": None,
    "align": ALIGNED,
    "match_niches": None,
    "retrieval": ALIGNED,
}
"""The `key_added` of the steps that may add several results to a table; `None` of one that has no default."""

FEATURE_STEPS = ("embed_he", "embed_expression")
NICHE_STEPS = ("distill", "nolan", "kmeans_niches", "logistic_niches", "leiden", "predict")
ABUNDANCE_STEPS = ("abundances", "decompose", "predict", "cross_validate")
ALIGNMENT_STEPS = ("align", "predict")
KINDS_OF_STEPS = (FEATURE_STEPS, NICHE_STEPS, ABUNDANCE_STEPS, ALIGNMENT_STEPS)
"""Steps that write the same kind of result: under one key stands that of one of them."""
