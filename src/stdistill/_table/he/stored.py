"""A slide on disk without its pixels, which are in a file of their own already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stdistill._support.files import replacing_folder

if TYPE_CHECKING:
    from spatialdata import SpatialData


def write_without_images(sdata: SpatialData, folder: Path) -> None:
    """Write all but the images of a SpatialData, in the place of what was there before, when all of it is written.

    :func:`stdistill.pp.attach_slide` attaches the H&E again to what is read back.
    """
    from spatialdata import SpatialData

    elements = {name: element for kind, name, element in sdata.gen_elements() if kind != "images"}
    with replacing_folder(folder) as new:
        new.rmdir()  # spatialdata writes to folders of its own making
        kept = SpatialData.init_from_elements(elements, attrs=sdata.attrs)
        kept.write(new, update_sdata_path=False)
