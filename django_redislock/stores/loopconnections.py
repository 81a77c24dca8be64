"""The connection of one event loop to one server, made from the settings of a pool for blocking ones."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import sys
from collections import deque
from contextvars import Context
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.sentinel
from redis.exceptions import ConnectionError, NoScriptError, ResponseError, TimeoutError

from .asking import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE = 5.0
"""Seconds within which an answer has to come, where the client's own settings have no limit."""

NOT_FOR_LOOPS = {
    "parser_class",
    "retry",
    "redis_connect_func",
    "connection_pool",
    "event_dispatcher",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
}
"""Settings whose values are made for blocking connections. What they are for is done by the store itself."""


class LoopConnection:
    """The one connection over which all tasks of a loop ask: each sends at once, and answers come in that order."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.make = maker_of(pool)
        self._patience: float = pool.connection_kwargs.get("socket_timeout") or PATIENCE
        self._connection: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sent: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._unsent: list[bytes] = []
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> Turn:
        """For one question, and what follows it."""
        return Turn(self)

    def give(self, turn: Turn) -> None:
        """There is nothing to be kept of it."""

    @property
    def is_open(self) -> bool:
        """Whether it may be sent on."""
        return self._connection is not None

    @property
    def opened(self) -> object:
        """What is another one each time that it was opened."""
        return self._connection

    async def open(self) -> None:
        """Open it, for all who ask for that at the same time. Raises redis-py's errors."""
        if self._opening is None:
            # In an empty context: what the first one to ask has in its own is not the reader's.
            self._opening = asyncio.get_running_loop().create_task(self._open(), context=Context())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    def send(self, command: Iterable[bytes]) -> asyncio.Future[Any]:
        """Send a command, as bytes; gives its answer to be. Raises redis-py's `ConnectionError` when it is closed."""
        if self._connection is None:
            raise ConnectionError("The connection was closed.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._unsent += command
        if not self._sent:
            self._flush()
        elif self._flushing is None:  # what other tasks ask in this round of the loop goes with it
            self._flushing = loop.call_soon(self._flush)
        self._sent.append((loop.time(), answer))
        if self._timer is None:
            self._timer = loop.call_later(self._patience, self._look_at_the_time)
        return answer

    def _flush(self) -> None:
        """Send what was not sent yet."""
        self._flushing = None
        if self._connection is not None:
            # Not `send_command()`, which waits for the system to take it: what is sent meanwhile would come in between.
            self._connection._writer.writelines(self._unsent)
        self._unsent = []

    def break_off(self, error: Exception) -> None:
        """Close it. Who waits for an answer is told the error, as of a connection that broke."""
        if self._reader is not None:
            self._reader.cancel()
        self._end(error)

    def close(self) -> None:
        """Close it if nobody waits for an answer."""
        if not self._sent:
            self.break_off(ConnectionError("It was closed."))

    async def aclose(self) -> None:
        """As `close()`, to the end."""
        reader = self._reader
        self.close()
        if reader is not None:
            await asyncio.wait([reader])

    async def _open(self) -> None:
        connection = self.make()
        try:
            async with asyncio.timeout(self._patience):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect()
            if isinstance(error, builtins.TimeoutError):
                raise TimeoutError("Timeout connecting to server") from error
            raise
        connection.socket_timeout = None  # one that is idle is not late
        self._connection = connection
        self._reader = asyncio.get_running_loop().create_task(self._read(connection), name="redislock-answers")

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # seen, also where all who asked have been cancelled

    async def _read(self, connection: Any) -> None:
        """Hand out the answers until the connection breaks."""
        try:
            while True:
                try:
                    said, failed = await connection.read_response(disconnect_on_error=False), None
                except ResponseError as error:
                    said, failed = None, error
                _, answer = self._sent.popleft()
                if answer.done():
                    continue  # whoever asked was cancelled
                if failed is None:
                    answer.set_result(said)
                else:
                    answer.set_exception(failed)
                    answer.exception()  # seen: not everybody waits for the answer
        except FAULTS as error:
            if connection is self._connection:
                self._end(error)
        finally:
            if connection is self._connection:
                # Cancelled, as all tasks are of a loop that ends: releases that are on their way need another one.
                self._end(ConnectionError("Nobody reads its answers any more."))
            await connection.disconnect()

    def _end(self, error: Exception) -> None:
        """Whoever waits asks once more, or gives up."""
        self._connection = self._reader = None
        self._unsent = []
        sent, self._sent = self._sent, deque()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, answer in sent:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()

    def _look_at_the_time(self) -> None:
        """Break off when the oldest question has waited for too long."""
        self._timer = None
        if not self._sent:
            return
        loop = asyncio.get_running_loop()
        asked_at, answer = self._sent[0]
        left = asked_at + self._patience - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look_at_the_time)
            return
        for asked_at, answer in self._sent:
            if asked_at + self._patience <= loop.time() and not answer.done():
                answer.set_exception(TimeoutError("Timeout reading from socket"))
                answer.exception()
        self.break_off(ConnectionError("It was closed, since an answer did not come in time."))


class Turn:
    """A question of one task, in the place of a connection of its own."""

    __slots__ = ("_answers", "_connection", "_failed", "_opened")

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._opened: object = None
        self._failed = False

    async def connect(self) -> None:
        """See that there is a connection."""
        if not self._connection.is_open:
            await self._connection.open()

    async def send_packed_command(self, command: Iterable[bytes]) -> None:
        """Send a command."""
        await self.connect()
        self._answers.append(self._connection.send(command))
        self._opened = self._connection.opened

    async def read_response(self, *, disconnect_on_error: bool) -> Any:
        """The answer to the next of those that were sent."""
        try:
            return await self._answers.popleft()
        except NoScriptError:
            raise  # an answer like others: the text of the script comes next, on the same connection
        except Exception:
            self._failed = True
            raise

    async def disconnect(self) -> None:
        """Close the connection if it did not serve. One who was cancelled leaves it to others: no answers mix up."""
        if self._failed and self._opened is self._connection.opened:
            self._connection.break_off(ConnectionError("It was closed, since it did not serve somebody else."))


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
