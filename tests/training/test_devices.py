"""Where things are computed, without the devices."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from stdistill._training.devices import environment, forked_rng, from_all_ranks, n_devices, share_of_rank, torch_device


@pytest.mark.parametrize(
    ("cuda", "mps", "auto", "gpu"),
    [(True, False, "cuda", "cuda"), (False, True, "mps", "mps"), (False, False, "cpu", None)],
)
def test_the_fastest_there_is(
    cuda: bool, mps: bool, auto: str, gpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert torch_device() == torch_device("auto") == auto
    assert torch_device("cpu") == "cpu"
    for asked, there in (("gpu", gpu), ("cuda", cuda), ("cuda:1", cuda), ("mps", mps)):
        if there:
            assert torch_device(asked) == (gpu if asked == "gpu" else asked)
        else:
            with pytest.raises(ValueError, match=rf"'{asked}' is asked for, and torch sees no such device.*doctor"):
                torch_device(asked)


@pytest.mark.parametrize(
    ("given", "count"), [(1, 1), (4, 4), ("2", 2), ([0], 1), ([1, 3], 2), ("0,1", 2), ("auto", 1), (-1, 1), ("-1", 1)]
)
def test_number_of_devices(given: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert n_devices(given) == count


def test_with_one_device_the_scheduler_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook on SLURM, which Lightning takes for one of eight processes."""
    for name, value in {
        "SLURM_NTASKS": "8",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "batch",
        "SLURM_PROCID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with pytest.raises(RuntimeError, match="ntasks"):
        Trainer(devices=1, **quiet)
    assert Trainer(devices=1, plugins=environment(1), **quiet).world_size == 1
    assert environment(2) == environment(1, 2) == []


def test_alone_all_rows_are_ones_own() -> None:
    rows = np.arange(5)
    assert share_of_rank(rows) is rows
    assert from_all_ranks("a") == ["a"]


def test_random_numbers_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with forked_rng():
        torch.manual_seed(3)
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_cuda_is_not_woken() -> None:
    """Processes that are forked later could not use it."""
    code = (
        "import torch\n"
        "def fail(*_): raise SystemExit('woken')\n"
        "torch.cuda._lazy_init = fail\n"
        "from stdistill._training.trainer import seeded\n"
        "with seeded(0): torch.rand(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_two_processes_share_rows_and_results() -> None:
    code = (
        "import numpy as np, torch.distributed as dist, torch.multiprocessing as mp, sys\n"
        "from stdistill._training.devices import from_all_ranks, share_of_rank\n"
        "def work(rank, folder):\n"
        "    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)\n"
        "    mine = share_of_rank(np.arange(5))\n"
        "    assert mine.tolist() == [[0, 1, 2], [3, 4]][rank]\n"
        "    assert [part.tolist() for part in from_all_ranks(mine)] == [[0, 1, 2], [3, 4]]\n"
        "if __name__ == '__main__':\n"
        "    import tempfile\n"
        "    mp.spawn(work, args=(tempfile.mkdtemp(),), nprocs=2)\n"
    )
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "two.py"
        script.write_text(code)
        assert subprocess.run([sys.executable, str(script)]).returncode == 0
