from __future__ import annotations

import numpy as np
import pytest

from stdistill._support import checks


def test_of_many_names_some_are_written() -> None:
    assert checks.some(range(5)) == "0, 1, 2, 3, 4"
    assert checks.some(range(6)) == "0, 1, 2, 3, 4, …"
    assert checks.some(map(repr, ["CD3E", "CD8A"]), 1) == "'CD3E', …"
    assert checks.some([]) == ""


def test_check_key_without_anything() -> None:
    with pytest.raises(KeyError, match=r"there is: none\. Run this first"):
        checks.check_key("a", [], "there", argument="key", hint="Run this first.")


@pytest.mark.parametrize(
    ("given", "names", "meant"),
    [
        ("counts", ["raw_counts", "scaled"], "'raw_counts'"),
        ("student_niche", ["student", "teacher"], "'student'"),  # a column, where its prefix is asked for
        ("x_scvi", ["X_he", "X_scVI"], "'X_scVI'"),
        ("cel_tpye", ["cell_type", "region"], "'cell_type'"),
        ("niche", ["a_niche", "b_niche", "c_niche", "d_niche"], "'a_niche' or 'b_niche' or 'c_niche'"),
    ],
)
def test_what_may_be_meant(given: str, names: list[str], meant: str) -> None:
    with pytest.raises(KeyError, match=rf"there is: .*\. Did you mean {meant}\? Run this first\."):
        checks.check_key(given, names, "there", argument="key", hint="Run this first.")


def test_a_usual_end_comes_before_the_alphabet() -> None:
    names = ["cell_type", "student_confidence", "student_logit_0", "student_niche", "student_ood"]
    assert checks.suggest("student", names, "_niche") == " Did you mean 'student_niche'?"
    assert checks.suggest("studnt", names, "_niche") == " Did you mean 'student_niche'?"
    assert checks.suggest("student", names, "_confidence") == " Did you mean 'student_confidence'?"
    assert checks.suggest("type", names, "_niche") == " Did you mean 'cell_type'?"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("7", ["17", "70"]),
        ("student", ["st", "u"]),
        ("tiles", ["table"]),
        ("X_uni", ["X_he", "X_pca"]),
        ("", ["niche"]),
    ],
)
def test_nothing_else_is_meant(given: str, names: list[str]) -> None:
    """Numbers and short names are in many others by chance."""
    assert checks.suggest(given, names) == ""


def test_as_names() -> None:
    assert checks.as_names("niche", "keys", "columns") == ["niche"]
    assert checks.as_names(("a", "b"), "keys", "columns") == ["a", "b"]
    with pytest.raises(ValueError, match="keys is empty: name columns"):
        checks.as_names([], "keys", "columns")


def test_check_choice() -> None:
    checks.check_choice(None, "device", (None, "cpu"))
    with pytest.raises(ValueError, match=r"device must be one of \[None, 'cpu'\], found 'gpu'"):
        checks.check_choice("gpu", "device", (None, "cpu"))


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
def test_check_positive(value: float) -> None:
    with pytest.raises(ValueError, match="radius_um must be positive and finite"):
        checks.check_positive(value, "radius_um")


@pytest.mark.parametrize("value", ["60", None, True])
def test_check_positive_type(value: object) -> None:
    with pytest.raises(TypeError, match="radius_um must be a number"):
        checks.check_positive(value, "radius_um")  # type: ignore[arg-type]


def test_check_integer() -> None:
    checks.check_integer(np.int64(3), "k", minimum=1, maximum=3)
    with pytest.raises(ValueError, match="k must be at least 1 and at most 3, found 4"):
        checks.check_integer(4, "k", minimum=1, maximum=3)
    with pytest.raises(TypeError, match=r"k must be an integer, found 3\.0"):
        checks.check_integer(3.0, "k", minimum=1)  # type: ignore[arg-type]


def test_a_number_is_no_name() -> None:
    with pytest.raises(TypeError, match=r"query must be a name or a list of names, found 12 \(int\): name a tile\."):
        checks.as_names(12, "query", "a tile")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"cells must be a list of names, found 12 \(int\)\."):
        checks.check_list(12, "cells")
    checks.check_list(np.array(["a"]), "cells")
