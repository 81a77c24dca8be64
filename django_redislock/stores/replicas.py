"""Waiting until replicas have what was taken: `WAIT`, on the connection that has written it.

What so many replicas know survives the loss of the primary if one of them is promoted. A question that too few of them
acknowledge in time has not been answered: what it took is given back, and a lease that it was to renew goes on until
its deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from ..exceptions import StoreUnavailable
from .base import Answer, Taken, TakenMany

if TYPE_CHECKING:
    from ..steps import Steps
    from .asking import Evaluating
    from .base import Ear, Grant

LONGEST = 1.0
"""Seconds for which replicas are waited for at most."""


class Replicas:
    """How many are to know of what is taken, and for how long they are waited for."""

    share = 1.0
    """Of the time that there is, how much one may wait."""

    def __init__(self, number: int) -> None:
        self.number = number

    def after(self, evaluate: Evaluating, *, ttl: float) -> Evaluating:
        """Asks as `evaluate` does, and goes on when they have what was taken. Raises `StoreUnavailable` otherwise."""

        def ask(connection: Any, call: Any, meanwhile: Callable[[], object] | None) -> Steps[Any]:
            reply = yield from evaluate(connection, call, meanwhile)
            if is_ours(call.read(reply)):
                yield from self._awaiting(connection, self.share * bound(ttl, connection.socket_timeout))
            return reply

        return ask

    def _awaiting(self, connection: Any, seconds: float) -> Steps[None]:
        try:
            acknowledged = yield from self._acknowledged(connection, seconds)
        except ResponseError as error:
            raise ResponseError(f"MIN_REPLICAS needs a server that knows WAIT: {error}") from error
        if acknowledged < self.number:
            raise StoreUnavailable(
                f"{acknowledged} of {self.number} replicas acknowledged the lock within {seconds:.2f} s, so it does "
                f"not count and is given back. Check the replication of the server, or lower MIN_REPLICAS."
            )

    def _acknowledged(self, connection: Any, seconds: float) -> Steps[int]:
        """How many have it, after so many seconds at most."""
        yield connection.send_command("WAIT", self.number, max(1, round(seconds * 1000)))
        return (yield connection.read_answer())  # type: ignore[no-any-return]  # a number


def bound(ttl: float, socket_timeout: float | None) -> float:
    """Seconds for which replicas are waited for: so that most of the ttl is left, and the answer comes in time."""
    return min(LONGEST, ttl / 3, (socket_timeout or LONGEST * 2) / 2)


def is_ours(answer: Any) -> bool:
    """Whether something was taken or renewed by the question."""
    match answer:
        case Taken():
            return True
        case TakenMany(fences=fences):
            return any(fences)
        case list():
            return Answer.DONE in answer
    return answer is Answer.DONE


class ConfirmingEar:
    """An `Ear` of one who, granted the key, asks for it once more: so the grant counts when replicas have that."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self.close = ear.close

    @property
    def kept(self) -> bool:
        """As `Ear.kept`."""
        return self._ear.kept

    @property
    def channel(self) -> str:
        """As `Ear.channel`."""
        return self._ear.channel

    def listen(self, seconds: float) -> Grant | None:
        """As `Ear.listen()`; a grant is only a reason to ask."""
        self._ear.listen(seconds)
        return None
