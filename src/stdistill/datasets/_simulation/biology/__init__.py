"""What a tissue is made of: its cell types, its niches, and the genes that they express."""
