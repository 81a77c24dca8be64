"""A task that waits for a lock of those who await it: that would never end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .awaiting import awaiters
from .exceptions import Deadlock
from .stores.base import Edge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keys import Key
    from .lease import Lease
    from .runners import Runner
    from .stores.base import Held


class Lookout:
    """What a task looks at while it waits: whether a flow around its own has the key, and awaits it."""

    __slots__ = ("_leases", "_task")

    def __init__(self, task: asyncio.Task[Any], leases: Mapping[str, tuple[Lease, Runner]]) -> None:
        """`leases`: what the flows around have of the keys that it wants, by their names, and what runs these flows."""
        self._task = task
        self._leases = leases

    def look(self, key: Key, held: Held) -> None:
        """Raise `Deadlock` where the key, of which the store has said this, cannot be given back before the task ends.

        It is called again and again: whoever has the key may begin later to await the task.
        """
        lease, runner = self._leases.get(key.name, (None, None))
        if lease is None or runner is None or lease.fence != held.fence or not lease.trusted:
            return
        _waits_for[self._task] = runner
        if any(map(runner.stands_still_for, awaiters(self._task, is_stuck=partial(is_stuck, runner)))):
            self.end()  # the others of a `gather()` may go on when this one fails
            raise awaited(key, held)

    def end(self) -> None:
        """It waits no more."""
        _waits_for.pop(self._task, None)


_waits_for: WeakKeyDictionary[asyncio.Future[Any], Runner] = WeakKeyDictionary()
"""What runs the flow that has what a task waits for, where that flow is around it."""


def is_stuck(runner: Runner, task: asyncio.Future[Any]) -> bool:
    """Whether it waits for what the same flow has."""
    return not task.done() and _waits_for.get(task) is runner


def awaited(key: Key, held: Held) -> Deadlock:
    """The refusal to wait for one who waits for us."""
    return Deadlock(
        f"Waiting for {key} would never end: it is held by {held.holder}, who awaits this very task. A child task does "
        f"not share its parent's locks. Do this work in the task that holds the lock, or await it after the block.",
        key=key.name,
        holder=held.holder,
        edges=(Edge(key=key.name, holder=held.holder),),
    )
