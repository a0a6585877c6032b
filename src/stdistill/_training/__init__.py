"""One trainer for every objective."""
