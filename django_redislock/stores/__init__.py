"""Where locks are kept."""
