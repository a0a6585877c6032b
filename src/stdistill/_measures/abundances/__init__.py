"""Measures of abundances of cell types."""
