"""What results stand on, and whether they may be used for what they are to be used for."""
