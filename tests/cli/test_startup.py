from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stdistill._cli import COMMANDS

HEAVY = {
    "anndata",
    "h5py",
    "huggingface_hub",
    "lightning",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "scanpy",
    "scipy",
    "scvi",
    "sklearn",
    "spatialdata",
    "squidpy",
    "timm",
    "torch",
}


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh Python has loaded after the code."""
    code += "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.partition("LOADED")[2].split())


def test_import_is_light() -> None:
    loaded = loaded_by("import stdistill; stdistill.__version__; dir(stdistill)")
    assert "stdistill" in loaded
    assert not HEAVY & loaded


def test_help_is_light() -> None:
    """Of all commands at once: each is loaded when its line is printed, and again for its own options."""
    code = "from stdistill._cli import main\nmain(['--help'], standalone_mode=False)\n"
    code += "\n".join(f"main([{name!r}, '--help'], standalone_mode=False)" for name in COMMANDS)
    loaded = loaded_by(code)
    assert "click" in loaded
    assert not HEAVY & loaded


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell the time of a process")
@pytest.mark.parametrize(
    ("code", "limit_s"), [("from stdistill._cli import main; main(['--help'])", 0.5), ("import stdistill", 1)]
)
def test_startup_is_fast(code: str, limit_s: float) -> None:
    """Time of the processor, which depends less on what else runs than the clock does; the best of a few."""

    def measure() -> float:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        return used.ru_utime + used.ru_stime

    assert min(measure() for _ in range(5)) < limit_s
