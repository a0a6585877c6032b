"""Measures of tiles whose H&E and expression lie in one space."""
