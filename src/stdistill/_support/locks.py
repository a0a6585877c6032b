"""One process at a time: two that write to one folder at once would spoil it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger("stdistill")


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
