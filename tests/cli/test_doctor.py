from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from stdistill._cli import main
from stdistill._cli.machine import devices, diagnosis

GIB = 2**30


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the program that loads torch and timm answers, which takes seconds otherwise."""
    answer = SimpleNamespace(output=json.dumps({"devices": [], "torch_threads": 2}), errors="", returncode=0)

    class Process:
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            self.returncode = answer.returncode

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def communicate(self) -> tuple[str, str]:
            return answer.output, answer.errors

    monkeypatch.setattr(diagnosis, "subprocess", SimpleNamespace(Popen=Process, PIPE=subprocess.PIPE))
    return answer


@pytest.fixture
def machine(attempts: list[Any], probe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine on which all is well."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=500 * GIB))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return probe


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_text(machine: SimpleNamespace, attempts: list[Any]) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert attempts == []
    assert max(map(len, result.output.splitlines())) <= 120
    for expected in ("stdistill", f"torch {torch.__version__.partition('+')[0]}", "500.0 GiB free", "at hand: texture"):
        assert expected in result.output
    assert "takes the built-in" in result.output
    assert "no token is logged in" in result.output
    assert result.output.endswith("Nothing here would stop a run.\n")


def test_json(machine: SimpleNamespace, uni2_h_on_disk: str, attempts: list[Any]) -> None:
    gpu = {"kind": "cuda:0", "name": "H100", "memory_bytes": 80 * GIB}
    machine.output = json.dumps({"devices": [gpu], "torch_threads": 2})
    result = run("--json")
    found = json.loads(result.output)
    assert result.exit_code == 0
    assert attempts == []
    assert found["ok"] is True
    assert found["problems"] == found["notes"] == []
    assert found["devices"] == [gpu]
    assert found["threads"]["torch"] == "2"
    assert {"texture", "uni2-h"} <= set(found["encoders"]["at_hand"])  # others may have been registered
    assert found["encoders"]["auto"] == "uni2-h"
    assert {"stdistill", "python", "torch", "timm", "anndata", "spatialdata"} <= found["versions"].keys()
    assert found["cpu_cores"] >= 1
    assert {each["what"] for each in found["disk"]} == {"current folder", "cache of features", "cache of weights"}


def test_torchvision_of_another_torch(machine: SimpleNamespace) -> None:
    machine.errors = "Traceback:\n  File x\nRuntimeError: operator torchvision::nms does not exist\n"
    machine.returncode = 1
    result = run()
    text = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "cannot be loaded (RuntimeError: operator torchvision::nms does not exist)" in text
    assert "pip install --force-reinstall torch torchvision" in text
    assert "1 of these would stop a run." in text


def test_torch_that_ends_python(machine: SimpleNamespace) -> None:
    machine.output, machine.returncode = "", -11
    found = json.loads(run("--json").output)
    (problem,) = found["problems"]
    assert problem.startswith("torch")
    assert "Python ended with code -11" in problem
    assert found["ok"] is False


def test_packages(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["click>=999", "no-such-package>=1", "numpy", 'no-such-extra; extra == "more"']
    monkeypatch.setattr(diagnosis, "requires", lambda name: needed)
    result = run("--json")
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert found["versions"]["no-such-package"] is None
    assert "no-such-extra" not in found["versions"]
    old, missing = found["problems"]
    assert old.startswith("click is ")
    assert 'pip install "click>=999"' in old
    assert missing == 'no-such-package is not installed: pip install "no-such-package>=1".'
    assert "no-such-package missing" in run().output


@pytest.mark.parametrize("what", ["free", "writable"])
def test_disk(what: str, machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "free":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=GIB // 2))
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = run("--json")
    problems = json.loads(result.output)["problems"]
    assert result.exit_code == 1
    assert len(problems) == 3
    assert all(("0.50 GiB free" if what == "free" else "cannot be written to") in problem for problem in problems)
    assert "HF_HOME" in problems[2]


def test_a_token(machine: SimpleNamespace, attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it opens UNI2-h only the hub knows, which is not asked."""
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    found = json.loads(run("--json").output)
    assert attempts == []
    assert found["encoders"]["token"] is True
    assert found["encoders"]["auto"] is None
    assert any("stdistill doctor --online" in note for note in found["notes"])


def test_online(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from stdistill.encoders import _access

    def answer(name: str, *_: Any) -> str:
        if name == "virchow2":
            raise PermissionError
        return "c0ffee"

    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    monkeypatch.setattr(_access, "_ask_hub", answer)
    encoders = json.loads(run("--online", "--json").output)["encoders"]
    assert encoders["refused"] == ["virchow2"]
    assert "uni2-h" in encoders["granted"]
    assert encoders["auto"] == "uni2-h"
    assert "refused: virchow2" in run("--online").output


def test_online_without_a_network(machine: SimpleNamespace, attempts: list[Any]) -> None:
    encoders = json.loads(run("--online", "--json").output)["encoders"]
    assert attempts
    assert encoders["granted"] == []
    assert encoders["auto"] == "texture"


def test_a_driver_without_a_torch_for_it(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    (note,) = [note for note in json.loads(run("--json").output)["notes"] if "GPU" in note]
    assert "this torch cannot use" in note


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    card = namedtuple("card", "name total_memory")("H100", 80 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert [each["kind"] for each in devices.find_devices()] == ["cuda:0", "cuda:1"]
    assert devices.find_devices()[0] == {"kind": "cuda:0", "name": "H100", "memory_bytes": 80 * GIB}


def test_a_real_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program itself, with a torchvision that fails as one of another torch does."""
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = diagnosis.diagnose()
    assert found.threads["torch"] == str(torch.get_num_threads()) or "OMP_NUM_THREADS" in os.environ
    (problem,) = [problem for problem in found.problems if "timm" in problem]
    assert "RuntimeError: operator torchvision::nms does not exist" in problem
