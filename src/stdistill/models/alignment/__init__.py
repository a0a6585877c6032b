"""H&E tiles and the cell graphs under them in one space, by contrast at three scales."""
