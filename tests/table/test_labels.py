from __future__ import annotations

import warnings
from collections.abc import Callable

import pandas as pd
import pytest

from stdistill._table.labels import find_columns, read_labels, warn_of_names


@pytest.mark.parametrize("names", [["Tumour", "Tumour "], ["T cell", "T  Cell"], ["a", "b", "A"]])
def test_two_spellings_of_a_label(names: list[str]) -> None:
    with pytest.warns(UserWarning, match=rf"of their own: '{names[0]}', '{names[-1]}'\. If they are one, write them"):
        warn_of_names(names, "it")


def test_labels_that_differ() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_names(["T cell", "T-cell", "T cell 2", 1], "it")


def test_who_reads_labels_says_so(make_cells: Callable) -> None:
    cells = make_cells(4, kind=pd.Categorical(["B", "b", "T", "T"]))
    with pytest.warns(UserWarning, match=r"\.obs\['kind'\] has labels that differ in blanks or capitals"):
        read_labels(cells, "kind", "cell_type_key")


def test_whole_numbers_are_named_without_a_point(make_cells: Callable) -> None:
    cells = make_cells(4, cluster=pd.Categorical([1.0, 10.0, None, 2.5]))
    assert read_labels(cells, "cluster", "keys").names == ["1", "2.5", "10"]


def test_the_prefix_of_a_model_leads_to_its_column(make_cells: Callable) -> None:
    """Its logits and confidence begin alike, and stand before it in the alphabet."""
    of_student = {"student_confidence": 0.5, "student_logit_0": 1.0, "student_niche": pd.Categorical(["0"] * 4)}
    cells = make_cells(4, **of_student)
    with pytest.raises(KeyError, match=r"niche_key='student' is not .*\. Did you mean 'student_niche'\? Niches are"):
        read_labels(cells, "student", "niche_key")
    with pytest.raises(KeyError, match=r"keys='student' is not .*\. Did you mean 'student_niche'\? Niches are"):
        find_columns(cells, "student")
    with pytest.raises(KeyError, match=r"Did you mean 'student_confidence'\? Say how sure\."):
        find_columns(cells, "student", suffix="_confidence", hint="Say how sure.")


@pytest.mark.parametrize("names", [["01", "1"], ["P1", "P01"], ["1", "2", "1.0"], ["slide 007", "slide 7"]])
def test_labels_that_differ_in_zeros(names: list[str]) -> None:
    """A table of one slide kept the zeros, that of another lost them; it may be that they are two."""
    with pytest.warns(
        UserWarning, match=rf"differ in the zeros of a number alone.*'{names[0]}', '{names[-1]}'\. Where"
    ):
        warn_of_names(names, "it")


def test_numbers_that_differ() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_names(["0", "00a", "10", "1", "100", "0.1", "0.01", "1.10", "1.1", "v1.0", "v1"], "it")
