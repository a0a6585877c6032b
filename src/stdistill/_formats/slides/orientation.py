"""Images that ask to be turned before they are shown."""

from __future__ import annotations

from stdistill._support.warn import warn

AS_STORED = (None, 0, 1)
"""What says that an image is shown as it is stored."""


def warn_of_orientation(orientation: int | None, name: str) -> None:
    """Warn of an orientation tag, of TIFF or EXIF, which no reader of slides follows."""
    if orientation in AS_STORED:
        return
    warn(
        f"{name} has the orientation tag {orientation}, by which viewers turn or mirror it. Its pixels are read as "
        "they are stored: what was drawn or aligned in a viewer may be turned against them."
    )
