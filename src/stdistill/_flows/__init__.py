"""Whole ways from a slide to files: they compute, then draw."""
