"""What a section looks like: the frame of the H&E, its stain, and the pixels of H&E and DAPI."""
