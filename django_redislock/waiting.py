"""Waiting in line for a key: woken by the release, and by itself when that cannot be relied on."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from . import clock
from .keys import Key
from .steps import Steps
from .stores.base import Ear, Edge, Grant, Held, Taken

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.1
LONGEST = 3600.0
"""Seconds, since loops cannot wait for as long as a wait may be."""
GLANCE, LONGEST_GLANCE = 0.2, 30.0
"""Seconds between two looks of one who looks whether its waiting can end: twice as many each time, up to a limit."""

Look = Callable[[Key, Held], object]
"""Takes a key, and what the store has said of it; raises where waiting for it would never end. May be to be awaited."""


class Obtained(NamedTuple):
    """The key is ours."""

    fence: int
    """As in `Taken`."""
    at: float
    """Instant of the local clock before which it was not: the ttl counts from there."""


Outcome = Obtained | Held | tuple[Edge, ...]


def obtaining(
    store: Any,
    ask: Callable[..., Any],
    *,
    token: str,
    ttl: float,
    wait: float | None,
    look: Callable[[Held], object] | None = None,
) -> Steps[Outcome]:
    """Take a key for a token and `ttl` seconds, waiting at most `wait` seconds (0: one question; `None`: for ever).

    `store` is a `Store`, or its twin on an event loop. `ask` asks it for the key, and joins its queue if it is given a
    `channel`. `look` is called with the answer from time to time while it waits, and raises where that would never end;
    what it gives may be to be awaited. Gives who holds the key when the wait is over, and the cycle when waiting would
    never end. Whoever has waited in vain, or gets another exception than the store's, has to `leave()`: it may be in
    the queue, or the owner.
    """
    end = None if wait is None else clock.now() + wait
    if wait == 0 or not store.listens:
        asked_at = clock.now()
        answer: Taken | Held | tuple[Edge, ...] = yield ask()
        if isinstance(answer, Taken):
            return Obtained(fence=answer.fence, at=asked_at)
        if wait == 0:
            return answer
    ear = yield store.ear(token, within=None if end is None else end - clock.now())
    try:
        return (yield from standing_in_line(ask, ear, ttl=ttl, end=end, look=look))
    finally:
        ear.close()


def standing_in_line(
    ask: Callable[..., Any], ear: Ear, *, ttl: float, end: float | None, look: Callable[[Held], object] | None
) -> Steps[Outcome]:
    """Ask, and listen for the grant until it is time to ask again, as long as the wait lasts."""
    pause, trusted_for = FIRST_PAUSE, clock.safe_ttl(ttl)
    while True:
        channel, asked_at = ear.channel, clock.now()
        answer: Taken | Held | tuple[Edge, ...] = yield ask(channel=channel)
        if isinstance(answer, Taken):
            return Obtained(fence=answer.fence, at=asked_at)
        if not isinstance(answer, Held) or (end is not None and clock.now() >= end):
            return answer
        left = None if end is None else end - clock.now()
        if ear.kept:
            seconds = LONGEST if left is None else min(LONGEST, left)
        else:
            # The place in the queue is kept for a ttl.
            longest = ttl / 2 if channel else (pause := next_pause(pause))
            seconds = bounded(longest, left=left, holder_left=answer.remaining)
        grant: Grant | None = yield from listening(ear, seconds, look and partial(look, answer))
        if grant is not None:
            at = granted_at(grant, answer, asked_at=asked_at)
            if clock.now() < at + trusted_for:  # else we stood still until it was over
                return Obtained(fence=grant.fence, at=at)


def listening(ear: Any, seconds: float, look: Callable[[], object] | None) -> Steps[Grant | None]:
    """Listen so long at most, and look from time to time. As `Ear.listen()`."""
    if look is None:
        return (yield ear.listen(seconds))  # type: ignore[no-any-return]  # what an ear gives
    end, pause = clock.now() + seconds, GLANCE
    while True:
        yield look()
        glance = min(end, clock.now() + pause)
        pause = min(LONGEST_GLANCE, pause * 2)
        grant: Grant | None = yield ear.listen(glance - clock.now())
        if grant is not None or glance == end or clock.now() < glance:
            return grant


def granted_at(grant: Grant, answer: Held, *, asked_at: float) -> float:
    """A local instant that is not after that of the grant.

    Our question was answered at `answer.asked` of the server's clock, which was `asked_at` of ours or later; the
    grant came so much later as the server says, less what the two clocks may run apart.
    """
    return min(clock.now(), asked_at + clock.safe_ttl(grant.granted - answer.asked))


def next_pause(last: float) -> float:
    """The next interval in seconds: random, up to three times the last one, never over `LONGEST_PAUSE`.

    "Decorrelated jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(LONGEST_PAUSE, random.uniform(FIRST_PAUSE, last * 3))


def bounded(pause: float, *, left: float | None, holder_left: float) -> float:
    """Not beyond the end of the wait, nor beyond the instant at which the holder's ttl runs out."""
    until_expiry = holder_left + 0.001  # the server expires a key in the millisecond after its ttl
    return min(pause, until_expiry, left if left is not None else pause)
