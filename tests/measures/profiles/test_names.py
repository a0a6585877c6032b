from __future__ import annotations

import pandas as pd

from stdistill._measures.profiles.names import suggest_names
from stdistill._measures.profiles.profile import COLUMNS


def types_of(*rows: tuple[str, str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["niche", "cell_type", "n_cells", "share", "log2_enrichment"])


def markers_of(*rows: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["niche", "gene"])
    return frame.assign(q=0.001, log2_fold_change=2.0, share_in=0.5)


NO_MARKERS = pd.DataFrame(columns=COLUMNS["markers"])
NO_TYPES = pd.DataFrame(columns=COLUMNS["cell_types"])


def test_by_the_two_types_that_set_it_most_apart() -> None:
    types = types_of(
        ("7", "mast cells", 4, 0.01, 4.0),
        ("7", "T cells", 400, 0.5, 2.0),
        ("7", "fibroblasts", 300, 0.3, 1.0),
        ("7", "B cells", 100, 0.15, 0.6),
        ("7", "tumour", 50, 0.04, -3.0),
    )
    assert suggest_names(["7"], types, NO_MARKERS) == ["T cells + fibroblasts"]


def test_where_nothing_is_enriched_it_is_mixed() -> None:
    types = types_of(("0", "B cells", 40, 0.4, 0.1), ("0", "T cells", 60, 0.6, -0.1))
    assert suggest_names(["0"], types, NO_MARKERS) == ["mixed, mostly T cells"]


def test_by_markers_where_types_are_not_known() -> None:
    markers = markers_of(("0", "CD3E"), ("0", "CD8A"), ("0", "GZMK"))
    assert suggest_names(["0", "1"], NO_TYPES, markers) == ["CD3E+ CD8A+", None]
    weak = markers.assign(log2_fold_change=0.2)
    assert suggest_names(["0"], NO_TYPES, weak) == [None]


def test_names_are_all_different() -> None:
    types = types_of(*[(niche, "tumour", 90, 0.9, 1.0) for niche in "abc"])
    markers = markers_of(("a", "MKI67"), ("b", "EPCAM"))
    assert suggest_names(list("abc"), types, markers) == ["tumour (MKI67+)", "tumour (EPCAM+)", "tumour"]
    assert suggest_names(list("abc"), types, NO_MARKERS) == ["tumour 1", "tumour 2", "tumour 3"]
