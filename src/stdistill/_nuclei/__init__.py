"""Nuclei in H&E: found on arrays of pixels, by the shipped network or without weights."""
