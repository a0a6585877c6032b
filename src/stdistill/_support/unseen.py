"""An image on which there is nothing to be seen."""

from __future__ import annotations


class NothingSeenError(ValueError):
    """There is no tissue on an image, or no nucleus: a fault of the slide, if it is any."""
