"""Whole runs, from a slide to tables and figures, that go on where they were killed; internal."""
