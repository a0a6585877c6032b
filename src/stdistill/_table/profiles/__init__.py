"""What profiles of niches read from a table and from the shapes and labels that it annotates."""
