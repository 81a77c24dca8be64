"""Locks in one Redis server: sends the calls of `verbs` over redis-py's connections."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.exceptions import ConnectionError, NoPermissionError, NoScriptError, RedisError, ResponseError, TimeoutError

from ..exceptions import StoreUnavailable
from .debts import Debts
from .discretion import hush, secrets_in
from .many import Batch, ManyVerbs
from .verbs import Call, Question, Verbs, root_of, text
from .wakeups import Interrupted, Refused, Wakeups

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Answer, Blocked, Ear, Edge, Held, Renewal, Taken, TakenMany, Way

logger = logging.getLogger("django_redislock")

FAULTS = (RedisError, OSError)  # when the server cannot be asked, or refuses
BROKEN = (ConnectionError, OSError)
T = TypeVar("T")
Evaluate = Callable[[Any, Any, Any], Any]


class Connections:
    """Connections for locks alone, to the server and with the settings of a pool, and as many as are used at once.

    The pool's own may be used up by the cache, or closed at the end of somebody's request (`CLOSE_CONNECTION`), when a
    lock has to be released. One that the server has closed is opened again when used: every verb may be sent twice.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
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


class RedisStore:
    """A `Store` on the client that `connect` gives; it is asked for once, at the first call.

    Raises `StoreUnavailable` for whatever keeps the server from answering.
    """

    def __init__(self, connect: Callable[[], redis.Redis], *, scope: str, prefix: str) -> None:
        self.scope = scope
        self._connect = connect
        self._connections: Connections | None = None
        self._debts = Debts()
        self._secrets: list[str] = []
        self._verbs = Verbs(prefix)
        self._many = ManyVerbs(prefix)
        self._wakeups = Wakeups(self._subscribe, prefix=root_of(prefix))

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        if self._connections is not None:
            self._connections.close()

    def acquire(
        self,
        key: Key,
        *,
        token: str,
        ttl: float,
        holder: str,
        channel: str = "",
        meanwhile: Callable[[], object] | None = None,
    ) -> Taken | Held | tuple[Edge, ...]:
        """As `Store.acquire()`."""
        call = self._verbs.acquire(key, token=token, ttl=ttl, holder=holder, channel=channel)
        return self._run(call, key, meanwhile=meanwhile)

    def leave(self, key: Key, *, token: str) -> None:
        """Wait no more; what was granted in the meantime goes to the next."""
        self._run(self._verbs.leave(key, token=token), key)

    def acquire_many(
        self, keys: Sequence[Key], *, token: str, ttl: float, holder: str, way: Way, limit: int, channel: str = ""
    ) -> TakenMany | Blocked | tuple[Edge, ...]:
        """As `Store.acquire_many()`."""
        call = self._many.acquire(keys, token=token, ttl=ttl, holder=holder, way=way, limit=limit, channel=channel)
        return self._run(call, *keys)

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """Wait for none of them any more, and give back those that the token holds."""
        self._run(self._many.leave(keys, token=token), *keys)

    def release_many(self, keys: Sequence[Key], *, token: str) -> list[Answer]:
        """Give the keys back that `token` holds; an answer for each."""
        return self._run(self._many.release(keys, token=token), *keys)

    @property
    def listens(self) -> bool:
        """Whether this process listens already, so that an ear costs nothing."""
        return bool(self._wakeups.channel)

    def ear(self, token: str, *, within: float | None = None) -> Ear:
        """An ear for a waiter, which has so many seconds left."""
        return self._wakeups.ear(token, within=within)

    def force(self, key: Key, *, fence: int | None = None) -> Held | None:
        """Take the key from whoever holds it, or from the owner with that fence, and hand it over; says who did."""
        return self._run(self._verbs.force(key, fence=fence), key)

    def release(self, key: Key, *, token: str) -> Answer:
        """Give the key back if `token` holds it."""
        return self._run(self._verbs.release(key, token=token), key)

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        return self._run(self._verbs.renew(key, token=token, ttl=ttl), key)

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """As `Store.renew_many()`."""
        keys = [renewal.key for renewal in renewals]
        return self._run(self._many.renew(renewals), *keys, ask=partial(evaluate_all, within=within))

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self._run(self._verbs.inspect(key), key)

    def _run(self, call: Question[T], key: Key, *others: Key, **how: Any) -> T:
        try:
            return call.read(self._send(call, **how))
        except (RedisError, OSError) as error:
            about = f"{key} and {len(others)} more" if others else key
            raise StoreUnavailable(
                f"Redis could not be asked about {about} ({type(error).__name__}: {hush(error, self._secrets)}), "
                f"so nobody knows who holds it. Check the server and the cache alias {self.scope!r}.",
                key=key.name,
            ) from error

    def _open(self) -> Connections:
        pool = self._connect().connection_pool
        self._secrets = secrets_in(pool.connection_kwargs)
        self._connections = Connections(pool)
        return self._connections

    def _subscribe(self, channel: str) -> PoolSubscription:
        return PoolSubscription((self._connections or self._open()).pool, channel)

    def _send(
        self, call: Question[Any], meanwhile: Callable[[], object] | None = None, ask: Evaluate | None = None
    ) -> Any:
        """Send it, and once more when the connection broke: an answer that got lost is given again.

        When no answer came, what settles it follows: the server may have carried it out, or may do so yet. It goes
        before the next question as well, for it may have got lost too.
        """
        connection = (connections := self._connections or self._open()).take()
        send: Evaluate = ask or evaluate
        asked = False
        try:
            for is_last in (False, True):
                try:
                    self._prepare(connection)
                    asked = True
                    return send(connection, call, meanwhile)
                except BROKEN:
                    if is_last:
                        raise
                    connection.disconnect()
        except BaseException as error:
            if call.settle is not None and (settling := call.settle(asked)):
                self._debts.add(settling)
                if asked:
                    self._settle(connection, settling, is_broken=isinstance(error, BROKEN))
            # An answer that comes late must not be read as that to the next question; and what refuses to answer may
            # not be the master any more, so that the name has to be looked up again.
            connection.disconnect()
            raise
        finally:
            connections.give(connection)

    def _prepare(self, connection: Any) -> None:
        """Connect, and give back first what could not be given back before."""
        connection.connect()
        if self._debts:
            self._debts.pay(partial(settle, connection))

    def _settle(self, connection: Any, call: Call[None], *, is_broken: bool) -> None:
        """Send it behind the question, which it cannot overtake there, without waiting; else on a new connection."""
        try:
            if is_broken:
                connection.disconnect()
            connection.send_command("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)
        except (RedisError, OSError) as error:
            logger.warning("Not answered, so what may be taken ends with its ttl: %s", hush(error, self._secrets))


def settle(connection: Any, call: Call[None]) -> None:
    """Send what settles an earlier question; once, also where the server refuses it."""
    try:
        evaluate(connection, call, None)
    except ResponseError as error:
        logger.debug("Refused, so what may be taken ends with its ttl: %s", error)  # that it was not answered is told


CONFIRMATION = 1.0  # seconds for which one look for the server's confirmation of a subscription blocks


class PoolSubscription:
    """A `Subscription` on a connection of its own, made with the settings of a pool."""

    def __init__(self, pool: redis.ConnectionPool, channel: str) -> None:
        """Raises `Refused` where the user may not subscribe, `Interrupted` when the server cannot be reached."""
        own: Any = redis.ConnectionPool(
            connection_class=pool.connection_class, max_connections=1, **pool.connection_kwargs
        )
        self._pubsub = redis.client.PubSub(own)
        self._secrets = secrets_in(pool.connection_kwargs)
        try:
            self._pubsub.subscribe(channel)
            while self._pubsub.get_message(timeout=CONFIRMATION) is None:
                pass  # until the server has confirmed: what is published before would be lost
        except NoPermissionError as error:
            self.close()
            raise Refused(str(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise Interrupted(str(hush(error, self._secrets))) from error

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""
        try:
            message = self._pubsub.get_message(timeout=seconds)
        except (RedisError, OSError) as error:
            raise Interrupted(str(hush(error, self._secrets))) from error
        if message is None:
            return None
        if message["type"] != "message":
            raise Interrupted("the client has connected again by itself")
        return text(message["data"])

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()


def evaluate(connection: Any, call: Call[Any], meanwhile: Callable[[], object] | None) -> Any:
    """One round trip; two when the server does not know the script yet. The time on the way is not lost.

    The connection stays open whatever happens, for more to be said on it.
    """
    script, keys, args = call[:3]
    connection.send_command("EVALSHA", script.sha, len(keys), *keys, *args)
    if meanwhile is not None:
        meanwhile()
    try:
        return connection.read_response(disconnect_on_error=False)
    except NoScriptError:
        connection.send_command("EVAL", script.source, len(keys), *keys, *args)
        return connection.read_response(disconnect_on_error=False)


def evaluate_all(connection: Any, batch: Batch, meanwhile: None, *, within: float) -> list[Any]:
    """One round trip for all calls; two when the server does not know the script yet. Each may take so many seconds."""
    try:
        return ask_all(connection, [("EVALSHA", call.script.sha, *call.words) for call in batch.calls], within)
    except NoScriptError:
        connection.disconnect()  # with it go the answers that were to come
        return ask_all(connection, [("EVAL", call.script.source, *call.words) for call in batch.calls], within)


def ask_all(connection: Any, commands: Sequence[tuple[Any, ...]], within: float) -> list[Any]:
    """Send the commands together. The first error is raised; answers that were to come after it are not read."""
    connection.send_packed_command(connection.pack_commands(commands))
    replies = []
    for _ in commands:
        if not connection.can_read(timeout=within):
            raise TimeoutError(f"no answer within {within:.1f} s")
        replies.append(connection.read_response(disconnect_on_error=False))
    return replies
