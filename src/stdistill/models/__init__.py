"""What is trained: the niche network and its card."""

from __future__ import annotations

__all__: list[str] = []
