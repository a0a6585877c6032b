"""Reports of commands: a name and what is said of it, a line or several each."""

from __future__ import annotations

import textwrap

WIDTH = 100
INDENT = 12


def entry(name: str, text: str) -> str:
    """Write a name, and the text beside it in a column of its own."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=name.ljust(INDENT),
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
