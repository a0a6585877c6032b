"""Abundances of cell types from H&E features."""
