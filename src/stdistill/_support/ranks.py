"""Which of the processes of one run this is."""

from __future__ import annotations


def is_first_process() -> bool:
    """Whether this process writes for all of a run: it is alone, or the first of Lightning's."""
    from lightning.pytorch.utilities import rank_zero_only  # loads torch

    return not rank_zero_only.rank  # type: ignore[attr-defined]
