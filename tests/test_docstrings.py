"""Every public function and class has a numpydoc docstring whose example runs."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import stdistill as sd
from stdistill.encoders import _registry

PUBLIC = [
    getattr(getattr(sd, namespace), name)
    for namespace in ("pp", "tl", "pl", "get", "io", "models", "encoders", "datasets")
    for name in getattr(sd, namespace).__all__
]
SECTIONS = ("Parameters", "Attributes", "Returns", "Raises", "Examples")


@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__name__)
def test_sections(function: Callable) -> None:
    text = inspect.getdoc(function) or ""
    found = {section for section in SECTIONS if f"\n{section}\n---" in text}
    if inspect.isclass(function):
        assert found & {"Parameters", "Attributes"}
        assert "Examples" in found
    else:
        assert found >= {"Parameters", "Returns", "Raises", "Examples"} - (
            set() if inspect.signature(function).parameters else {"Parameters", "Raises"}
        )
    for name in inspect.signature(function).parameters:
        assert name in text, name


@pytest.mark.usefixtures("narrow")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("function", PUBLIC, ids=lambda f: f.__name__)
def test_examples(function: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_registry, "_own", {})  # what an example registers is not there for other tests
    (test,) = (t for t in doctest.DocTestFinder().find(function, globs={}) if t.name == function.__name__)
    assert test.examples
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0
