"""A task that waits for a lock of those who await it: that would never end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from . import clock
from .awaiting import awaiters
from .exceptions import Deadlock, StoreUnavailable
from .keylock import deadlock
from .stores.base import Edge

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from .keys import Key
    from .lease import Lease
    from .runners import Runner
    from .stores.base import Held


class Owner(NamedTuple):
    """A flow around that of a task, which owns something."""

    flow: str
    """By which the store knows it."""
    runner: Runner
    """What runs it."""
    leases: Mapping[str, Lease]
    """What it has of the keys that the task wants, by their names."""
    has: Callable[[tuple[str, str]], bool]
    """Whether it has a lock now, by its `slot`."""


class Lookout:
    """What a task looks at while it waits: whether a flow around its own keeps it waiting, and awaits it."""

    __slots__ = ("_owners", "_stores", "_task")

    def __init__(self, task: asyncio.Task[Any], owners: Sequence[Owner], stores: Mapping[str, Any]) -> None:
        """`stores`: where the keys are that it wants, by their names."""
        self._task = task
        self._owners = owners
        self._stores = stores

    def look(self, key: Key, held: Held) -> Coroutine[Any, Any, None] | None:
        """Raise `Deadlock` where the key, of which the store has said this, cannot be given back before the task ends.

        It is called again and again: whoever has the key may begin later to await the task. What it gives is to be
        awaited.
        """
        for owner in self._owners:
            lease = owner.leases.get(key.name)
            if lease is not None and lease.fence == held.fence and lease.trusted:
                if self._is_awaited(owner):
                    self.end()  # the others of a `gather()` may go on when this one fails
                    raise awaited(key, held)
                return None
        might = [owner for owner in self._owners if self._stands_still(owner, is_stuck=lambda other: True)]
        return self._follow(key, might) if might else None

    async def _follow(self, key: Key, owners: Sequence[Owner]) -> None:
        """Raise `Deadlock` where who has the key waits for one of these, around whatever corners."""
        scope = self._stores[key.name].scope
        for owner in owners:
            edges = await self._edges(key, owner)
            if edges and owner.has((scope, edges[-1].key)):  # else that has been given back since
                if not self._is_awaited(owner):
                    return
                self.end()
                raise deadlock(key, edges, end=CLOSES)
        self.end()

    async def _edges(self, key: Key, owner: Owner) -> Sequence[Edge]:
        """What the store knows. Thousands may ask that at the same time, which is one question."""
        store, loop = self._stores[key.name], asyncio.get_running_loop()
        question = (loop, store.scope, key.name, owner.flow)
        if clock.now() < _free_until.get(question[1:], 0):
            return ()
        asking = _asking.get(question)
        if asking is None:
            follow = store.twin.follow(key, flow=owner.flow)
            # In an empty context: what the first one to ask has in its own is not the others'.
            asking = _asking[question] = loop.create_task(follow, name="redislock-follow", context=Context())
            asking.add_done_callback(partial(_note, question))
        await asyncio.wait([asking], timeout=MOMENT)  # nobody waits for longer than it wants to
        try:
            return asking.result() if asking.done() else ()
        except StoreUnavailable:
            return ()

    def _is_awaited(self, owner: Owner) -> bool:
        """Whether the task has to end before the flow goes on, which keeps it waiting."""
        _waits_for[self._task] = owner.runner
        return self._stands_still(owner, is_stuck=partial(is_stuck, owner.runner))

    def _stands_still(self, owner: Owner, *, is_stuck: Callable[[asyncio.Future[Any]], bool]) -> bool:
        return any(map(owner.runner.stands_still_for, awaiters(self._task, is_stuck=is_stuck)))

    def end(self) -> None:
        """It waits no more."""
        _waits_for.pop(self._task, None)


CLOSES = (
    ", who awaits this very task. Lock what the child needs in the task that awaits it, before it does, or await it "
    "after the block."
)
MOMENT = 1.0
"""Seconds for which it is believed that somebody does not wait, and in which the store has to say whether it is so."""
MOST = 1_000
"""So many are remembered of whom that is believed."""

Question = tuple[asyncio.AbstractEventLoop, str, str, str]
_asking: dict[Question, asyncio.Task[Sequence[Edge]]] = {}
_free_until: dict[tuple[str, str, str], float] = {}


def _note(question: Question, asked: asyncio.Task[Sequence[Edge]]) -> None:
    """Note the answer, if it is that nobody waits."""
    del _asking[question]
    if not asked.cancelled() and asked.exception() is None and not asked.result():
        if len(_free_until) >= MOST:
            _free_until.clear()
        _free_until[question[1:]] = clock.now() + MOMENT


_waits_for: WeakKeyDictionary[asyncio.Future[Any], Runner] = WeakKeyDictionary()
"""What runs the flow that keeps a task waiting, where that flow is around it."""


def is_stuck(runner: Runner, task: asyncio.Future[Any]) -> bool:
    """Whether the same flow keeps it waiting."""
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
