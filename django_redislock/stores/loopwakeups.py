"""Waking the tasks of an event loop that wait: as `wakeups`, by a task instead of a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..steps import arun
from .lines import Line
from .wakeups import Wakeups

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ..keys import Key
    from .base import Grant, Held, Kept


class LoopEar:
    """An `Ear` of a task, whose `listen()` is to be awaited."""

    __slots__ = ("_heard", "_listening", "_token", "_wakeups", "line")

    def __init__(self, wakeups: LoopWakeups, token: str, heard: None = None) -> None:
        """`heard`: nothing, since one listens at one place at a time."""
        self._wakeups = wakeups
        self._token = token
        self._heard: deque[Grant | None] = deque()
        self._listening: asyncio.Future[None] | None = None
        self.line: Line | None = None
        """In which it stands, if its place is kept."""

    @property
    def channel(self) -> str:
        """As `Ear.channel`."""
        return self._wakeups.channel

    @property
    def kept(self) -> bool:
        """As `Ear.kept`."""
        return self.line is not None

    def tell(self, grant: Grant | None) -> None:
        """Wake the waiter: with its grant, or to ask again."""
        self._heard.append(grant)
        end(self._listening)

    async def listen(self, seconds: float) -> Grant | None:
        """As `Ear.listen()`."""
        if not self._heard:
            loop = asyncio.get_running_loop()
            self._listening = loop.create_future()
            alarm = loop.call_later(max(0.0, seconds), end, self._listening)  # cheaper than `asyncio.timeout()`
            try:
                await self._listening
            finally:
                alarm.cancel()
        return self._heard.popleft() if self._heard else None

    def close(self) -> None:
        """As `Ear.close()`."""
        self._wakeups.forget(self._token)
        self.leave_line()

    def leave_line(self) -> None:
        """Its place is not kept any more."""
        if self.line is not None:
            self.line.leave(self._token)
            self.line = None


def end(listening: asyncio.Future[None] | None) -> None:
    """Wake who listens, if anybody does."""
    if listening is not None and not listening.done():
        listening.set_result(None)


class LoopWakeups(Wakeups):
    """The wake-up connection of an event loop to one server."""

    _kind = LoopEar
    _listener: Any

    def __init__(
        self, subscribe: Callable[[str], Any], *, prefix: str, keep: Callable[[Key, str], Awaitable[Kept]]
    ) -> None:
        """`keep` asks to keep the places of those who wait for a key and listen on a channel."""
        super().__init__(subscribe, prefix=prefix)
        self._keep = keep

    def start_over(self) -> None:
        """As `Wakeups.start_over()`."""
        super().start_over()
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()

    def line_up(self, key: Key, token: str, channel: str, *, ttl: float, held: Held) -> None:
        """Keep the place of one who waits, and was told so, if it listens on a channel."""
        ear: Any = self._ears.get(token)
        if ear is None:
            return
        if not channel:
            ear.leave_line()
            return
        if ear.line is None:
            ear.line = self._lines.get(key.name) or Line(partial(self._keep, key, channel))
            self._lines[key.name] = ear.line
        ear.line.join(token, ear, ttl=ttl, holder_left=held.remaining)

    def _begin(self) -> Any:
        # In an empty context: what the first waiter has in its own is not the listener's.
        return asyncio.get_running_loop().create_task(
            arun(self._running()), name="redislock-wakeups", context=Context()
        )

    def _pause(self, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)
