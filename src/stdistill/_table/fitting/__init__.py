"""What models take from tables, and what they write to them."""
