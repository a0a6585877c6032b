"""The parts of :func:`stdistill.datasets.simulate_xenium`: tissue, cells, molecules, images, files."""
