"""What tables of tiles hold of an alignment: names, which tiles may test it, and tables that do not go together."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from stdistill._table.fitting import aligned
from stdistill._table.fitting.aligned import (
    aligned_features,
    aligned_key,
    aligned_mark,
    aligned_scales,
    alignments,
    check_one_alignment,
    feature_prefixes,
    held_out_tiles,
    rank_column,
    read_aligned,
    read_counts,
    read_features,
    training_tiles,
)
from stdistill._table.records import write_record

SCALES = ("micro", "meso", "macro")
Make = Callable[..., ad.AnnData]


@pytest.fixture
def tiles() -> Make:
    """Tiles with features and an alignment of some scales."""

    def make(n: int = 6, *, scales: tuple[str, ...] = SCALES, key: str = "aligned", width: int = 2) -> ad.AnnData:
        rng = np.random.default_rng(n)
        table = ad.AnnData(
            csr_matrix(rng.poisson(1.0, (n, 3)).astype(np.float32)),
            obs=pd.DataFrame(index=[f"tile-{i}" for i in range(n)]),
            var=pd.DataFrame(index=["A", "B", "C"]),
        )
        for scale in scales:
            table.obsm[f"X_he_{scale}"] = rng.normal(size=(n, width)).astype(np.float16)
            for side in aligned.SIDES:
                table.obsm[aligned_key(key, side, scale)] = rng.normal(size=(n, width)).astype(np.float32)
        for side in aligned.SIDES:
            table.obsm[aligned_key(key, side)] = rng.normal(size=(n, width)).astype(np.float32)
        return table

    return make


def test_names() -> None:
    assert aligned_key("aligned", "he") == "X_aligned_he"
    assert aligned_key("mine", "expression", "meso") == "X_mine_expression_meso"
    assert rank_column("aligned", "he") == "aligned_rank_he_to_expression"
    assert rank_column("aligned", "expression") == "aligned_rank_expression_to_he"


def test_embeddings_that_are_not_there(tiles: Make) -> None:
    """The expression side is missing where there were no cells: that is another thing to do."""
    table = tiles()
    np.testing.assert_array_equal(read_aligned(table, "aligned", "he"), table.obsm["X_aligned_he"])
    del table.obsm["X_aligned_expression"]
    with pytest.raises(KeyError, match=r"'X_aligned_expression'.*needs cells with the latent that the model was train"):
        read_aligned(table, "aligned", "expression")
    for side in aligned.SIDES:
        with pytest.raises(KeyError, match=rf"'X_other_{side}'.*Run sd\.tl\.align, or sd\.tl\.predict with its model"):
            read_aligned(table, "other", side)
    table.obsm["X_aligned_he"] = np.ones((6, 2), dtype=int)
    with pytest.raises(TypeError, match=r"\.obsm\['X_aligned_he'\] is a ndarray; expected floating point numbers"):
        read_aligned(table, "aligned", "he")
    table.obsm["X_aligned_he"] = pd.DataFrame(np.ones((6, 2)), index=table.obs_names)
    with pytest.raises(TypeError, match=r"is a DataFrame; expected floating point numbers \(n_tiles, d\)"):
        read_aligned(table, "aligned", "he")


def test_embeddings_of_several_models(tiles: Make) -> None:
    """In one table, as after tables were concatenated, and in several."""
    table = tiles()
    table.obs["aligned_model"] = ["aa"] * 3 + ["bb"] * 3
    with pytest.raises(ValueError, match="'aligned' is of 2 models in this table"):
        read_aligned(table, "aligned", "he")
    one, other, unknown = tiles(), tiles(5), tiles(4)
    write_record(one, "align", key_added="aligned", model_sha256="aa")
    write_record(other, "predict", key_added="aligned", model_sha256="aa")
    check_one_alignment([one, other, unknown], "aligned")
    write_record(other, "predict", key_added="aligned", model_sha256="bb")
    with pytest.raises(ValueError, match=r"'aligned' of the 3 tables are of 2 models, and lie in different spaces"):
        check_one_alignment([one, other, unknown], "aligned")
    check_one_alignment([one, other], "another")


def test_embeddings_are_told_apart_by_both_sides(tiles: Make) -> None:
    table = tiles()
    mark = aligned_mark(table, "aligned")
    assert aligned_mark(tiles(), "aligned") == mark
    for side in aligned.SIDES:
        other = table.copy()
        other.obsm[aligned_key("aligned", side)][3, 1] += 1
        assert aligned_mark(other, "aligned") != mark


def test_scales_that_all_tables_have(tiles: Make) -> None:
    """From the smallest on; of one alone all scales together say the same."""
    assert aligned_scales([tiles(), tiles(4)], "aligned") == list(SCALES)
    assert aligned_scales([tiles(), tiles(scales=("macro", "micro"))], "aligned") == ["micro", "macro"]
    assert aligned_scales([tiles(), tiles(scales=("macro",))], "aligned") == []
    one_sided = tiles()
    del one_sided.obsm["X_aligned_expression_meso"]
    assert aligned_scales([one_sided], "aligned") == ["micro", "macro"]


def test_alignments_that_there_are(tiles: Make) -> None:
    table = tiles()
    table.obsm["X_my_own_he"] = table.obsm["X_aligned_he"]
    assert alignments(table) == ["aligned", "my_own"]
    assert alignments(tiles(scales=())[:, :0]) == ["aligned"]


def test_tiles_to_fit_and_to_test_on(tiles: Make) -> None:
    """Those of the split; without one those that an alignment was fitted on, and the others."""
    table = tiles()
    assert training_tiles(table, ["aligned"]).tolist() == [False] * 6
    assert held_out_tiles(table, ["aligned"]).all()
    table.obs["aligned_fitted"] = [True, True, False, False, False, False]
    table.obs["other_fitted"] = [False, False, True, False, False, False]
    assert training_tiles(table, ["aligned", "other"]).tolist() == [True] * 3 + [False] * 3
    assert held_out_tiles(table, ["aligned", "other"]).tolist() == [False] * 3 + [True] * 3
    assert held_out_tiles(table, ["other"]).tolist() == [True, True, False, True, True, True]
    table.obs["split"] = pd.Categorical(["train", "train", "train", "test", "test", None])
    assert training_tiles(table, ["aligned"]).tolist() == [True] * 3 + [False] * 3
    assert held_out_tiles(table, ["aligned"]).tolist() == [False] * 3 + [True] * 2 + [False]
    table.obs["split"] = pd.Categorical(["train"] * 6)  # of another slide there may be no test: those that are left
    assert held_out_tiles(table, ["aligned"]).tolist() == [False, False, True, True, True, True]


def test_tiles_that_were_fitted_are_no_test(tiles: Make) -> None:
    """It is said of which alignment."""
    table = tiles()
    table.obs["split"] = pd.Categorical(["train"] * 3 + ["test"] * 3)
    table.obs["aligned_fitted"] = [True, True, True, False, False, False]
    table.obs["other_fitted"] = [True, True, True, True, True, False]
    with pytest.raises(
        ValueError, match=r"2 of the 3 tiles that are 'test' .* had a part in fitting 'other': they are"
    ):
        held_out_tiles(table, ["aligned", "other"])


def test_frozen_features(tiles: Make) -> None:
    """What an alignment was fitted to, else what the tiles were embedded as; of each scale that all tables have."""
    one, other = tiles(), tiles(4, scales=("macro", "micro"))
    assert feature_prefixes([one, other]) == ["X_he"]
    one.obsm["X_uni_macro"] = np.ones((6, 5), dtype=np.float16)
    other.obsm["X_uni_macro"] = np.ones((4, 5), dtype=np.float16)
    write_record(one, "embed_tiles", key_added="X_uni")
    assert feature_prefixes([one, other]) == ["X_he", "X_uni"]
    assert aligned_features([one, other], "aligned") == "X_he"
    write_record(one, "align", key_added="aligned", he_rep="X_uni")
    assert aligned_features([one, other], "aligned") == "X_uni"
    del other.obsm["X_uni_macro"]
    assert aligned_features([one, other], "aligned") == "X_he"
    assert aligned_features([tiles(scales=())], "aligned") is None


def test_features_of_all_tables(tiles: Make) -> None:
    """Table after table, the keys side by side; widths that differ are named."""
    one, other = tiles(), tiles(4)
    found = read_features([one, other], ["X_he_macro", "X_he_micro"])
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found[6:], np.hstack([other.obsm["X_he_macro"], other.obsm["X_he_micro"]]))
    wide = tiles(4, width=3)
    with pytest.raises(
        ValueError, match=r"\.obsm\['X_he_macro'\] of the tables have \[2, 3\] columns; expected the sa"
    ):
        read_features([one, wide], ["X_he_macro"])
    one.obs["X_he_macro_mpp"] = np.array([0.5] * 3 + [0.25] * 3, dtype=np.float32)
    with pytest.raises(ValueError, match=r"were computed at 0\.25 to 0\.5 µm per pixel"):
        read_features([one], ["X_he_macro"])


def test_counts_of_the_genes_in_common(tiles: Make) -> None:
    one, other = tiles(), tiles(4)
    other.var_names = ["C", "X", "A"]
    other.X = csc_matrix(other.X)
    counts, genes = read_counts([one, other])
    assert genes == ["A", "C"]
    expected = np.vstack([one[:, genes].X.toarray(), other[:, genes].X.toarray()])
    np.testing.assert_array_equal(counts.toarray(), expected)
    other.var_names = ["X", "Y", "Z"]
    with pytest.raises(ValueError, match=r"no genes in common \(their numbers: \[3, 3\]\).*sd\.pp\.tiles"):
        read_counts([one, other])


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_what_are_no_counts(tiles: Make) -> None:
    table = tiles()
    for wrong in (-1.0, np.nan, np.inf):
        spoilt = table.copy()
        spoilt.X = spoilt.X.toarray()
        spoilt.X[2, 1] = wrong
        with pytest.raises(ValueError, match=r"\.X of the tiles holds negative values or NaN; expected counts"):
            read_counts([spoilt])
    twice = tiles(4)
    twice.var_names = ["A", "B", "A"]
    with pytest.raises(ValueError, match=r"Genes of table 1 have the same name: .*\.var_names_make_unique\(\)"):
        read_counts([table, twice])
