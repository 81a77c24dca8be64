"""Hearing what a server answers on a connection that redis-py has opened on an event loop.

With hiredis the answers are read where they arrive, in the protocol of the transport: a task that reads them, as
redis-py has it, is woken rounds of the loop later. It is there for what has no transport (fakeredis), and where
hiredis is missing.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, InvalidResponse, ResponseError

from .asking import FAULTS

hiredis: Any
try:
    import hiredis
except ImportError:
    hiredis = None

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

Hear = Callable[[Any], None]
"""Takes the next answer, or the `ResponseError` that stands in its place."""
Lose = Callable[[Any, Exception], None]
"""Takes who has heard the answers, and why no more of them come. It may be called more than once."""

UNASKED: Any = getattr(hiredis, "PushNotification", None)
"""What the server says by itself, where hiredis can tell that from an answer (3.2 and later)."""
ROOM = 1 << 16
"""Bytes that are read at once."""
NOTHING = object()
"""There is no whole answer yet."""


def answers_of(connection: Any, hear: Hear, lose: Lose) -> Answers:
    """Hear the answers of an open connection, which is ours from now on."""
    return (AnswersInProtocol if is_silent(connection) else AnswersInTask)(connection, hear, lose)


def is_silent(connection: Any) -> bool:
    """Whether it has a transport, and all that came over it has been read by hiredis, and taken from it."""
    heard, stream = getattr(connection._parser, "_reader", None), connection._reader
    return (
        UNASKED is not None
        and isinstance(heard, hiredis.Reader)
        and isinstance(connection._writer, asyncio.StreamWriter)
        and not (heard.has_data() or stream._buffer or stream.at_eof() or connection._writer.is_closing())
    )


class Answers(ABC):
    """What comes over one connection, each answer told as soon as it is there."""

    closed: asyncio.Task[None]
    """Ends when the connection is closed."""

    def __init__(self, connection: Any, hear: Hear, lose: Lose) -> None:
        self._connection = connection
        self._hear = hear
        self._lose = lose

    def write(self, chunks: Sequence[bytes]) -> None:
        """Send them, without waiting for the system to take them: what is sent meanwhile would come in between."""
        self._connection._writer.writelines(chunks)

    @abstractmethod
    def end(self) -> None:
        """Close the connection."""


class AnswersInTask(Answers):
    """They are read by a task."""

    def __init__(self, connection: Any, hear: Hear, lose: Lose) -> None:
        super().__init__(connection, hear, lose)
        self.closed = in_background(self._read())

    def end(self) -> None:
        """Close the connection."""
        self.closed.cancel()

    async def _read(self) -> None:
        error: Exception = ConnectionError("Nobody reads its answers any more.")
        try:
            while True:
                try:
                    answer = await self._connection.read_response(disconnect_on_error=False)
                except ResponseError as refusal:
                    answer = refusal
                self._hear(answer)
        except FAULTS as fault:
            error = fault
        finally:
            # Also cancelled, as all tasks are of a loop that ends: releases that are on their way need another one.
            self._lose(self, error)
            await self._connection.disconnect()


class AnswersInProtocol(Answers, asyncio.BufferedProtocol):
    """They are read where they arrive, in the place of redis-py's stream."""

    def __init__(self, connection: Any, hear: Hear, lose: Lose) -> None:
        super().__init__(connection, hear, lose)
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            encoding="utf-8",
            errors="strict",
            notEnoughData=NOTHING,
        )
        self._buffer = memoryview(bytearray(ROOM))  # asyncio slices it, and reads into the slice
        self._is_over = False
        self._transport: asyncio.Transport = connection._writer.transport
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def write(self, chunks: Sequence[bytes]) -> None:
        """As `Answers.write()`."""
        self._transport.write(b"".join(chunks))

    def end(self) -> None:
        """Close the connection, as whom it was taken from does that."""
        self._is_over = True
        self._transport.set_protocol(self._stream)
        self.closed = in_background(self._connection.disconnect())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand out the answers that are complete. Whoever gets one may close the connection."""
        try:
            self._parser.feed(self._buffer, 0, nbytes)
            while not self._is_over and (answer := self._parser.gets()) is not NOTHING:
                if isinstance(answer, ConnectionError):
                    raise answer
                if not isinstance(answer, UNASKED):
                    self._hear(answer)
        except FAULTS as error:
            self._lose(self, error)
            self.end()

    def eof_received(self) -> None:
        """Nothing more comes, and the transport closes itself: from now on uvloop refuses to write to it."""
        self._lose(self, ConnectionError("Connection closed by server."))

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is closed."""
        self._lose(self, ConnectionError(str(error or "Connection closed by server.")))
        self._stream.connection_lost(error)
        self.end()


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin it in an empty context: what the task that happens to do so has in its own is its own."""
    return asyncio.get_running_loop().create_task(work, name="redislock-answers", context=Context())
