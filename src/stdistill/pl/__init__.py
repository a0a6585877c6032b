"""Pictures of what is in the table; nothing is computed here."""

from __future__ import annotations

__all__: list[str] = []
