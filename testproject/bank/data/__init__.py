"""The orders and accounts of the demo, and the script that made them."""
