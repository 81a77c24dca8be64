"""Which process this is. What belongs to one is of no use in a child of `fork`, which has a copy of it."""

from __future__ import annotations

import os

pid = os.getpid()
"""Its id. Asking the system each time would cost more than entering a lock again does otherwise."""


def start_over() -> None:
    """In a child of `fork`."""
    global pid  # noqa: PLW0603 - a process has one id
    pid = os.getpid()


os.register_at_fork(after_in_child=start_over)
