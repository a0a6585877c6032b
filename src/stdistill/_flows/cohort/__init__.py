"""A saved student on many slides, each a unit of work of its own, by any number of processes and machines."""
