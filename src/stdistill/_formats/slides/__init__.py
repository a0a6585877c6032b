"""Whole-slide images of any kind as lazy multi-scale RGB."""
