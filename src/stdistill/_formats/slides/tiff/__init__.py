"""TIFFs of scanners: the slide is found in its pages, checked, and read tile by tile."""
