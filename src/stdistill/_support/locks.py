"""One process at a time, on one machine or on many: two that write to one folder at once would spoil it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

logger = logging.getLogger("stdistill")

Lease = SoftFileLease
LEASE_S = 180.0
"""After which an owner is dead that gave no sign. A network file system may show a file's time a minute late."""
HEARTBEAT_S = 30.0
POLL_S = 0.2


@contextmanager
def hold(path: Path, busy: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file inside the block; the system frees it when this process ends in it.

    Parameters
    ----------
    path
        The file, in a folder that is there. It stays, because others may have it open.
    busy
        What to say when another process has it.
    wait
        Whether to wait for the other process instead.

    Raises
    ------
    BlockingIOError
        When another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise BlockingIOError(busy) from error
    except OSError as error:  # some network file systems have no locks
        logger.info("%s cannot be locked (%s): see to it that no other process writes there.", path.parent, error)
    try:
        yield
    finally:
        lock.release()


def lease(path: Path) -> Lease:
    """Return a lock between machines that share a file system, which frees itself when its owner is dead.

    Its file names the owner, whose thread touches it every `HEARTBEAT_S`. It is taken over at once when the owner's
    process on this machine is gone, and when a process watches it and it is not touched for `LEASE_S`. Use one object
    for each lock that is tried again and again, since it remembers since when it watches; its
    ``compromise`` tells whether it was lost, as by a process that was suspended.

    Parameters
    ----------
    path
        The file, whose folder is made; it is there while somebody has the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return SoftFileLease(path, lease_duration=LEASE_S, heartbeat_interval=HEARTBEAT_S, poll_interval=POLL_S)


@contextmanager
def wait_for_lease(path: Path) -> Iterator[None]:
    """Hold a lease inside the block; wait for it until its owner frees it or is dead."""
    lock = lease(path)
    while not lock.is_locked:
        forget_unsigned(path)
        with suppress(Timeout):
            lock.acquire(timeout=LEASE_S)
    try:
        yield
    finally:
        lock.release()


def forget_unsigned(path: Path) -> None:
    """Remove the file of a lease that has been empty for `LEASE_S`.

    Its owner was killed between making and signing it, and `filelock` leaves files without an owner alone for ever.
    """
    if not _is_unsigned(path):
        return
    # Between a look and the removal another process might remove it as well, and a third sign a new one.
    with hold(path.with_name(f"{path.name}.unsigned"), f"Another process frees {path}.", wait=True):
        if _is_unsigned(path):
            path.unlink()
            logger.warning("%s was left unsigned by a process that was killed, and is removed.", path)


def _is_unsigned(path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:  # free
        return False
    return found.st_size == 0 and time.time() - found.st_mtime > LEASE_S
