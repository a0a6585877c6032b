from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from stdistill._support.locks import hold

OTHER = """
import sys, time
from pathlib import Path
from stdistill._support.locks import hold
with hold(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def other_process(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_kept_out_until_it_ends(tmp_path: Path) -> None:
    with other_process(tmp_path / "lock", 60) as process:
        with pytest.raises(BlockingIOError, match="it is busy"), hold(tmp_path / "lock", "it is busy"):
            pytest.fail("held twice")
        process.kill()
    with hold(tmp_path / "lock", "it is busy"):
        pass


def test_it_waits_when_it_is_told_to(tmp_path: Path) -> None:
    start = time.monotonic()
    with other_process(tmp_path / "lock", 1), hold(tmp_path / "lock", "busy", wait=True):
        assert time.monotonic() - start > 1


def test_it_is_freed_at_the_end_of_the_block_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path / "lock", "busy"):
        raise KeyError
    lock = FileLock(tmp_path / "lock")
    lock.acquire(blocking=False)
    lock.release()


def test_a_file_system_without_locks_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        msg = "locks are not supported"
        raise OSError(msg)

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with caplog.at_level("INFO", logger="stdistill"), hold(tmp_path / "lock", "busy"):
        assert "see to it that no other process writes there" in caplog.text
