"""Locks in one Redis server: sends the calls of `verbs` over redis-py's connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..exceptions import StoreUnavailable
from ..keys import Key, about
from ..steps import Steps, run
from .asking import (
    BROKEN,
    CLOSED,
    FAULTS,
    NOT_BEGUN,
    Begun,
    Evaluating,
    Meanwhile,
    evaluate,
    evaluating,
    evaluating_all,
    opened,
    settling,
)
from .connections import Connections, replace
from .debts import Debts
from .discretion import hush, secrets_in
from .many import ManyVerbs
from .replicas import ConfirmingEar, Replicas
from .subscription import PoolSubscription
from .tries import Tries, Twice
from .turns import WakeupsInTurns
from .twins import InThreads, twin_of
from .verbs import Call, Question, Verbs, root_of
from .wakeups import Subscription, Wakeups

if TYPE_CHECKING:
    from .base import Answer, Blocked, Ear, Edge, Held, Renewal, Store, Taken, TakenMany

logger = logging.getLogger("django_redislock")

T = TypeVar("T")


class RedisStore:
    """A `Store` on the client that `connect` gives; it is asked for once, at the first call.

    Raises `StoreUnavailable` for whatever keeps the server from answering.
    """

    _evaluating: ClassVar[Any] = staticmethod(evaluating)
    _connections_to: ClassVar[type[Connections]] = Connections

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        scope: str,
        prefix: str,
        root: str | None = None,
        replicas: int = 0,
        twin: Callable[[Any], Any] = InThreads,
    ) -> None:
        """`root`: what the names of all flows and channels begin with, where it is not that of all names.

        `replicas`: so many have to know of a lock before it counts. `twin`: makes whom tasks ask.
        """
        self.scope = scope
        self.prefix = prefix
        self.root = root or root_of(prefix)
        self._connect = connect
        self._make_twin = twin
        self._connections: Connections | None = None
        self._debts = Debts()
        self._secrets: list[str] = []
        self._verbs = Verbs(prefix, root)
        self._many = ManyVerbs(prefix, root)
        self._wakeups: Wakeups = WakeupsInTurns(self._subscribe, prefix=self.root, rest=self._rest)
        self._replicas = Replicas(replicas) if replicas else None

    @property
    def server(self) -> Any:
        """As `Store.server`."""
        return self

    @property
    def twin(self) -> Any:
        """As `Store.twin`."""
        return twin_of(self, self._make_twin)

    @property
    def whole(self) -> Store:
        """As `Store.whole`."""
        return self

    def part(self, key: Key) -> RedisStore:
        """As `Store.part()`."""
        return self

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        if self._connections is not None:
            self._connections.close()

    def acquire(
        self, key: Key, *, token: str, ttl: float, holder: str, channel: str = "", meanwhile: Meanwhile = None
    ) -> Taken | Held | tuple[Edge, ...]:
        """As `Store.acquire()`."""

        def ahead() -> None:
            self._giving_back(key, token, ttl)
            if meanwhile is not None:
                meanwhile()

        waits = self._wakeups.has_ear  # also while the wake-up connection is broken
        call = self._verbs.acquire(key, token=token, ttl=ttl, holder=holder, channel=channel, waits=waits)
        return self._run(call, key, meanwhile=ahead, **(self._counted(ttl) if self._replicas else {}))

    def leave(self, key: Key, *, token: str) -> None:
        """Wait no more; what was granted in the meantime goes to the next."""
        return self._run(self._verbs.leave(key, token=token), key)

    def acquire_many(
        self, keys: Sequence[Key], *, ttl: float, meanwhile: Meanwhile = None, **wanted: Any
    ) -> TakenMany | Blocked | tuple[Edge, ...]:
        """As `Store.acquire_many()`."""
        call = self._many.acquire(keys, ttl=ttl, **wanted)
        return self._run(call, *keys, meanwhile=meanwhile, **self._counted(ttl))

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """Wait for none of them any more, and give back those that the token holds."""
        return self._run(self._many.leave(keys, token=token), *keys)

    def release_many(self, keys: Sequence[Key], *, token: str, ttl: float) -> list[Answer]:
        """Give the keys back that `token` holds; an answer for each."""
        return self._run(self._many.release(keys, token=token, ttl=ttl, wakes=bool(self._wakeups.channel)), *keys)

    @property
    def listens(self) -> bool:
        """Whether this process listens already, so that an ear costs nothing."""
        return bool(self._wakeups.channel)

    def ear(self, token: str, *, within: float | None = None) -> Ear:
        """An ear for a waiter, which has so many seconds left."""
        ear = self._wakeups.ear(token, within=within)
        return ConfirmingEar(ear) if self._replicas else ear

    def force(self, key: Key, *, token: str, ttl: float, fence: int | None = None) -> Held | None:
        """Take the key from whoever holds it, or from the owner with that fence, and hand it over; says who did."""
        return self._run(self._verbs.force(key, token=token, ttl=ttl, fence=fence), key)

    def release(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Give the key back if `token` holds it."""
        return self._run(self._giving_back(key, token, ttl), key)

    def _giving_back(self, key: Key, token: str, ttl: float) -> Call[Answer]:
        # Who has waited here lately is mostly followed by others that wait.
        return self._verbs.release(key, token=token, ttl=ttl, wakes=bool(self._wakeups.channel))

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        return self._run(self._verbs.renew(key, token=token, ttl=ttl), key, **self._counted(ttl))

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """As `Store.renew_many()`."""
        how = self._counted(within, partial(evaluating_all, within=within))
        return self._run(self._many.renew(renewals), *(renewal.key for renewal in renewals), **how, within=within)

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self._run(self._verbs.inspect(key), key)

    def follow(self, key: Key, *, flow: str) -> tuple[Edge, ...]:
        """Who waits for whom, from the holder of the key on to one who waits for this flow."""
        return self._run(self._verbs.follow(key, flow=flow), key)

    def _counted(self, ttl: float, ask: Evaluating | None = None) -> dict[str, Any]:
        """How to ask where it is not asked as usual: so that replicas are waited for."""
        ask = self._replicas.after(ask or self._evaluating, ttl=ttl) if self._replicas else ask
        return {"ask": ask} if ask else {}

    def _run(self, call: Question[T], *keys: Key, meanwhile: Meanwhile = None, **how: Any) -> T:
        """As `_sending()`, in fewer steps where all is as usual: an open connection, nothing owed, an answer."""
        connections, begun = self._connections, NOT_BEGUN
        try:
            if connections is not None and not self._debts and not how and self._evaluating is evaluating:
                connection = connections.take()
                try:
                    answer = evaluate(connection, call, meanwhile)
                except BaseException as error:  # noqa: BLE001 - it is raised in the steps
                    begun = Begun(connection, error)
                else:
                    if answer is not CLOSED:
                        connections.give(connection)
                        return call.read(answer)
                    begun = Begun(connection)
            return call.read(run(self._sending(call, meanwhile, begun=begun, **how)))
        except FAULTS as error:
            raise self._unavailable(error, keys) from error

    def _unavailable(self, error: Exception, keys: Sequence[Key]) -> StoreUnavailable:
        return StoreUnavailable(
            f"Redis could not be asked about {about(keys)} ({type(error).__name__}: {hush(error, self._secrets)}), "
            f"so nobody knows who holds it. Check the server and the cache alias {self.scope!r}.",
            key=keys[0].name,
        )

    def _open(self) -> Connections:
        pool = self._connect().connection_pool
        self._secrets = secrets_in(pool.connection_kwargs)
        self._connections = self._connections_to(pool)
        return self._connections

    def _rest(self) -> None:
        """Who waits keeps the wake-up connection alone."""
        if self._connections is not None:
            self._connections.close_unused()

    def _subscribe(self, channel: str) -> Subscription:
        return PoolSubscription((self._connections or self._open()).pool, channel)

    def _tries(self, within: float | None = None) -> Tries:
        """Where to ask, and how often, in so many seconds if that is said."""
        return Twice(self._connections or self._open())

    def _sending(
        self,
        call: Question[Any],
        meanwhile: Meanwhile = None,
        *,
        ask: Evaluating | None = None,
        within: float | None = None,
        begun: Begun = NOT_BEGUN,
    ) -> Steps[Any]:
        """Send it, and again as long as the tries last: an answer that got lost is given again.

        When no answer came, what settles it follows: the server may have carried it out, or may do so yet. It goes
        before the next question as well, for it may have got lost too.
        """
        evaluate: Evaluating = ask or self._evaluating
        tries = self._tries(within)
        connection, asked = begun.connection, begun.failure is not None
        try:
            while True:
                connections = tries.connections()
                connection = connection or (yield connections.take())
                try:
                    begun.go_on()
                    yield opened(connection)
                    if self._debts:
                        yield from self._paying(connection)
                    asked = True
                    answer = yield from evaluate(connection, call, meanwhile)
                except Exception as error:
                    if not tries.again(error):
                        raise
                    yield connection.disconnect()
                    replace(connections, connection, is_broken=isinstance(error, BROKEN))
                    connection, begun = None, NOT_BEGUN
                else:
                    connections.give(connection)
                    return answer
        except BaseException as error:
            try:
                yield from self._giving_up(call, connection, asked=asked, is_broken=isinstance(error, BROKEN))
            finally:
                if connection is not None:
                    connections.give(connection)
            raise

    def _giving_up(self, call: Question[Any], connection: Any, *, asked: bool, is_broken: bool) -> Steps[None]:
        """Settle what was not answered, and disconnect.

        An answer that comes late must not be read as that to the next question; and what refuses to answer may not be
        the master any more, so that the name has to be looked up again.
        """
        try:
            if call.settle is not None and (settling := call.settle(asked)):
                self._debts.add(settling)
                if asked and connection is not None:
                    yield from self._settling(connection, settling, is_broken=is_broken)
        finally:  # also when a task is cancelled once more
            if connection is not None:
                yield connection.disconnect()

    def _paying(self, connection: Any) -> Steps[None]:
        """Give back first what could not be given back before."""
        yield from self._debts.paying(partial(settling, connection))

    def _settling(self, connection: Any, call: Call[None], *, is_broken: bool) -> Steps[None]:
        """Send it behind the question, which it cannot overtake there, without waiting; else on a new connection."""
        try:
            if is_broken:
                yield connection.disconnect()
            yield connection.send_packed_command(call.packed_new)
        except FAULTS as error:
            logger.warning("Not answered, so what may be taken ends with its ttl: %s", hush(error, self._secrets))
