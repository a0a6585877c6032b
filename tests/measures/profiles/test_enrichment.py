from __future__ import annotations

import numpy as np
import pytest

from stdistill._measures.profiles.enrichment import border_niches, enrich_types, log2_enrichment


def test_types_by_hand() -> None:
    counts = np.array([[30, 10], [20, 140]])
    found = enrich_types(counts, ["a", "b"], ["T", "B"]).set_index(["niche", "cell_type"])
    row = found.loc["a", "T"]
    assert row["n_cells"] == 30
    assert row["expected"] == pytest.approx(40 * 50 / 200)
    assert row["share"] == pytest.approx(0.75)
    assert row["slide_share"] == pytest.approx(0.25)
    assert row["log2_enrichment"] == pytest.approx(np.log2(31 / 11))
    assert found.loc["a", "B"]["log2_enrichment"] < 0


def test_the_most_enriched_comes_first_and_niches_keep_their_order() -> None:
    found = enrich_types(np.array([[1, 99], [99, 1]]), ["z", "a"], ["T", "B"])
    assert found["niche"].tolist() == ["z", "z", "a", "a"]
    assert found["cell_type"].tolist() == ["B", "T", "T", "B"]


def test_few_cells_are_not_called_enriched() -> None:
    """One cell where a hundredth was expected is a ratio of 100, and says nothing."""
    assert log2_enrichment(np.array([1]), np.array([0.01]))[0] < 1
    assert log2_enrichment(np.array([1000]), np.array([10.0]))[0] == pytest.approx(np.log2(100), abs=0.15)


def test_niches_and_types_without_cells_are_left_out() -> None:
    found = enrich_types(np.array([[3, 0, 2], [0, 0, 0]]), ["a", "empty"], ["T", "none", "B"])
    assert set(found["niche"]) == {"a"}
    assert set(found["cell_type"]) == {"T", "B"}


def test_borders_by_hand() -> None:
    pairs = np.array([[80.0, 15, 5], [15, 40, 0], [5, 0, 20]])
    found = border_niches(pairs, np.array([50, 30, 10]), ["a", "b", "c"])
    of_a = found[found["niche"] == "a"].set_index("neighbor")
    assert list(of_a.index) == ["b", "c"]
    assert of_a.loc["b", "n_pairs"] == 15
    assert of_a.loc["b", "share"] == pytest.approx(0.15)
    assert of_a.loc["b", "border_share"] == pytest.approx(0.75)
    # Of 20 foreign neighbours 30 of 40 cells would be in b: as many as there are.
    assert of_a.loc["b", "log2_enrichment"] == pytest.approx(0)
    of_c = found[found["niche"] == "c"].set_index("neighbor")
    assert of_c.loc["b", "log2_enrichment"] == pytest.approx(np.log2(1 / (5 * 30 / 80 + 1)))


def test_a_niche_without_neighbours_has_no_border() -> None:
    found = border_niches(np.zeros((2, 2)), np.array([5, 5]), ["a", "b"])
    assert (found["n_pairs"] == 0).all()
    assert found["border_share"].isna().all()
    assert (found["log2_enrichment"] == 0).all()


def test_one_niche_borders_on_none() -> None:
    assert border_niches(np.array([[9.0]]), np.array([5]), ["a"]).empty
