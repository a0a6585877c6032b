"""Where the cells lie on their H&E, and what is read there."""
