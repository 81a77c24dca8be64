"""Questions that change nothing: what is held, and what the server says of itself.

They go over connections of their own, so that no connection for locks waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..exceptions import StoreUnavailable
from .asking import FAULTS
from .base import Held, Refusal
from .connections import Connections
from .discretion import hush, secrets_in
from .listing import Listing, list_held
from .packing import joined
from .verbs import Call, Verbs, names_of

if TYPE_CHECKING:
    from redis import Redis

    from ..keys import Key

T = TypeVar("T")
Commands = Sequence[list[bytes]]

PORTION = 8
"""Commands that are sent together."""


class Inquiry:
    """Asks the server that `connect` gives a client to. Raises `StoreUnavailable` when it cannot be asked."""

    in_slots: ClassVar[bool] = False
    """Whether all that belongs to a lock is in one slot of a cluster."""

    def __init__(self, connect: Callable[[], Redis], *, scope: str, prefix: str, where: str = "") -> None:
        self.where = where
        """Which of several servers that is; empty where there is one."""
        self.prefix = prefix
        """What all names begin with."""
        self._scope = scope
        self._connect = connect
        self._connections: Connections | None = None

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        if self._connections is not None:
            self._connections.close()

    def servers(self) -> list[Inquiry]:
        """An inquiry for each server that takes locks."""
        return [self]

    def list_held(self, *, alias: str = "", queues: bool = False) -> Listing:
        """All that is held, in one round trip for each thousand; with `queues` also who waits for it.

        `alias` is noted on each.
        """
        found = Listing()
        calls = list_held(self.prefix, alias=alias, queues=queues, in_slots=self.in_slots)
        while calls:
            pages = self._ask_all(calls, "what is held")
            for page in pages:
                found.extend(page.locks)
            calls = [page.more for page in pages if page.more is not None]
        # One that was renewed in the meantime expires later by now, and was told again.
        return found.latest()

    def inspect(self, keys: Sequence[Key]) -> list[Held | None]:
        """Who holds each of the keys, in one round trip."""
        buckets = [names_of(self.prefix, key.name).bucket if self.in_slots else None for key in keys]
        calls = [Verbs(self.prefix, bucket).inspect(key) for key, bucket in zip(keys, buckets, strict=True)]
        return self._ask_all(calls, f"{len(keys)} keys")

    def server(self, *words: str) -> Any:
        """What the server answers to a command of its own; a `Refusal` where it does not carry that out."""
        pipe: Any = self._connect().pipeline(transaction=False)
        try:
            pipe.execute_command(*words)
            (answer,) = pipe.execute(raise_on_error=False)
        except FAULTS as error:
            raise self._unavailable(error, words[0]) from error
        return Refusal(str(answer)) if isinstance(answer, Exception) else answer

    def settings(self) -> dict[str, Any]:
        """With what connections are made. Some of it is secret."""
        return dict(self._connect().connection_pool.connection_kwargs)

    def time_outs(self) -> dict[str, float | None]:
        """Seconds for which a connection waits, by name; `None`: for ever. What no setting says, redis-py decides."""
        pool = self._connect().connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        return {name: getattr(connection, name) for name in ("socket_timeout", "socket_connect_timeout")}

    def _ask_all(self, calls: Sequence[Call[T]], about: str) -> list[T]:
        """What is read of the answers, in one round trip. Raises `StoreUnavailable`."""
        commands = list(map(spell, calls, first_of_its_script(calls)))
        if self._connections is None:
            self._connections = Connections(self._connect().connection_pool)
        try:
            return ask_at_once(self._connections, commands, [call.read for call in calls])
        except FAULTS as error:
            raise self._unavailable(error, about) from error

    def _unavailable(self, error: Exception, about: str) -> StoreUnavailable:
        kind, told = type(error).__name__, hush(error, secrets_in(self.settings()))
        return StoreUnavailable(
            f"Redis could not be asked about {about} ({kind}: {told}). "
            f"Check the server and the cache alias {self._scope!r}."
        )


def ask_at_once(connections: Connections, commands: Commands, read: Sequence[Callable[[Any], T]]) -> list[T]:
    """What is read of the answers, once more where the connection had been closed in the meantime."""
    connection = connections.take()
    try:
        try:
            return exchange(connection, commands, read)
        except FAULTS:
            connection.disconnect()
            return exchange(connection, commands, read)
    except BaseException:
        connection.disconnect()  # there may be answers on it that nobody has read
        raise
    finally:
        connections.give(connection)


def exchange(connection: Any, commands: Commands, read: Sequence[Callable[[Any], T]]) -> list[T]:
    """Send all commands and read all answers. While those to one portion are read, the server works on the next.

    What it receives together it carries out to the end before it answers any of it, or serves anybody else.
    """
    answers: list[T] = []
    connection.connect()  # by itself it does not ask Sentinels whom to connect to
    connection.send_packed_command(joined(commands[:PORTION]))
    for start in range(0, len(commands), PORTION):
        coming = commands[start + PORTION : start + 2 * PORTION]
        if coming:
            connection.send_packed_command(joined(coming))
        answers += [read_one(connection.read_response()) for read_one in read[start : start + PORTION]]
    return answers


def first_of_its_script(calls: Sequence[Call[Any]]) -> list[bool]:
    """Which calls have to bring the text of their script: those after them find it known."""
    scripts = [call.script for call in calls]
    return [script not in scripts[:number] for number, script in enumerate(scripts)]


def spell(call: Call[Any], brings_text: bool) -> list[bytes]:
    """A call as it is sent."""
    return call.packed_new if brings_text else call.packed
