"""What commands do with many slides."""
