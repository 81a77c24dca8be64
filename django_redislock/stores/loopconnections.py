"""The connections of one event loop to one server, made from the settings of a pool for blocking ones."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import deque
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.sentinel
from redis.exceptions import TimeoutError

from .. import clock

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 16
"""Connections of a loop at most. A loop does one thing after the other: more of them would not be faster."""
KEPT = 2
"""Connections that stay open when there is less to ask for a while."""
WHILE = 1.0
"""Seconds of that while."""
PATIENCE = 5.0
"""Seconds after which one that waits for a connection gives up if none was given back, where the client's own settings
have no limit."""

NOT_FOR_LOOPS = {"parser_class", "retry", "redis_connect_func", "connection_pool", "event_dispatcher"}
"""Settings whose values are made for blocking connections. What they are for is done by the store itself."""


class LoopConnections:
    """As many connections as help, for all tasks of a loop. Who finds none waits in line."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.make = maker_of(pool)
        self._patience: float = pool.connection_kwargs.get("socket_timeout") or PATIENCE
        self._idle: list[Any] = []
        self._spare = 0
        self._count = 0
        self._line: deque[asyncio.Future[Any]] = deque()
        self._given_back_at = clock.now()
        self._closing: set[asyncio.Task[None]] = set()
        self._trimming: asyncio.TimerHandle | None = None

    async def take(self) -> Any:
        """An idle connection or a new one; else one that is given back. Raises redis-py's `TimeoutError`."""
        if self._idle:
            connection = self._idle.pop()
            self._spare = min(self._spare, len(self._idle))
            return connection
        if self._count < MOST:
            self._count += 1
            return self.make()
        return await self._stand_in_line()

    def give(self, connection: Any) -> None:
        """Hand it to the next one, or keep it."""
        self._given_back_at = clock.now()
        while self._line:
            first = self._line.popleft()
            if not first.done():
                first.set_result(connection)
                return
        self._idle.append(connection)
        self._watch()

    def close(self) -> None:
        """Begin to close those that are idle."""
        while self._idle:
            self._close_one()

    async def aclose(self) -> None:
        """Close those that are idle."""
        if self._trimming is not None:
            self._trimming.cancel()
        self.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _stand_in_line(self) -> Any:
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            while not place.done():
                await asyncio.wait([place], timeout=self._patience)
                if not place.done() and clock.now() - self._given_back_at >= self._patience:
                    raise TimeoutError(f"{MOST} questions have not been answered for {self._patience:g} s")
        except BaseException:
            if place.done():
                self.give(place.result())
            place.cancel()
            raise
        return place.result()

    def _close_one(self) -> None:
        """Begin to close the one that has been idle for longest."""
        self._count -= 1
        task = asyncio.ensure_future(self._idle.pop(0).disconnect())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _watch(self) -> None:
        """See whether more are open than are needed."""
        if len(self._idle) > KEPT and self._trimming is None:
            self._spare = len(self._idle)
            self._trimming = asyncio.get_running_loop().call_later(WHILE, self._trim)

    def _trim(self) -> None:
        """Close what nobody has needed for a while, and look again after another."""
        self._trimming = None
        for _ in range(min(self._spare, len(self._idle)) - KEPT):
            self._close_one()
        self._watch()


def maker_of(pool: redis.ConnectionPool) -> Callable[..., Any]:
    """What makes connections for a loop with the settings of the pool, and more of them if told."""
    kind = kind_for_loops(pool.connection_class)
    settings = {name: value for name, value in pool.connection_kwargs.items() if name in parameters_of(kind)}
    find_master = getattr(pool, "get_master_address", None)
    return partial(kind if find_master is None else followed(kind, find_master), **settings)


def followed(kind: Any, find_master: Callable[[], tuple[str, int]]) -> Any:
    """The class of connections that go to the master which a Sentinel names, each time that they are made anew."""

    class Followed(kind):  # type: ignore[misc]  # it is known at run time
        async def _connect(self) -> None:
            self.host, self.port = await asyncio.to_thread(find_master)  # over a blocking connection
            await super()._connect()

    return Followed


def kind_for_loops(kind: type) -> Any:
    """The class of connections for loops that stands beside one of blocking connections."""
    fake = sys.modules.get("fakeredis")
    if fake is not None and issubclass(kind, fake.FakeRedisConnection):
        return import_module("fakeredis.aioredis").FakeAsyncRedisConnection
    return next(ours for theirs, ours in KINDS if issubclass(kind, theirs))


KINDS = [
    (redis.sentinel.SentinelManagedSSLConnection, redis.asyncio.SSLConnection),
    (redis.SSLConnection, redis.asyncio.SSLConnection),
    (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    (object, redis.asyncio.Connection),
]


@cache
def parameters_of(kind: type) -> frozenset[str]:
    """The names of the settings that such a connection takes and that mean the same for it."""
    names = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
    return frozenset(names - NOT_FOR_LOOPS - {"self", "args", "kwargs"})
