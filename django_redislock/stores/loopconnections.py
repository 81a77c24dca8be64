"""The connection of one event loop to one server, which its tasks share."""

from __future__ import annotations

import asyncio
import builtins
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, NoScriptError, TimeoutError

from ..steps import Reply
from .asking import FAULTS
from .loopanswers import Answers, answers_of
from .loopmakers import connection_for_loop
from .options import options_for_questions
from .packing import PING

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    import redis

PATIENCE = 5.0
"""Seconds within which an answer has to come, where the client's own settings have no limit."""


class LoopConnection:
    """The one connection over which all tasks of a loop ask: each sends at once, and answers come in that order."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool
        self.patience: float = pool.connection_kwargs.get("socket_timeout") or PATIENCE
        """Seconds within which an answer has to come."""
        self._answers: Answers | None = None
        self._opening: asyncio.Task[None] | None = None
        self._sent: deque[tuple[float, Reply[Any]]] = deque()
        self._unsent: list[bytes] = []
        self._flushing: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take(self) -> Turn:
        """For one question, and what follows it."""
        return Turn(self)

    def give(self, turn: Turn) -> None:
        """There is nothing to be kept of it."""

    @property
    def is_open(self) -> bool:
        """Whether it may be sent on."""
        return self._answers is not None

    @property
    def opened(self) -> object:
        """What is another one each time that it was opened."""
        return self._answers

    async def open(self) -> None:
        """Open it, for all who ask for that at the same time. Raises redis-py's errors."""
        if self._opening is None:
            # In an empty context: what the first one to ask has in its own is not the connection's.
            self._opening = asyncio.get_running_loop().create_task(self._open(), context=Context())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    def send(self, command: Iterable[bytes], *, wakes: bool = False) -> Reply[Any]:
        """Send a command, as bytes; gives its answer to be. Raises redis-py's `ConnectionError` when it is closed.

        `wakes`: as `Call.wakes`.
        """
        if self._answers is None:
            raise ConnectionError("The connection was closed.")
        loop = asyncio.get_running_loop()
        answer: Reply[Any] = Reply(loop=loop)
        if wakes:
            self._unsent.append(PING)
        self._unsent += command
        if not self._sent:
            self._flush()
        elif self._flushing is None:  # what other tasks ask in this round of the loop goes with it
            self._flushing = loop.call_soon(self._flush)
        if wakes:
            self._sent.append((loop.time(), Reply(loop=loop)))  # nobody waits for that
        self._sent.append((loop.time(), answer))
        if self._timer is None:
            self._timer = loop.call_later(self.patience, self._look_at_the_time)
        return answer

    def _flush(self) -> None:
        """Send what was not sent yet."""
        self._flushing = None
        if self._unsent and self._answers is not None:
            self._answers.write(self._unsent)
        self._unsent = []

    def break_off(self, error: Exception) -> None:
        """Close it. Who waits for an answer is told the error, as of a connection that broke."""
        answers = self._answers
        if answers is not None:
            self._lose(answers, error)
            answers.end()

    def close(self) -> None:
        """Close it if nobody waits for an answer."""
        if not self._sent:
            self.break_off(ConnectionError("It was closed."))

    async def aclose(self) -> None:
        """Close it, to the end, when all has been answered: a server drops what it has not read of one that is closed.

        So it does when it cannot write an answer.
        """
        try:
            if self._sent:
                with suppress(*FAULTS):  # who has asked is told; an answer that is late ends it as well
                    await self.send([PING])
        finally:
            answers = self._answers
            if answers is not None:
                self.break_off(ConnectionError("It was closed."))
                await asyncio.wait([answers.closed])

    async def _open(self) -> None:
        connection = connection_for_loop(self.pool, options_for_questions(self.pool))
        try:
            async with asyncio.timeout(self.patience):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect()
            if isinstance(error, builtins.TimeoutError):
                raise TimeoutError("Timeout connecting to server") from error
            raise
        connection.socket_timeout = None  # one that is idle is not late
        self._answers = answers_of(connection, self._hear, self._lose)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # seen, also where all who asked have been cancelled

    def _hear(self, said: Any) -> None:
        """Hand out an answer."""
        if not self._sent:
            raise ConnectionError("Something was answered that nobody had asked.")
        _, answer = self._sent.popleft()
        if answer.done():
            return  # whoever asked was cancelled
        if isinstance(said, Exception):
            fail(answer, said)
        else:
            answer.come(said)

    def _lose(self, answers: Answers, error: Exception) -> None:
        """No more of these come: whoever waits asks once more, or gives up."""
        if answers is not self._answers:
            return
        self._answers = None
        self._unsent = []
        sent, self._sent = self._sent, deque()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, answer in sent:
            if not answer.done():
                fail(answer, error)

    def _look_at_the_time(self) -> None:
        """Break off when the oldest question has waited for too long."""
        self._timer = None
        if not self._sent:
            return
        loop = asyncio.get_running_loop()
        asked_at, answer = self._sent[0]
        left = asked_at + self.patience - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look_at_the_time)
            return
        for asked_at, answer in self._sent:
            if asked_at + self.patience <= loop.time() and not answer.done():
                fail(answer, TimeoutError("Timeout reading from socket"))
        self.break_off(ConnectionError("It was closed, since an answer did not come in time."))


def fail(answer: Reply[Any], error: Exception) -> None:
    """There is an error in the place of an answer."""
    answer.set_exception(error)
    answer.exception()  # seen: not everybody waits for the answer


class Turn:
    """A question of one task, in the place of a connection of its own.

    What can be done at once is, and gives nothing to be awaited.
    """

    __slots__ = ("_answer", "_sent", "connection", "opened")

    def __init__(self, connection: LoopConnection) -> None:
        self.connection = connection
        self._sent: Reply[Any]
        self._answer: Reply[Any] | None = None
        self.opened: object = None
        """What has been asked last."""

    @property
    def socket_timeout(self) -> float:
        """Seconds within which an answer has to come."""
        return self.connection.patience

    def connect(self) -> Coroutine[Any, Any, None] | None:
        """See that there is a connection."""
        return None if self.connection.is_open else self.connection.open()

    def send_packed_command(self, command: Iterable[bytes]) -> Coroutine[Any, Any, None] | None:
        """Send a command."""
        if not self.connection.is_open:
            return self._open_and_send(command)
        self.send(command)
        return None

    async def _open_and_send(self, command: Iterable[bytes]) -> None:
        await self.connection.open()
        self.send(command)

    def send(self, command: Iterable[bytes], *, wakes: bool = False) -> None:
        """As `LoopConnection.send()`."""
        self._sent = self.connection.send(command, wakes=wakes)
        self.opened = self.connection.opened

    def read_answer(self) -> Reply[Any]:
        """The answer to what was sent last."""
        self._answer = self._sent
        return self._answer

    async def disconnect(self) -> None:
        """Close the connection if it did not serve. One who was cancelled leaves it to others: no answers mix up."""
        if self._has_failed and self.opened is self.connection.opened:
            self.connection.break_off(ConnectionError("It was closed, since it did not serve somebody else."))

    @property
    def _has_failed(self) -> bool:
        """Whether the last answer that was read is an error; not that the text of a script is to be brought."""
        answer = self._answer
        if answer is None or not answer.done() or answer.cancelled():
            return False
        error = answer.exception()
        return error is not None and not isinstance(error, NoScriptError)
