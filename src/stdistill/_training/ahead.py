"""Batches that are made in the background while the one before is computed with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Batch = TypeVar("Batch")

AHEAD = 2
"""Batches that wait."""


def made_ahead(make: Callable[[Part], Batch], parts: Iterable[Part]) -> Iterator[Batch]:
    """Make a batch of each part, in their order, in a thread of its own."""
    coming: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as maker:
        try:
            for part in parts:
                coming.append(maker.submit(make, part))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:  # whoever stops early does not wait for what was scheduled
            maker.shutdown(wait=False, cancel_futures=True)
