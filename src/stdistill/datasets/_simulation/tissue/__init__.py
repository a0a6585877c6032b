"""Where things lie: outline, niche domains, microanatomy, cells, and the molecules in them."""
