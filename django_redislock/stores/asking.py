"""Sending calls over one of redis-py's connections, and reading what the server answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from ..steps import Steps, run
from .debts import NotNow
from .discretion import hush
from .packing import PING, joined

if TYPE_CHECKING:
    from .many import Batch
    from .verbs import Call

# What comes of the system is told by them, too. A bare `OSError` is that of a signal's handler.
FAULTS = (RedisError,)  # when the server cannot be asked, or refuses
BROKEN = (ConnectionError,)  # when it cannot be heard any more
REDIRECTIONS = (AskError, ClusterDownError, TryAgainError)  # `MovedError` is an `AskError`: nothing was carried out
Evaluating = Callable[[Any, Any, Any], Steps[Any]]
Meanwhile = Callable[[], object] | None
"""What is called while the answer is on its way."""


class Begun(NamedTuple):
    """How far a question has come."""

    connection: Any = None
    """That was taken for it."""
    failure: BaseException | None = None
    """What went wrong when it was asked."""

    def go_on(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure


NOT_BEGUN = Begun()
CLOSED = object()
"""Instead of an answer."""


def opened(connection: Any) -> Any:
    """Connect if need be. One that blocks and has a socket would find that out itself, but not as fast."""
    return connection.connect() if getattr(connection, "_sock", None) is None else None


def evaluating(connection: Any, call: Call[Any], meanwhile: Meanwhile) -> Steps[Any]:
    """One round trip; two when the server does not know the script yet. The time on the way is not lost.

    The connection stays open whatever happens, for more to be said on it.
    """
    yield connection.send_packed_command(call.packed)
    if meanwhile is not None:
        meanwhile()
    try:
        return (yield connection.read_answer())
    except NoScriptError:
        return (yield from evaluating_new(connection, call))


def evaluating_new(connection: Any, call: Call[Any]) -> Steps[Any]:
    """One round trip, which brings the script."""
    yield connection.send_packed_command(call.packed_new)
    return (yield connection.read_answer())


def evaluate(connection: Any, call: Any, meanwhile: Meanwhile) -> Any:
    """As `evaluating()` on a connection that blocks, in fewer steps; `CLOSED` for one that is to be opened first."""
    if getattr(connection, "_sock", None) is None:
        return CLOSED
    if call.wakes:
        # Redis writes last to the client for whom it has had something for longest. So whoever this wakes is written to
        # first where an answer stands before ours: that to a PING, which may as well be a refusal.
        connection.send_packed_command([PING + b"".join(call.packed)])
        try:  # noqa: SIM105 - which is a dozen steps less than `suppress()`
            connection.read_answer()
        except ResponseError:
            pass
    else:
        connection.send_packed_command(call.packed)
    if meanwhile is not None:
        meanwhile()
    try:
        return connection.read_answer()
    except NoScriptError:
        return run(evaluating_new(connection, call))


def evaluating_all(connection: Any, batch: Batch, meanwhile: None, *, within: float) -> Steps[list[Any]]:
    """One round trip for all calls; two when the server does not know the script yet. Each may take so many seconds.

    The connection has to be one that blocks.
    """
    try:
        replies = yield ask_all(connection, [call.packed for call in batch.calls], within)
    except NoScriptError:
        connection.disconnect()  # with it go the answers that were to come
        connection.connect()  # fakeredis' connections do not do that by themselves as they should
        replies = yield ask_all(connection, [call.packed_new for call in batch.calls], within)
    return list(replies)


def ask_all(connection: Any, commands: Sequence[list[bytes]], within: float) -> list[Any]:
    """Send the commands together. The first error is raised; answers that were to come after it are not read."""
    connection.send_packed_command(joined(commands))
    replies = []
    for _ in commands:
        if not connection.can_read(timeout=within):
            raise TimeoutError(f"no answer within {within:.1f} s")
        replies.append(connection.read_response(disconnect_on_error=False))
    return replies


def settling(connection: Any, call: Call[None]) -> Steps[None]:
    """Send what settles an earlier question. Raises `NotNow` where the server refuses it, and can be asked more."""
    try:
        yield from evaluating(connection, call, None)
    except REDIRECTIONS:
        raise
    except ResponseError as error:
        if str(error).startswith("Protocol error"):  # after which it closes the connection
            raise ConnectionError(str(error)) from error
        raise NotNow(str(hush(error, ()))) from error
