"""Those tasks of an event loop who wait for one key: one question keeps the places of all of them.

It tells as well who has no place, because its grant was missed or the store has lost it: that one asks by itself. So
does one of them when nobody holds the key any more, which makes the store hand it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from ..exceptions import StoreUnavailable

if TYPE_CHECKING:
    from .base import Grant, Kept

SOON = 0.1
"""Seconds until the next look after one that found the key free, or could not ask."""
MARGIN = 0.001
"""Seconds after the end of the holder's ttl: the server expires a key in the millisecond after it."""


class Waiter(Protocol):
    """Who waits."""

    def tell(self, grant: Grant | None) -> None:
        """Wake it: without a grant, to ask again."""


class Line:
    """Who waits for one key on one loop."""

    def __init__(self, keep: Callable[[], Awaitable[Kept]]) -> None:
        """`keep` asks the store to keep their places."""
        self._keep = keep
        self._waiters: dict[str, tuple[Waiter, float]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def join(self, token: str, waiter: Waiter, *, ttl: float, holder_left: float) -> None:
        """Keep the place of one who waits with so long a ttl, and whom the store has told when the holder's ends."""
        self._waiters[token] = waiter, ttl
        self._look_in(min(ttl / 2, holder_left + MARGIN))

    def leave(self, token: str) -> None:
        """It waits no more."""
        self._waiters.pop(token, None)
        if not self._waiters and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look_in(self, seconds: float) -> None:
        """Look after so many seconds, unless that is to be done earlier."""
        loop = asyncio.get_running_loop()
        if self._look is not None or (self._alarm is not None and self._alarm.when() <= loop.time() + seconds):
            return  # a look that goes on finds out itself when the next one is due
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_later(seconds, self._begin, context=Context())

    def _begin(self) -> None:
        self._alarm = None
        self._look = asyncio.get_running_loop().create_task(self._looking(), name="redislock-line")

    async def _looking(self) -> None:
        asked_for = dict(self._waiters)
        seconds = SOON
        try:
            kept = await self._keep()
        except BaseException as error:
            self._wake(asked_for)  # each asks, and is told why it gets no answer
            if not isinstance(error, StoreUnavailable):
                raise
        else:
            lost = asked_for.keys() - kept.tokens
            self._wake(lost)
            if kept.left is not None:
                shortest = min((ttl for _, ttl in self._waiters.values()), default=0.0)
                seconds = min(shortest / 2, kept.left + MARGIN)
            elif not lost:
                self._wake(list(asked_for)[:1])
        finally:
            self._look = None
        if self._waiters:
            self._look_in(seconds)

    def _wake(self, tokens: Iterable[str]) -> None:
        """Have them ask again, those that wait still."""
        for token in tokens:
            if token in self._waiters:
                self._waiters[token][0].tell(None)
