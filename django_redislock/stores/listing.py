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
    """A lock that is held."""

    name: str
    """The name under which it is kept."""
    holder: Holder
    """Who holds it."""
    since: float
    """When it was acquired, seconds since the epoch by the server's clock."""
    held_for: float
    """Seconds since then."""
    remaining: float
    """Seconds until the server drops it unless it is renewed."""
    fence: int
    """The fence of the owner."""
    waiters: int
    """How many wait for it."""
    flow: str = ""
    """As in `Waiter`; only with `queues`."""
    queue: tuple[Waiter, ...] = ()
    """Those who wait, in order; only with `queues`."""


def list_held(prefix: str, *, queues: bool) -> list[Call[list[Listed]]]:
    """A call for each bucket below a prefix; together they give all that is held."""
    root, what = root_of(prefix), "queues" if queues else "numbers"
    return [Call(LIST, (f"{root}:{{{bucket}}}:held",), (what,), read_list) for bucket in range(BUCKETS)]


def read_list(reply: Any) -> list[Listed]:
    """JSON as `list.lua` gives it."""
    now, rows = json.loads(text(reply))
    return list(map(partial(read_row, int(now)), rows))


def read_row(now: int, row: list[Any]) -> Listed:
    """One lock, as it is at that instant in us."""
    name, expires, fence, since, who, flow, waiters = row
    acquired = int(since)
    queue = tuple(
        Waiter(holder=holder_of(waiter), waits_for=(now - int(began)) / 1e6, flow=other)
        for other, began, waiter in (waiters if isinstance(waiters, list) else ())
    )
    return Listed(
        name,
        holder_of(who),
        acquired / 1e6,
        (now - acquired) / 1e6,
        max(0.0, (float(expires) * 1e3 - now) / 1e6),
        int(fence),
        waiters if isinstance(waiters, int) else len(queue),
        flow,
        queue,
    )
