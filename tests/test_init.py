from __future__ import annotations

import subprocess
import sys

import pytest

import stdistill as sd

HEAVY = ("torch", "timm", "scvi", "squidpy", "spatialdata", "scanpy", "anndata")


def test_import_is_light() -> None:
    """`import stdistill` loads none of the heavy packages, nor does looking at what it offers."""
    code = f"import sys, stdistill; dir(stdistill); print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("namespace", ["pp", "tl", "pl", "get", "io", "models", "encoders", "datasets"])
def test_namespaces(namespace: str) -> None:
    """Using a namespace loads neither the deep-learning packages nor spatialdata before a function needs them."""
    code = f"import sys, stdistill; stdistill.{namespace}.__all__; print([m for m in {HEAVY[:5]} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert namespace in dir(sd)
    assert all(hasattr(getattr(sd, namespace), name) for name in getattr(sd, namespace).__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'stdistill' has no attribute 'gr'"):
        _ = sd.gr
