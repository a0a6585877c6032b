"""What is said of each niche: its cell types, neighbours, nuclei, best cells, and a name made of these."""
