"""What tifffile logs while it looks at a file, which this reader says itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one = threading.RLock()


@contextmanager
def silent() -> Iterator[None]:
    """Silence tifffile's logger, in one thread at a time: none must put back what another had set."""
    logger = logging.getLogger("tifffile")
    with _one:
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)
