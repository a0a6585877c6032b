"""Pixels: affine maps, pyramids, windows, crops, stain."""
