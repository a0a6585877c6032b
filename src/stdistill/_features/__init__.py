"""Encoders run over slides."""
