"""Questions beside the chain."""
