"""Everything that stands in a table: its names, checks, records, labels, niches."""
