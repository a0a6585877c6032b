"""Measures and folds on arrays."""
