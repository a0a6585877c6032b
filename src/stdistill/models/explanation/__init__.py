"""Which cells of a neighbourhood decide what a niche model says of it."""
