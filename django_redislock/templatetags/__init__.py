"""For our own templates."""
