"""Numbers that stand for cells, and for what was written of each: what was moved or edited since is told by them."""
