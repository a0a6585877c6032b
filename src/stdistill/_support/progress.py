"""How far a long computation is: a bar in a terminal or a notebook, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm

LINE_EVERY_S = 60.0
"""A log file gets a line no more often than this."""


class Progress:
    """Counts what is done, and shows it on the standard error.

    Parameters
    ----------
    total
        Number of units of work.
    what
        Name of the work.
    unit
        Name of a unit, plural.
    done
        What was done before.
    delay
        Seconds before a bar appears: what is done by then needs none.
    """

    def __init__(self, total: int, what: str, unit: str, *, done: int = 0, delay: float = 0) -> None:
        self.total, self.what, self.unit, self.done = total, what, unit, done
        self.note = ""
        self._start, self._first = time.monotonic(), done
        self._line = self._start
        is_shown = sys.stderr.isatty() or _in_notebook()
        self._bar: Any = tqdm(total=total, initial=done, desc=what, unit=f" {unit}", delay=delay) if is_shown else None

    def advance(self, by: int = 1, **values: float) -> None:
        """Count units as done; `values` are shown beside."""
        self.done += by
        if values:
            self.note = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(by)
        elif time.monotonic() - self._line >= LINE_EVERY_S:
            self._write()

    def close(self) -> None:
        """End the bar, or say what was done when a line was written before."""
        if self._bar is not None:
            self._bar.close()
        elif self._line > self._start:
            self._write()

    def _write(self) -> None:
        self._line = time.monotonic()
        seconds = self._line - self._start
        rate = (self.done - self._first) / seconds if seconds else 0.0
        left = f", {_say((self.total - self.done) / rate)} left" if 0 < self.done < self.total and rate else ""
        note = f" ({self.note})" if self.note else ""
        share = self.done / self.total if self.total else 1.0
        sys.stderr.write(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit} ({share:.0%}), {_say(seconds)}{left}{note}\n"
        )
        sys.stderr.flush()


def _say(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"
