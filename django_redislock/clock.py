"""The one door through which time enters.

Every module asks `clock.now()` and `clock.sleep()` through the module, so a test that replaces the two
ticks time by hand. The clock is monotonic: it is a stopwatch, never a calendar; what time it is, only the
Redis server says.
"""

from __future__ import annotations

import queue
import time
from typing import TypeVar

T = TypeVar("T")

now = time.monotonic
sleep = time.sleep


def safe_ttl(ttl: float) -> float:
    """Seconds of a `ttl` that a client may trust, however differently its clock and the server's run.

    The allowance is 1 % of the ttl plus 2 ms, the drift term of the Redlock algorithm
    (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
    """
    return ttl - (ttl * 0.01 + 0.002)


def receive(inbox: queue.SimpleQueue[T], seconds: float) -> T | None:
    """The next thing that somebody puts there, if one comes within so many seconds."""
    try:
        return inbox.get(timeout=max(0.0, seconds))
    except queue.Empty:
        return None
