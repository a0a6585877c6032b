"""One process at a time: two that write to one folder at once would spoil it."""

from __future__ import annotations

import logging
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

logger = logging.getLogger("stdistill")


def hold(path: Path, busy: str) -> BaseFileLock:
    """Take a lock file, which the system frees when this process ends; its `release` frees it before.

    Parameters
    ----------
    path
        The file, in a folder that is there. It stays, because others may have it open.
    busy
        What to say when another process has it.

    Raises
    ------
    BlockingIOError
        When another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise BlockingIOError(busy) from error
    except OSError as error:  # some network file systems have no locks
        logger.info("%s cannot be locked (%s): see to it that no other process writes there.", path.parent, error)
    return lock
