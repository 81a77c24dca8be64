"""What to send to learn of all locks at once, and how to read the answer: as `verbs`, without I/O."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from typing import Any, NamedTuple

from ..holder import Holder, decode
from ..keys import BUCKETS
from . import scripts
from .verbs import Call, root_of, text

LIST = scripts.load("list")

holder_of = lru_cache(maxsize=4096)(decode)
"""A process that holds many locks describes itself alike for each."""


class Waiter(NamedTuple):
    """Somebody in the queue of a lock."""

    holder: Holder
    """Who waits."""
    waits_for: float
    """For how many seconds."""
    flow: str
    """What all that the same thread or task holds and waits for has in common."""


class Listed(NamedTuple):
    """A lock that is held. There may be thousands, of which few are looked at: what can wait is worked out then."""

    name: str
    """The name under which it is kept."""
    who: str
    """Who holds it, as it is stored."""
    acquired: int
    """When it was acquired, us since the epoch by the server's clock."""
    fence: int
    """The fence of the owner."""
    expires: int
    """When the server drops it unless it is renewed, ms since the epoch by the server's clock."""
    asked: int
    """When this was said, us since the epoch by the server's clock."""
    alias: str
    """What the place is called where it is kept."""
    waiters: int = 0
    """How many wait for it."""
    flow: str = ""
    """As in `Waiter`; only with `queues`."""
    queue: tuple[Waiter, ...] = ()
    """Those who wait, in order; only with `queues`."""

    @property
    def holder(self) -> Holder:
        """Who holds it."""
        return holder_of(self.who)

    @property
    def since(self) -> float:
        """When it was acquired, seconds since the epoch by the server's clock."""
        return self.acquired / 1e6

    @property
    def held_for(self) -> float:
        """Seconds since it was acquired."""
        return (self.asked - self.acquired) / 1e6

    @property
    def remaining(self) -> float:
        """Seconds until the server drops it unless it is renewed."""
        return max(0.0, self.expires / 1e3 - self.asked / 1e6)


def list_held(prefix: str, *, alias: str, queues: bool) -> list[Call[list[Listed]]]:
    """A call for each bucket below a prefix; together they give all that is held."""
    root, what, read = root_of(prefix), "queues" if queues else "numbers", partial(read_list, alias)
    return [Call(LIST, (f"{root}:{{{bucket}}}:held",), (what,), read) for bucket in range(BUCKETS)]


def read_list(alias: str, reply: Any) -> list[Listed]:
    """As `list.lua` gives it."""
    asked, *parts = reply
    entries, values, waiters, flows = map(text, parts)
    if not values:
        return []
    named = json.loads(entries)
    rows = list(zip(named[::2], named[1::2], values.split("\n"), strict=True))
    make = partial(tuple.__new__, Listed)  # what `Listed()` does in the end, and it is done thousands of times
    found = [
        make((name, who, int(since), int(fence), int(expires), asked, alias, 0, "", ()))
        for name, expires, value in rows
        if value  # else the index names what was taken away by hand
        for fence, since, who in (value.split(" ", 2),)
    ]
    waiting = json.loads(waiters)
    if not waiting and not flows:
        return found
    there = [number for number, (_name, _expires, value) in enumerate(rows) if value]
    whose, waits = flows.split(" "), waiting or [0] * len(rows)
    return [
        with_waiters(lock, waits[number], flow=whose[number] if flows else "")
        for lock, number in zip(found, there, strict=True)
    ]


def with_waiters(lock: Listed, waiters: Any, *, flow: str) -> Listed:
    """With those who wait for it: as many, or these."""
    if not isinstance(waiters, list):
        return lock._replace(waiters=waiters or 0, flow=flow)
    queue = tuple(
        Waiter(holder=holder_of(who), waits_for=(lock.asked - int(began)) / 1e6, flow=whose)
        for whose, began, who in waiters
    )
    return lock._replace(waiters=len(queue), queue=queue, flow=flow)
