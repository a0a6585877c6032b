"""Cells within a radius of each other."""
