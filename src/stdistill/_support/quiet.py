"""Lightning's Trainer without the talk that users of a library need not hear."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*treespec, LeafSpec.*",
    ".*exists and is not empty.*",
    ".*predict returned None.*",
    ".*in eval mode at the start of training.*",
    ".*`srun` command is available.*",
)
"""What Lightning warns of that is as it should be."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Lightning says about hardware, loggers and workers, and let an interrupt be one.

    Lightning passes Ctrl-C on as `SystemExit`, which would end a notebook's kernel.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message=message)
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        except SystemExit:
            raise KeyboardInterrupt from None
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
