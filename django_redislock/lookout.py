"""A task that waits for a lock of those who await it: that would never end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .awaiting import awaiters
from .exceptions import Deadlock
from .stores.base import Edge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .holds import Flow, Hold
    from .keys import Key
    from .stores.base import Held


class Lookout:
    """What a task looks at while it waits: whether a flow around its own has the key, and awaits it."""

    __slots__ = ("_holds", "_task")

    def __init__(self, task: asyncio.Task[Any], holds: Mapping[str, Hold]) -> None:
        """`holds`: what the flows around have of the keys that it wants, by their names."""
        self._task = task
        self._holds = holds

    def look(self, key: Key, held: Held) -> None:
        """Raise `Deadlock` where the key, of which the store has said this, cannot be given back before the task ends.

        It is called again and again: whoever has the key may begin later to await the task.
        """
        hold = self._holds.get(key.name)
        if hold is None or hold.lease.fence != held.fence or not hold.lease.trusted:
            return
        _waits_for[self._task] = hold.flow
        if any(map(hold.flow.stands_still_for, awaiters(self._task, is_stuck=lambda other: is_stuck(other, hold)))):
            self.end()  # the others of a `gather()` may go on when this one fails
            raise awaited(key, held)

    def end(self) -> None:
        """It waits no more."""
        _waits_for.pop(self._task, None)


_waits_for: WeakKeyDictionary[asyncio.Future[Any], Flow] = WeakKeyDictionary()
"""Which flow has what a task waits for, where that flow is around it."""


def is_stuck(task: asyncio.Future[Any], hold: Hold) -> bool:
    """Whether it waits for what the same flow has."""
    return not task.done() and _waits_for.get(task) is hold.flow


def awaited(key: Key, held: Held) -> Deadlock:
    """The refusal to wait for one who waits for us."""
    return Deadlock(
        f"Waiting for {key} would never end: it is held by {held.holder}, who awaits this very task. A child task does "
        f"not share its parent's locks. Do this work in the task that holds the lock, or await it after the block.",
        key=key.name,
        holder=held.holder,
        edges=(Edge(key=key.name, holder=held.holder),),
    )
