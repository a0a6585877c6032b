"""Whether this machine has what a run needs: versions, devices, access to encoders, room on the disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from stdistill._support.cpus import n_cpus

GIB = 2**30
MIN_FREE_BYTES = 1 * GIB
"""Less than this stops a run: UNI2-h's features of 300,000 cells, and no room for anything else."""
MOVED_BY = {
    "current folder": "work in another folder",
    "cache of features": "name a folder for them with sd.pp.embed_he(store=…)",
    "cache of weights": "name another folder with the variable HF_HOME",
}
"""How to have something elsewhere."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass
class Diagnosis:
    """What was found; as JSON, `to_dict`."""

    versions: dict[str, str | None]
    """Of stdistill, Python and the packages that stdistill needs; `None` for one that is not there."""
    platform: str
    cpu_cores: int
    memory_bytes: int | None
    devices: list[dict[str, Any]] = field(default_factory=list)
    """Accelerators: ``kind``, ``name``, ``memory_bytes``."""
    threads: dict[str, str] = field(default_factory=dict)
    """Threads of torch, and the variables that limit them where they are set."""
    encoders: dict[str, Any] = field(default_factory=dict)
    """``token``, ``offline``, ``at_hand``, ``auto``, and, when the hub was asked, ``granted`` and ``refused``."""
    disk: list[dict[str, Any]] = field(default_factory=list)
    """``what``, ``path``, ``free_bytes``, ``writable``."""
    problems: list[str] = field(default_factory=list)
    """What would stop a run, and what to do."""
    notes: list[str] = field(default_factory=list)
    """What would not stop a run, but is good to know."""

    def to_dict(self) -> dict[str, Any]:
        """As it is written to JSON."""
        return {"ok": not self.problems, **vars(self)}


def diagnose(*, online: bool = False) -> Diagnosis:
    """Examine this machine; the network is asked only if `online`.

    Parameters
    ----------
    online
        Ask the Hugging Face hub which weights it would give.

    Returns
    -------
    What was found.
    """
    probe = [sys.executable, "-P", "-m", "stdistill._cli.machine.devices"]
    # It takes longest, and goes on while the rest is looked at.
    with subprocess.Popen(probe, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        found = Diagnosis(
            versions={"stdistill": version("stdistill"), "python": platform.python_version()},
            platform=platform.platform(),
            cpu_cores=n_cpus(),
            memory_bytes=_memory_bytes(),
        )
        _examine_packages(found)
        if None not in found.versions.values():
            _examine_encoders(found, online)
            _examine_disk(found)
        output, errors = process.communicate()
    _examine_torch(found, process.returncode, output, errors)
    return found


def _examine_packages(found: Diagnosis) -> None:
    """Compare what is installed with what stdistill asks for; nothing is imported."""
    for needed in map(Requirement, requires("stdistill") or []):
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = found.versions[needed.name] = version(needed.name)
        except PackageNotFoundError:
            found.versions[needed.name] = None
            found.problems.append(f'{needed.name} is not installed: pip install "{needed}".')
            continue
        if not needed.specifier.contains(installed, prereleases=True):
            found.problems.append(f'{needed.name} is {installed}, expected {needed.specifier}: pip install "{needed}".')


def _examine_encoders(found: Diagnosis, online: bool) -> None:
    """See which weights are on this machine, and, if `online`, which the hub would give."""
    from huggingface_hub import get_token, is_offline_mode

    from stdistill.encoders._access import TIMEOUT_S, check, is_at_hand
    from stdistill.encoders._encoder import Encoder
    from stdistill.encoders._registry import BUILT_IN, PAPERS, registered

    def granted(encoder: Encoder) -> bool:
        try:
            check(encoder, timeout_s=TIMEOUT_S)
        except OSError:
            return False
        return True

    encoders = registered()
    at_hand = [name for name, encoder in encoders.items() if is_at_hand(encoder)]
    token, offline = get_token() is not None, is_offline_mode()
    found.encoders = {"token": token, "offline": offline, "at_hand": at_hand}
    asked = online or not token or offline  # no token, no network: then a gated encoder is refused without asking
    if online:
        others = [encoder for name, encoder in encoders.items() if name not in at_hand]
        with ThreadPoolExecutor() as pool:
            answers = dict(zip([each.name for each in others], pool.map(granted, others), strict=True))
        found.encoders["granted"] = [name for name, answer in answers.items() if answer]
        found.encoders["refused"] = [name for name, answer in answers.items() if not answer]
    can_be_had = PAPERS in [*at_hand, *found.encoders.get("granted", [])]
    auto = PAPERS if can_be_had else BUILT_IN if asked else None
    found.encoders["auto"] = auto
    if auto == BUILT_IN:
        found.notes.append(
            f"{PAPERS}, the encoder of the paper, is not at hand: --encoder auto takes the built-in {BUILT_IN}, for "
            f"trying out. `stdistill encoders {PAPERS}` says how to get it."
        )
    elif auto is None:
        found.notes.append(f"Whether the hub gives you {PAPERS} was not asked: `stdistill doctor --online` does.")


def _examine_disk(found: Diagnosis) -> None:
    """Look for room and leave to write where runs, features and weights go."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from platformdirs import user_cache_path

    folders = {
        "current folder": Path.cwd(),
        "cache of features": user_cache_path("stdistill"),
        "cache of weights": Path(HF_HUB_CACHE),
    }
    for what, path in folders.items():
        there = next(each for each in (path, *path.absolute().parents) if each.exists())
        free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
        found.disk.append({"what": what, "path": str(path), "free_bytes": free, "writable": writable})
        if free < MIN_FREE_BYTES:
            found.problems.append(
                f"The disk of the {what} ({path}) has {free / GIB:.2f} GiB free, expected {MIN_FREE_BYTES / GIB:.0f} "
                f"or more: make room, or {MOVED_BY[what]}."
            )
        if not writable:
            found.problems.append(f"The {what} ({path}) cannot be written to: {MOVED_BY[what]}.")


def _examine_torch(found: Diagnosis, returncode: int, output: str, errors: str) -> None:
    """Read what the probe of torch and timm found, or why it ended."""
    last = (errors.strip().splitlines() or [f"Python ended with code {returncode}"])[-1]
    torch = found.versions.get("torch")
    if output:
        found_by_torch = json.loads(output)
        found.devices = found_by_torch["devices"]
        found.threads = {"torch": str(found_by_torch["torch_threads"])}
    elif torch is not None:
        found.problems.append(
            f"torch {torch} cannot be loaded ({last}): install it as https://pytorch.org/get-started says for this "
            "machine."
        )
    if output and returncode and found.versions.get("timm") is not None:
        found.problems.append(
            f"timm {found.versions['timm']} cannot be loaded ({last}). Most often torchvision is not the one for torch "
            f"{torch}: install both together, pip install --force-reinstall torch torchvision."
        )
    found.threads |= {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    if output and not found.devices:
        hint = " There is an NVIDIA driver, which this torch cannot use." if shutil.which("nvidia-smi") else ""
        found.notes.append(f"No GPU is used.{hint} The foundation models take long without one.")


def _memory_bytes() -> int | None:
    """Memory of the machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
