"""The files of a Xenium output bundle."""
