"""Thousands of transfers by several processes, with and without protection, and what became of the money."""
