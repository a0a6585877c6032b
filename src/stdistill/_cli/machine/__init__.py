"""What there is on this machine; for ``stdistill doctor``."""
