"""A Redis server as one node of a quorum: as `RedisStore`, but asked in halves, so that others are asked meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from .. import clock, steps
from ..exceptions import StoreUnavailable
from .asking import FAULTS, evaluating, opened
from .ballots import Ballots, kept_for, run_of
from .base import Answer
from .discretion import hush
from .nodes import Ballot, Candidacy, SitsOut
from .redis import RedisStore
from .started import Calls, Started, ask_info
from .wakeups import Wakeups

if TYPE_CHECKING:
    from redis import Redis

    from ..keys import Key
    from .base import Ear, Held, Renewal
    from .verbs import Call
    from .wakeups import Heard

T = TypeVar("T")

MOST_DOUBTED = 10_000
"""Tokens of which it is remembered that a question with them may arrive yet."""


def impatient(client: Redis, *, seconds: float) -> Redis:
    """A client like this one, whose connections wait no longer than that for anything."""
    pool = client.connection_pool
    options = dict(pool.connection_kwargs)
    for name in ("socket_timeout", "socket_connect_timeout"):
        limit = options.get(name)
        options[name] = seconds if limit is None else min(limit, seconds)
    return type(client)(connection_pool=type(pool)(connection_class=pool.connection_class, **options))


class RedisNode(RedisStore):
    """A `Node` on the client that `connect` gives. It sits out for `guard` seconds when it has come back empty."""

    def __init__(self, connect: Callable[[], Redis], *, scope: str, prefix: str, guard: float) -> None:
        super().__init__(connect, scope=scope, prefix=prefix)
        self._wakeups = Wakeups(self._subscribe, prefix=self.root, rest=self._rest)  # one waits for several at once
        self._ballots = Ballots(prefix, guard=guard)
        self._runs: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._known: WeakSet[Any] = WeakSet()
        self._doubted: dict[str, None] = {}
        self._pleads_at = 0.0
        self.known: set[tuple[str, str]] = set()

    def vote(self, keys: Sequence[Key], *, candidacy: Candidacy, channel: str) -> Started[Ballot]:
        """As `Node.vote()`."""
        token = candidacy.token
        if token in self._doubted:
            # What takes an earlier question back may arrive late, and take this one back as well.
            raise StoreUnavailable(f"{self.scope} has not answered this one before.", key=keys[0].name)

        def make(run: str) -> Calls[Ballot]:
            return [self._ballots.vote(key, candidacy, channel=channel, run=run) for key in keys]

        def undo(asked: bool) -> Calls[None]:
            if not asked:
                return ()
            self._doubt(token)
            return self._withdrawals(keys, token)

        return Started(self, make, keys, undo)

    def raise_fences(self, fences: Sequence[tuple[Key, int]], *, token: str) -> Started[bool]:
        """As `Node.raise_fences()`."""
        calls = [self._ballots.raise_fence(key, fence, token=token) for key, fence in fences]
        return Started(self, lambda run: calls, [key for key, _ in fences])

    def give_back(self, keys: Sequence[Key], *, token: str, ttl: float) -> Started[Answer]:
        """As `Node.give_back()`."""
        calls = [self._verbs.release(key, token=token, ttl=ttl) for key in keys]
        return Started(self, lambda run: calls, keys, lambda asked: self._withdrawals(keys, token))

    def withdraw(self, keys: Sequence[Key], *, token: str) -> Started[None]:
        """As `Node.withdraw()`."""
        calls = self._withdrawals(keys, token)
        return Started(self, lambda run: calls, keys, lambda asked: self._withdrawals(keys, token))

    def settle(self, keys: Sequence[Key], *, token: str) -> None:
        """As `Node.settle()`."""
        for call in self._withdrawals(keys, token):
            self._debts.add(call)

    def keep(self, key: Key, *, token: str, ttl: float) -> Started[Answer]:
        """As `Node.keep()`."""
        call = self._verbs.renew(key, token=token, ttl=ttl)
        calls = [call.reading(lambda reply: self._sure(call.read(reply), token))]
        return Started(self, lambda run: calls, [key])

    def prolong(self, renewals: Sequence[Renewal]) -> Started[list[Answer]]:
        """As `Node.prolong()`."""
        calls = self._many.renew(renewals).calls
        tokens = iter([renewal.token for renewal in renewals])
        calls = [call.reading(partial(self._read_sure, call, tokens)) for call in calls]
        return Started(self, lambda run: calls, [renewal.key for renewal in renewals])

    def look(self, keys: Sequence[Key]) -> Started[Held | None]:
        """As `Node.look()`."""
        calls = [self._verbs.inspect(key) for key in keys]
        return Started(self, lambda run: calls, keys)

    def take_away(self, key: Key, *, token: str, ttl: float, fence: int | None) -> Started[Held | None]:
        """As `Node.take_away()`."""
        calls = [self._verbs.force(key, token=token, ttl=ttl, fence=fence)]
        return Started(self, lambda run: calls, [key])

    def plead(self, seat: SitsOut) -> bool:
        """As `Node.plead()`; asked once for each time that it sits out."""
        if clock.now() < self._pleads_at:
            return False
        self._pleads_at = clock.now() + seat.left
        connections = self._connections or self._open()
        connection = connections.take()
        try:
            self.connect(connection)
            info = ask_info(connection, "server") | ask_info(connection, "commandstats") | ask_info(connection, "stats")
            call = self._ballots.admit(seat, run=run_of(info), kept=kept_for(info))
            left = int(steps.run(evaluating(connection, call, None))) / 1e3
        except FAULTS as error:
            self.drop(connection)
            raise self.unavailable(error, []) from error
        finally:
            connections.give(connection)
        self._pleads_at = clock.now() + left
        return left == 0

    def ear(self, token: str, *, within: float | None = None, heard: Heard | None = None) -> Ear:
        """As `Node.ear()`."""
        return self._wakeups.ear(token, within=within, heard=heard)

    def _doubt(self, token: str) -> None:
        """What takes a question of this token back may arrive late."""
        self._doubted[token] = None
        if len(self._doubted) > MOST_DOUBTED:
            del self._doubted[next(iter(self._doubted))]

    def _withdrawals(self, keys: Sequence[Key], token: str) -> list[Call[None]]:
        return [self._verbs.leave(key, token=token) for key in keys]

    def _read_sure(self, call: Call[list[Answer]], tokens: Iterator[str], reply: Any) -> list[Answer]:
        return [self._sure(answer, next(tokens)) for answer in call.read(reply)]

    def _sure(self, answer: Answer, token: str) -> Answer:
        """What takes a vote back that was not answered may arrive after this, so it does not count."""
        return Answer.UNKNOWN if token in self._doubted else answer

    # What a question that was started asks of the node.

    def take(self) -> Any:
        """A connection."""
        return (self._connections or self._open()).take()

    def give(self, connection: Any) -> None:
        """It is free for the next question."""
        assert self._connections is not None
        self._connections.give(connection)

    def drop(self, connection: Any) -> None:
        """Close it: there may be answers on it that nobody has read."""
        connection.disconnect()

    def connect(self, connection: Any) -> str:
        """Connect, and give the run id of the server: what is connected stays with one run."""
        opened(connection)
        if self._debts:
            steps.run(self._paying(connection))
        return self._runs.get(connection) or self._learn_run(connection)

    def _learn_run(self, connection: Any) -> str:
        """Ask for it, once for each time that it connects."""
        if connection not in self._known:
            self._known.add(connection)
            connection.register_connect_callback(self._forget_run)
        run = self._runs[connection] = run_of(ask_info(connection, "server"))
        return run

    def _forget_run(self, connection: Any) -> None:
        """It has connected, perhaps by itself, and perhaps to a server that has restarted."""
        self._runs.pop(connection, None)

    def undo(self, connection: Any, calls: Calls[None], *, follows: bool) -> None:
        """Take back what was not answered: before the next question, and now if it can follow on the connection."""
        for call in calls:
            self._debts.add(call)
            if follows:
                steps.run(self._settling(connection, call, is_broken=False))

    def unavailable(self, error: Exception, keys: Sequence[Key]) -> StoreUnavailable:
        """The error."""
        kind, told = type(error).__name__, hush(error, self._secrets)
        return StoreUnavailable(f"{self.scope}: {kind}: {told}", key=keys[0].name if keys else None)
