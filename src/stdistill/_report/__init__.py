"""A run's results as pages that open by double click, without network, server or Python."""
