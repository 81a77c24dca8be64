"""Connections for locks alone."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import ConnectionPool


class Connections:
    """Connections for locks alone, to the server and with the settings of a pool, and as many as are used at once.

    The pool's own may be used up by the cache, or closed at the end of somebody's request (`CLOSE_CONNECTION`), when a
    lock has to be released. One that the server has closed is opened again when used: every verb may be sent twice.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self._idle: deque[Any] = deque()

    def take(self) -> Any:
        """An idle connection of this process, or a new one."""
        try:
            while True:
                connection = self._idle.pop()
                if connection.pid == os.getpid():
                    return connection
        except IndexError:
            return self.pool.connection_class(**self.pool.connection_kwargs)

    def give(self, connection: Any) -> None:
        """Keep it for the next one."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().disconnect()
