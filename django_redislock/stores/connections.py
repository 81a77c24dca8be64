"""The connections of the locks to one server: no more of them than help."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from .. import clock, forks
from .options import options_for_questions
from .straight import straightened

if TYPE_CHECKING:
    import redis

ENOUGH = 8
"""Connections beyond which another is opened only after a moment. A question takes a fraction of a millisecond, so a
hundred threads that are woken together are served by so many sooner than by a hundred that have to be made first."""
MOMENT = 0.01
"""Seconds of that. When none is given back for so long, the server is slow or far away, and more of them do help."""


class Connections:
    """Connections for locks alone, to the server and with the settings of a pool.

    The pool's own may be used up by the cache, or closed at the end of somebody's request (`CLOSE_CONNECTION`), when a
    lock has to be released. One that the server has closed is opened again when used: every verb may be sent twice.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool
        self.start_over()
        forks.starts_over(self)

    def start_over(self) -> None:
        """As in a process that has just been forked: whatever the parent had is the parent's."""
        self._pid = os.getpid()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._count = 0
        self._used = False

    def take(self) -> Any:
        """An idle connection of this process, or a new one."""
        self._used = True
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._wait_or_open()
        return connection if connection.pid == os.getpid() else self._wait_or_open()

    def give(self, connection: Any) -> None:
        """Keep it for the next one, unless enough are idle."""
        if self._idle.qsize() < ENOUGH:
            self._idle.put(connection)
        else:
            connection.disconnect()
            self._add(-1)

    def close(self) -> None:
        """Close those that are idle."""
        while (connection := clock.receive(self._idle, 0)) is not None:
            connection.disconnect()
            self._add(-1)

    def close_unused(self) -> None:
        """Close those that are idle, if none was taken since this was called before."""
        if not self._used:
            self.close()
        self._used = False

    def _wait_or_open(self) -> Any:
        if self._pid != os.getpid():
            self.start_over()
        if self._count >= ENOUGH and (given_back := clock.receive(self._idle, MOMENT)):
            return given_back
        self._add(1)
        return straightened(self.pool.connection_class)(**options_for_questions(self.pool))

    def _add(self, number: int) -> None:
        with self._guard:
            self._count += number


def replace(connections: Any, connection: Any, *, is_broken: bool) -> None:
    """Give back one that was disconnected. If the server has closed it, it has mostly closed those that are idle."""
    if is_broken:
        connections.close()
    connections.give(connection)
