"""What is downloaded or simulated."""

from __future__ import annotations

from stdistill.datasets._download import download
from stdistill.datasets._list import list
from stdistill.datasets._simulate import simulate_xenium

__all__ = ["download", "list", "simulate_xenium"]
