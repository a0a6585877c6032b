from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from stdistill._support import locks
from stdistill._support.locks import forget_unsigned, hold, lease, wait_for_lease

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


HOLDER = """
import sys, time
from pathlib import Path
from stdistill._support.locks import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lease_is_taken_over_when_its_owner_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            lease(path).acquire(blocking=False)
        process.kill()
        process.wait()
        with lease(path).acquire(timeout=5) as held:
            assert held.pid == os.getpid()
    assert not path.exists()


def test_a_lease_of_another_machine_is_taken_over_when_it_gives_no_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LEASE_S", 1.0)
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.2)
    path = tmp_path / "a.lock"
    ours = lease(path)
    with ours:
        content = path.read_bytes()
    elsewhere = content.replace(socket.gethostname().encode(), b"elsewhere")
    assert elsewhere != content
    path.write_bytes(elsewhere)
    watching = lease(path)
    start = time.monotonic()
    while time.monotonic() - start < 1.5:  # its owner lives
        os.utime(path)
        with pytest.raises(Timeout):
            watching.acquire(blocking=False)
        time.sleep(0.1)
    with watching.acquire(timeout=10):
        assert time.monotonic() - start > 2


def test_a_lease_gives_a_sign_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.05)
    path = tmp_path / "a.lock"
    with lease(path):
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_lease_that_was_never_signed_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its owner was killed between making the file and signing it; one that is being signed now is left alone."""
    path = tmp_path / "a.lock"
    path.touch()
    with pytest.raises(Timeout):
        lease(path).acquire(blocking=False)
    forget_unsigned(path)
    assert path.exists()
    long_ago = time.time() - locks.LEASE_S - 1
    os.utime(path, (long_ago, long_ago))
    with wait_for_lease(path), pytest.raises(Timeout):
        lease(path).acquire(blocking=False)
    assert "was left unsigned" in caplog.text
    assert not path.exists()


def test_waiting_for_a_lease_that_is_left_unsigned_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LEASE_S", 0.3)
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.1)
    path = tmp_path / "a.lock"
    path.touch()
    start = time.monotonic()
    with wait_for_lease(path):
        assert 0.3 < time.monotonic() - start < 10
    forget_unsigned(path)  # nothing is there


SWEEPER = """
import sys
from pathlib import Path
from stdistill._support import locks
looks, look = [], locks._is_unsigned
def slow(path):
    found = look(path)
    if not looks:
        print("looked", flush=True)
        sys.stdin.readline()
    looks.append(found)
    return found
locks._is_unsigned = slow
locks.forget_unsigned(Path(sys.argv[1]))
print(looks, flush=True)
"""


def test_what_another_signed_meanwhile_is_not_removed(tmp_path: Path) -> None:
    """One process sees an unsigned file and is slow; before it goes on, another has removed it and holds the lease."""
    path = tmp_path / "a.lock"
    path.touch()
    long_ago = time.time() - locks.LEASE_S - 1
    os.utime(path, (long_ago, long_ago))
    command = [sys.executable, "-c", SWEEPER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        assert slow.stdout.readline() == "looked\n"
        with wait_for_lease(path):
            slow.stdin.write("\n")
            slow.stdin.flush()
            assert slow.stdout.readline() == "[True, False]\n"
            assert path.stat().st_size > 0
