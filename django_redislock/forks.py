"""Starting over in a child of `fork`, which has a copy of its parent's threads and leases, but none of them itself.

uWSGI forks without telling Python, unless `py-call-osafterfork` is set. So it is looked at as well, before the first
lock of a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_pid = os.getpid()
_in_child: list[Callable[[], object]] = []


def in_child(start_over: Callable[[], object]) -> None:
    """Have this called in each child."""
    _in_child.append(start_over)


def notice() -> int:
    """Start over if this is a child in which nobody has yet; gives the id of the process."""
    global _pid  # noqa: PLW0603 - a process has one id
    pid = os.getpid()
    if pid != _pid:
        _pid = pid
        for start_over in _in_child:
            start_over()
    return pid


def noticed() -> int:
    """The id of the process, as last noticed: a flow looks when it proves itself, before anything is asked for it."""
    return _pid


os.register_at_fork(after_in_child=notice)
