"""Waiting until replicas have what the tasks of an event loop have taken: as `replicas`, with one `WAIT` for many.

The server answers nothing else on a connection that waits, and all tasks share one. So there is one `WAIT` at a time,
and a next one for all who have written meanwhile: each of them waits for two at most.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError

from .packing import word
from .replicas import ConfirmingEar, Replicas

if TYPE_CHECKING:
    from ..steps import Steps
    from .loopconnections import Turn


class LoopReplicas(Replicas):
    """How many are to know of what the tasks of a loop take."""

    share = 0.5

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._wait: Wait | None = None

    def _acknowledged(self, connection: Turn, seconds: float) -> Steps[int]:
        wait = self._wait
        if wait is None or not wait.covers(connection):
            wait = self._wait = Wait(self.number, connection, wait)
        wait.shorten(seconds)
        number: int = yield asyncio.shield(wait.answer)
        return number


class Wait:
    """One `WAIT`, on the connection of those who have written before."""

    def __init__(self, number: int, connection: Turn, before: Wait | None) -> None:
        self._number = number
        self._connection = connection.connection
        self._opened = connection.opened
        self._before = before
        self._seconds = float("inf")
        self._is_asked = False
        self.answer = asyncio.get_running_loop().create_task(self._ask(), name="redislock-replicas", context=Context())
        """How many know of it."""
        self.answer.add_done_callback(notice)

    def covers(self, connection: Turn) -> bool:
        """Whether it will tell of what was written there until now."""
        return not self._is_asked and self._opened is connection.opened

    def shorten(self, seconds: float) -> None:
        """It is to take so long at most."""
        self._seconds = min(self._seconds, seconds)

    async def _ask(self) -> Any:
        before, self._before = self._before, None
        if before is not None:
            await asyncio.wait([before.answer])
        self._is_asked = True
        if self._opened is not self._connection.opened:
            raise ConnectionError("The connection was closed.")  # a new one has written nothing that it could wait for
        milliseconds = max(1, round(self._seconds * 1000))
        return await self._connection.send([b"*3\r\n%b%b%b" % (word("WAIT"), word(self._number), word(milliseconds))])


def notice(answer: asyncio.Task[Any]) -> None:
    """See its error, also where all who have asked were cancelled."""
    if not answer.cancelled():
        answer.exception()


class ConfirmingLoopEar(ConfirmingEar):
    """As `ConfirmingEar`, of a task."""

    async def listen(self, seconds: float) -> None:  # type: ignore[override]
        """As `Ear.listen()`."""
        await self._ear.listen(seconds)  # type: ignore[misc]  # that of a task
