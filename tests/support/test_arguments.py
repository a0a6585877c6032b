from __future__ import annotations

import inspect
from typing import Any, TypedDict, Unpack

import pytest

from stdistill._support.arguments import takes


class Size(TypedDict, total=False):
    """How large.

    Parameters
    ----------
    width
        Of a layer.
    depth
        Number of layers.
    """

    width: int
    depth: int | None


class Speed(TypedDict, total=False):
    """How fast.

    Parameters
    ----------
    rate
        Of learning.
    """

    rate: float


class Both(Size, Speed, total=False):
    """Both."""


@takes(Size, Speed, defaults={"width": 8, "depth": None, "rate": 0.1})
def build(name: str, *, seed: int = 0, **arguments: Unpack[Both]) -> dict[str, Any]:
    """Build it.

    Parameters
    ----------
    name
        What it is called.
    **arguments

    Returns
    -------
    All of it.
    """
    return {"name": name, "seed": seed, **arguments}


def test_the_function_gets_all_of_them() -> None:
    assert build("a") == {"name": "a", "seed": 0, "width": 8, "depth": None, "rate": 0.1}
    assert build("a", rate=1.0, width=2, seed=3) == {"name": "a", "seed": 3, "width": 2, "depth": None, "rate": 1.0}


def test_the_signature_names_them() -> None:
    signature = inspect.signature(build)
    assert {name: each.default for name, each in signature.parameters.items()} == {
        "name": inspect.Parameter.empty,
        "seed": 0,
        "width": 8,
        "depth": None,
        "rate": 0.1,
    }
    assert signature.parameters["depth"].annotation == "int | None"
    assert signature.parameters["rate"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_docstring_describes_them() -> None:
    expected = """Parameters
----------
name
    What it is called.
width
    Of a layer.
depth
    Number of layers.
rate
    Of learning.

Returns
"""
    assert expected in (inspect.getdoc(build) or "")


def test_another_name() -> None:
    with pytest.raises(TypeError, match=r"build\(\) got an unexpected .* 'widht'. Did you mean 'width'\?"):
        build("a", widht=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz'\.$"):
        build("a", zzz=3)  # type: ignore[call-arg]
