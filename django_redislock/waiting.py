"""Waiting for a key that somebody else holds: ask again, at growing random intervals, until the wait is over."""

from __future__ import annotations

import random
from collections.abc import Callable

from . import clock
from .stores.base import Held, Taken

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.1


def obtain(ask: Callable[[], Taken | Held], *, wait: float | None) -> Taken | Held:
    """Ask until the key is ours or `wait` seconds are over (`None`: for ever); gives the last answer.

    It is asked at least once, and a last time when the wait ends.
    """
    end = None if wait is None else clock.now() + wait
    pause = FIRST_PAUSE
    while True:
        answer = ask()
        if isinstance(answer, Taken):
            return answer
        left = None if end is None else end - clock.now()
        if left is not None and left <= 0:
            return answer
        pause = next_pause(pause)
        clock.sleep(bounded(pause, left=left, holder_left=answer.remaining))


def next_pause(last: float) -> float:
    """The next interval in seconds: random, up to three times the last one, never over `LONGEST_PAUSE`.

    "Decorrelated jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(LONGEST_PAUSE, random.uniform(FIRST_PAUSE, last * 3))


def bounded(pause: float, *, left: float | None, holder_left: float) -> float:
    """Not beyond the end of the wait, nor beyond the instant at which the holder's ttl runs out."""
    until_expiry = holder_left + 0.001  # the server expires a key in the millisecond after its ttl
    return min(pause, until_expiry, left if left is not None else pause)
