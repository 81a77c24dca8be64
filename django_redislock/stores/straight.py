"""Plain connections on which is sent and read in fewer steps than redis-py's own.

Between the socket and hiredis' parser redis-py allows for pushes, decoding, health checks and encryption, at a tenth of
what a question takes. Most questions need nothing of it. What does is left to redis-py, which goes on from the same
socket and the same parser, so that nothing gets lost or out of order in between.
"""

from __future__ import annotations

import os
import select
import traceback
from functools import cache
from typing import Any

import redis
from redis.connection import Connection, UnixDomainSocketConnection

PLAIN = {Connection, UnixDomainSocketConnection}
"""Not those made from them, which may do more."""
MOST = 4096
"""Bytes that are read at once."""
poll = getattr(select, "poll", None)
"""Waits for a socket, where the system can do that."""
WRITES = os.name == "posix"
"""Whether the system takes a socket for a file."""
SOCKETS = {"eventlet", "gevent"}
"""Libraries that have sockets of their own."""
ANSWERS = {int, list, str, bytes, type(None)}
"""What scripts give. The rest of what a parser gives is an error, a push, or says that there is not enough yet."""


class Usual:
    """Mixed into any connection that blocks: what is asked of it, in redis-py's own steps."""

    read_response: Any
    can_read: Any

    def read_answer(self) -> Any:
        """Wait for the answer to the one question that was sent; it stays open whatever happens."""
        return self.read_response(disconnect_on_error=False)

    def has_more(self, seconds: float = 0) -> bool:
        """Whether something that the server has said, or its end, is there to be read within so many seconds."""
        return bool(self.can_read(timeout=seconds))

    def read_within(self, seconds: float) -> Any:
        """The next thing that is said to one that is read by this alone; `None` if nothing is in so many seconds."""
        return self.read_response(disconnect_on_error=False) if self.can_read(timeout=seconds) else None


class Straight(Usual):
    """Mixed into a connection of redis-py, whose `_sock` and `_parser._reader` are its own affair in fact."""

    _sock: Any
    _parser: Any
    disconnect: Any
    health_check_interval: float

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        """As redis-py's, which has the system asked for room before it sends."""
        sock, sent = self._sock, 0
        data, *more = command
        if WRITES and sock is not None and not more and not self.health_check_interval:
            try:
                sent = os.write(sock.fileno(), data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.disconnect()  # a signal's handler may have raised it after all was sent, which is not sent twice
                ensure_systems(error)
                raise redis.ConnectionError(f"Error while writing to socket: {error}") from error
            if sent == len(data):
                return
        super().send_packed_command([data[sent:], *more], check_health=check_health)  # type: ignore[misc]

    def read_answer(self) -> Any:
        """As `Usual.read_answer()`."""
        reader = getattr(self._parser, "_reader", None)  # there is none without hiredis, and none when disconnected
        if poll is None or reader is None or self.health_check_interval:
            return super().read_answer()
        if not reader.has_data():
            try:
                reader.feed(self._sock.recv(MOST))
            except TimeoutError as error:
                ensure_systems(error)
                raise redis.TimeoutError("Timeout reading from the server") from error
            except OSError as error:
                ensure_systems(error)
                raise redis.ConnectionError(f"Error while reading from socket: {error}") from error
        answer = reader.gets()
        if type(answer) in ANSWERS:
            return answer
        if isinstance(answer, Exception):
            try:
                raise answer
            finally:
                del answer  # else it would keep this frame, and those of all who have asked, until they are collected
        if isinstance(answer, list):
            self._parser.handle_push_response(answer)
        return super().read_answer()

    def has_more(self, seconds: float = 0) -> bool:
        """As `Usual.has_more()`. `can_read()` would put an answer where `read_answer()` does not look for it."""
        reader = getattr(self._parser, "_reader", None)
        if poll is None or reader is None:
            return super().has_more(seconds)
        if reader.has_data():
            return True
        looked = poll()
        looked.register(self._sock, select.POLLIN)
        return bool(looked.poll(seconds * 1000))

    def shared(self) -> Shared | None:
        """The connection for several to wait at, and nothing else; `None` where that cannot be."""
        reader = getattr(self._parser, "_reader", None)
        return None if poll is None or reader is None else Shared(self._sock, reader)

    def read_within(self, seconds: float) -> Any:
        """As `Usual.read_within()`. `can_read()` asks the system three times before the answer is read."""
        if self._sock is not None and self._sock.gettimeout() != seconds:
            self._sock.settimeout(seconds)
        try:
            return self.read_response(disconnect_on_error=False)
        except redis.TimeoutError:
            return None


class Shared:
    """A socket and its parser, at which several may wait while one of them reads. Another thread may close it."""

    def __init__(self, sock: Any, reader: Any) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._number = sock.fileno()
        self._reader = reader

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds, be it the end."""
        assert poll is not None
        looked = poll()  # of its own: one cannot be waited for twice at a time
        looked.register(self._number, select.POLLIN)
        return bool(looked.poll(seconds * 1000))

    def read(self) -> list[Any]:
        """All that the server has said."""
        try:
            data = self._sock.recv(MOST)
        except BlockingIOError:
            return []  # another was faster
        except OSError as error:
            ensure_systems(error)
            raise redis.ConnectionError(f"Error while reading from socket: {error}") from error
        if not data:
            raise redis.ConnectionError("Connection closed by server.")
        self._reader.feed(data)
        said = []
        while type(one := self._reader.gets()) in ANSWERS:
            said.append(one)
        if isinstance(one, Exception):
            raise one
        return said


def ensure_systems(error: OSError) -> None:
    """Raise it as it is, if it is that of a signal's handler: the system's is raised by what was called right here.

    Or by a library whose sockets are written in Python.
    """
    frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    module = frame.f_globals.get("__name__", "")
    if module != __name__ and module.partition(".")[0] not in SOCKETS:
        raise error


@cache
def straightened(kind: type[Any]) -> type[Any]:
    """The kind of connection, with fewer steps if it is a plain one."""
    mixin = Straight if kind in PLAIN else Usual
    return type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {})
