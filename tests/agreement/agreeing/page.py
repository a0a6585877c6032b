"""The table of ``docs/concepts/agreement.md``."""

from __future__ import annotations

from agreeing.functions import FUNCTIONS


def rows() -> list[str]:
    """Return a row for each function: what it reads together, and what of it may be anew."""
    return [f"| `{name}` | {_keys(each.reads)} | {_keys(each.takes)} |" for name, each in FUNCTIONS.items()]


def _keys(keys: str) -> str:
    return ", ".join(f"`{key}`" for key in keys.split())
