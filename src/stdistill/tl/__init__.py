"""Tools: niche models are fitted, applied and measured here; results go into the table."""

from __future__ import annotations

__all__: list[str] = []
