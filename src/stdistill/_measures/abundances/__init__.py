"""Measures of how much of each cell type is in a place."""
