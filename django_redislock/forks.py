"""Starting over in a child of `fork`, which has a copy of its parent's threads and leases, but none of them itself.

uWSGI forks without telling Python, unless `py-call-osafterfork` is set. So it is looked at as well, before the first
lock of a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What a child of `fork` has a copy of that is of no use to it."""

    def start_over(self) -> None:
        """Be as new."""


pid = os.getpid()
"""The id of the process, as last noticed: a flow looks when it proves itself, before anything is asked for it."""
_in_child: list[Callable[[], object]] = []
_forked: WeakSet[Forked] = WeakSet()


def in_child(start_over: Callable[[], object]) -> None:
    """Have this called in each child."""
    _in_child.append(start_over)


def starts_over(thing: Forked) -> None:
    """Have it start over in each child, before there can be two threads that would have to do that at the same time."""
    _forked.add(thing)


def notice() -> int:
    """Start over if this is a child in which nobody has yet; gives the id of the process."""
    global pid  # noqa: PLW0603 - a process has one id
    now = os.getpid()
    if now != pid:
        pid = now
        for start_over in _in_child:
            start_over()
        for thing in list(_forked):
            thing.start_over()
    return pid


os.register_at_fork(after_in_child=notice)
