from __future__ import annotations

import json
import subprocess
import sys

import pytest

import stdistill as sd

HEAVY = ("torch", "timm", "scvi", "squidpy", "spatialdata", "scanpy", "anndata")
NAMESPACES = ("pp", "tl", "pl", "get", "io", "models", "encoders", "datasets", "results")


def test_import_is_light() -> None:
    """`import stdistill` loads none of the heavy packages, nor does looking at what it offers."""
    code = f"import sys, stdistill; dir(stdistill); print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Which of the heaviest packages each namespace is the first to load, of one interpreter that uses them in turn."""
    code = f"""
import json, sys, stdistill
loaded = {{}}
for namespace in {NAMESPACES}:
    before = set(sys.modules)
    getattr(stdistill, namespace).__all__
    loaded[namespace] = [name for name in {HEAVY[:5]} if name in set(sys.modules) - before]
print(json.dumps(loaded))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_namespaces(namespace: str, loaded: dict[str, list[str]]) -> None:
    """Using a namespace loads neither the deep-learning packages nor spatialdata before a function needs them."""
    assert loaded[namespace] == []
    assert namespace in dir(sd)
    assert all(hasattr(getattr(sd, namespace), name) for name in getattr(sd, namespace).__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'stdistill' has no attribute 'gr'"):
        _ = sd.gr
