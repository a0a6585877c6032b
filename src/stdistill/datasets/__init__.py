"""What is downloaded or simulated."""

from __future__ import annotations

from stdistill.datasets._simulate import simulate_xenium

__all__ = ["simulate_xenium"]
