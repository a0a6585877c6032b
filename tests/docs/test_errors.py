"""The catalogue of errors: what it quotes is in the code, what it calls is raised, and the page is made of it."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from spatialdata import SpatialData

import stdistill as sd
from stdistill._cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "reference" / "errors.toml"
FOUND = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
CALLS = [case for case in FOUND["case"] if "call" in case]
TYPED = [case for case in FOUND["case"] if "command" in case]
QUOTED = [each["said"] for each in FOUND["message"]]
RAISE_NOTHING = {"encoders.list", "datasets.list"}
"""Functions that take nothing."""
WITHOUT_A_CASE = {"encoders.Encoder", "models.ModelCard", "models.NicheModel"}


@pytest.fixture(scope="module")
def messages() -> str:
    """All of the code, with the pieces of long strings joined."""
    code = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", code)


@pytest.mark.parametrize("quoted", QUOTED)
def test_quoted_messages_exist(quoted: str, messages: str) -> None:
    pieces = re.split(r"…|'[^']*'|\"[^\"]*\"|\[|\]|\d[\d.]*", quoted)  # what is filled in differs
    literal = [piece.strip() for piece in pieces if len(piece.strip()) > 8]
    assert literal
    assert [piece for piece in literal if piece not in messages] == []


@pytest.fixture(scope="module")
def whole() -> ad.AnnData:
    """A table of cells, from which each case gets a copy."""
    rng, n = np.random.default_rng(0), 60
    cells = ad.AnnData(rng.poisson(1.0, (n, 12)).astype(np.float32))
    cells.obs_names, cells.var_names = [f"cell-{i}" for i in range(n)], [f"gene-{i}" for i in range(12)]
    cells.obsm["spatial"] = rng.uniform(0, 300, (n, 2))
    cells.obsm["X_he"] = rng.normal(size=(n, 6)).astype(np.float16)
    cells.obsm["X_scVI"] = rng.normal(size=(n, 4)).astype(np.float32)
    cells.obs["cell_type"] = pd.Categorical(np.array(["B cell", "T cell"])[np.arange(n) % 2])
    cells.obs["teacher_niche"] = pd.Categorical(np.array(["0", "1", "2"])[np.arange(n) % 3])
    for niche in range(3):
        cells.obs[f"teacher_logit_{niche}"] = rng.normal(size=n)
    cells.obs["split"] = pd.Categorical(np.where(np.arange(n) < 40, "train", "test"))
    sd.pp.neighborhoods(cells, n_neighbors=5)
    return cells


@pytest.fixture
def known(tmp_path: Path, whole: ad.AnnData, make_slide: Callable[..., SpatialData], bundle: Path) -> dict[str, Any]:
    """What the cases know by name."""
    pixels = np.full((64, 64, 3), 235, np.uint8)
    pixels[16:48, 16:48] = (180, 90, 150)
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    (tmp_path / "folder").mkdir()
    return {
        **{"sd": sd, "np": np, "pd": pd, "torch": torch, "shutil": shutil},
        "folder": tmp_path / "folder",
        "outs": bundle,
        "png": tmp_path / "slide.png",
        "slide": make_slide(),
        "cells": whole.copy(),
        "student": ROOT / "tests" / "stored" / "student",
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CALLS, ids=[case["call"] for case in CALLS])
def test_what_functions_refuse(case: dict[str, Any], known: dict[str, Any]) -> None:
    exec(case.get("given", ""), known)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        eval(case["call"], known)
    message = str(caught.value.args[0])
    assert type(caught.value).__name__ == case["error"], message
    assert [words for words in case["said"] if words not in message] == [], message


@pytest.mark.parametrize("case", TYPED, ids=[case["command"] for case in TYPED])
def test_what_commands_refuse(case: dict[str, Any], known: dict[str, Any]) -> None:
    result = CliRunner().invoke(main, shlex.split(case["command"].format(**known)))
    assert result.exit_code == case["exit_code"], result.output
    assert [words for words in case["said"] if words not in " ".join(result.output.split())] == [], result.output


def test_the_catalogue_has_all_functions_and_commands() -> None:
    assert len(FOUND["case"]) >= 80
    calls = " ".join(case["call"] for case in CALLS)
    public = {
        f"{namespace}.{name}"
        for namespace in ("pp", "tl", "pl", "get", "io", "datasets", "encoders")
        for name in importlib.import_module(f"stdistill.{namespace}").__all__
    }
    assert {name for name in public - RAISE_NOTHING - WITHOUT_A_CASE if f"sd.{name}(" not in calls} == set()
    assert {case["command"].split()[0] for case in TYPED} == set(COMMANDS)


def test_the_page_is_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    importlib.import_module("_generate").write_errors(CATALOGUE, tmp_path)
    page = (tmp_path / "errors.md").read_text(encoding="utf-8")
    assert all(f"**{quoted}**" in page for quoted in QUOTED)
    rows = [line for line in page.splitlines() if line.startswith("| `` ")]
    assert len(rows) == len(FOUND["case"])
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)  # no cell is torn by a bar
    assert "### `sd.pp.read_xenium`" in page
    assert "### `stdistill predict`" in page
