"""Models that travel: what they say of themselves, under which terms, and how they come to the hub and back."""
