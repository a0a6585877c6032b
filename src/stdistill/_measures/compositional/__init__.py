"""Compositions of slides, and how they differ between groups of them."""
