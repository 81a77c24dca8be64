"""Locks in one Redis server: sends the calls of `verbs` over redis-py's connections."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError

from ..exceptions import StoreUnavailable
from .verbs import Call, Verbs

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Answer, Held, Taken

T = TypeVar("T")


class Connections:
    """Connections for locks alone, to the server and with the settings of a pool, and as many as are used at once.

    The pool's own may be used up by the cache, or closed at the end of somebody's request (`CLOSE_CONNECTION`),
    when a lock has to be released. A connection that the server closed in the meantime is opened again when it is
    used: every verb may be sent twice.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._idle: deque[Any] = deque()

    def take(self) -> Any:
        """An idle connection of this process, or a new one."""
        try:
            while True:
                connection = self._idle.pop()
                if connection.pid == os.getpid():
                    return connection
        except IndexError:
            return self._pool.connection_class(**self._pool.connection_kwargs)

    def give(self, connection: Any) -> None:
        """Keep it for the next one."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().disconnect()


class RedisStore:
    """A `Store` on the client that `connect` gives; it is asked for once, at the first call.

    Raises `StoreUnavailable` for whatever keeps the server from answering.
    """

    def __init__(self, connect: Callable[[], redis.Redis], *, scope: str, prefix: str) -> None:
        self.scope = scope
        self._connect = connect
        self._connections: Connections | None = None
        self._verbs = Verbs(prefix)

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        if self._connections is not None:
            self._connections.close()

    def acquire(
        self, key: Key, *, token: str, ttl: float, holder: str, meanwhile: Callable[[], object] | None = None
    ) -> Taken | Held:
        """As `Store.acquire()`."""
        return self._run(self._verbs.acquire(key, token=token, ttl=ttl, holder=holder), key, meanwhile)

    def release(self, key: Key, *, token: str) -> Answer:
        """Give the key back if `token` holds it."""
        return self._run(self._verbs.release(key, token=token), key)

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        return self._run(self._verbs.renew(key, token=token, ttl=ttl), key)

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self._run(self._verbs.inspect(key), key)

    def _run(self, call: Call[T], key: Key, meanwhile: Callable[[], object] | None = None) -> T:
        try:
            return call.read(self._send(call, meanwhile))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(
                f"Redis could not be asked about {key} ({type(error).__name__}: {error}), "
                f"so nobody knows who holds it. Check the server and the cache alias {self.scope!r}.",
                key=key.name,
            ) from error

    def _send(self, call: Call[Any], meanwhile: Callable[[], object] | None) -> Any:
        """Send it, and once more when the connection broke: an answer that got lost is given again."""
        connections = self._connections
        if connections is None:
            connections = self._connections = Connections(self._connect().connection_pool)
        connection = connections.take()
        try:
            try:
                return evaluate(connection, call, meanwhile)
            except (ConnectionError, OSError):
                connection.disconnect()
                return evaluate(connection, call, meanwhile)
        except ResponseError:
            raise  # the server has answered: nothing is left to be read
        except BaseException:
            connection.disconnect()  # an answer that comes late must not be read as that to the next question
            raise
        finally:
            connections.give(connection)


def evaluate(connection: Any, call: Call[Any], meanwhile: Callable[[], object] | None) -> Any:
    """One round trip; two when the server does not know the script yet. The time on the way is not lost."""
    script, keys, args, _ = call
    connection.send_command("EVALSHA", script.sha, len(keys), *keys, *args)
    if meanwhile is not None:
        meanwhile()
    try:
        return connection.read_response()
    except NoScriptError:
        connection.send_command("EVAL", script.source, len(keys), *keys, *args)
        return connection.read_response()
