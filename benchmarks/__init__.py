"""What locking costs, beside what else could be used: `python -m benchmarks --help`."""
