"""Plain models of neighbourhood means: what a network has to beat."""
