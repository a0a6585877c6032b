"""What any part may need: CPUs, compiled kernels, warnings, files, checks of values."""
