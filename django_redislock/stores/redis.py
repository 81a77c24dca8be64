"""Locks in one Redis server: sends the calls of `verbs` over redis-py's connections."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.exceptions import ConnectionError, NoPermissionError, NoScriptError, RedisError, ResponseError

from ..exceptions import StoreUnavailable
from .base import Refusal
from .listing import list_held
from .many import ManyVerbs
from .verbs import Call, Verbs, root_of, text
from .wakeups import Interrupted, Refused, Wakeups

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Answer, Blocked, Ear, Edge, Held, Taken, TakenMany, Way
    from .listing import Listed

T = TypeVar("T")


class Connections:
    """Connections for locks alone, to the server and with the settings of a pool, and as many as are used at once.

    The pool's own may be used up by the cache, or closed at the end of somebody's request (`CLOSE_CONNECTION`),
    when a lock has to be released. A connection that the server closed in the meantime is opened again when it is
    used: every verb may be sent twice.
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
        self._prefix = prefix
        self._connections: Connections | None = None
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

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self._run(self._verbs.inspect(key), key)

    def inspect_many(self, keys: Sequence[Key]) -> list[Held | None]:
        """Who holds each of the keys, in one round trip."""
        return self._read_all([self._verbs.inspect(key) for key in keys], f"{len(keys)} keys")

    def list_held(self, *, queues: bool = False) -> list[Listed]:
        """All that is held, in one round trip; with `queues` also who waits for it."""
        found = self._read_all(list_held(self._prefix, queues=queues), "all that is held")
        return [lock for bucket in found for lock in bucket]

    def ask_server(self, *words: str) -> Any:
        """What the server says to a command of its own; a `Refusal` where it does not carry that out."""
        try:
            return self._connect().execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's is not
        except ResponseError as error:
            return Refusal(str(error))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(
                f"Redis could not be asked {words[0]} ({type(error).__name__}: {error}). "
                f"Check the server and the cache alias {self.scope!r}."
            ) from error

    @property
    def connection_settings(self) -> dict[str, Any]:
        """With what connections are made; some of it is secret."""
        return dict(self._connect().connection_pool.connection_kwargs)

    def _read_all(self, calls: Sequence[Call[T]], about: str) -> list[T]:
        """Ask at once what changes nothing, so that no connection for locks is kept from them."""
        try:
            return [call.read(reply) for call, reply in zip(calls, pipeline(self._connect(), calls), strict=True)]
        except (RedisError, OSError) as error:
            raise StoreUnavailable(
                f"Redis could not be asked about {about} ({type(error).__name__}: {error}). "
                f"Check the server and the cache alias {self.scope!r}."
            ) from error

    def _run(self, call: Call[T], key: Key, *others: Key, meanwhile: Callable[[], object] | None = None) -> T:
        try:
            return call.read(self._send(call, meanwhile))
        except (RedisError, OSError) as error:
            about = f"{key} and {len(others)} more" if others else key
            raise StoreUnavailable(
                f"Redis could not be asked about {about} ({type(error).__name__}: {error}), "
                f"so nobody knows who holds it. Check the server and the cache alias {self.scope!r}.",
                key=key.name,
            ) from error

    def _open(self) -> Connections:
        self._connections = Connections(self._connect().connection_pool)
        return self._connections

    def _subscribe(self, channel: str) -> PoolSubscription:
        return PoolSubscription((self._connections or self._open()).pool, channel)

    def _send(self, call: Call[Any], meanwhile: Callable[[], object] | None) -> Any:
        """Send it, and once more when the connection broke: an answer that got lost is given again."""
        connections = self._connections or self._open()
        connection = connections.take()
        try:
            try:
                return evaluate(connection, call, meanwhile)
            except (ConnectionError, OSError):
                connection.disconnect()
                return evaluate(connection, call, meanwhile)
        except ResponseError:
            raise  # the server has answered: nothing is left to be read
        except BaseException:
            connection.disconnect()  # an answer that comes late must not be read as that to the next question
            raise
        finally:
            connections.give(connection)


CONFIRMATION = 1.0
"""Seconds for which one look for the server's confirmation of a subscription blocks."""


class PoolSubscription:
    """A `Subscription` on a connection of its own, made with the settings of a pool."""

    def __init__(self, pool: redis.ConnectionPool, channel: str) -> None:
        """Raises `Refused` where the user may not subscribe, `Interrupted` when the server cannot be reached."""
        own: Any = redis.ConnectionPool(
            connection_class=pool.connection_class, max_connections=1, **pool.connection_kwargs
        )
        self._pubsub = redis.client.PubSub(own)
        try:
            self._pubsub.subscribe(channel)
            while self._pubsub.get_message(timeout=CONFIRMATION) is None:
                pass  # until the server has confirmed: what is published before would be lost
        except NoPermissionError as error:
            self.close()
            raise Refused(str(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise Interrupted(str(error)) from error

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""
        try:
            message = self._pubsub.get_message(timeout=seconds)
        except (RedisError, OSError) as error:
            raise Interrupted(str(error)) from error
        if message is None:
            return None
        if message["type"] != "message":
            raise Interrupted("the client has connected again by itself")
        return text(message["data"])

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()


def evaluate(connection: Any, call: Call[Any], meanwhile: Callable[[], object] | None) -> Any:
    """One round trip; two when the server does not know the script yet. The time on the way is not lost."""
    script, keys, args, _ = call
    connection.send_command("EVALSHA", script.sha, len(keys), *keys, *args)
    if meanwhile is not None:
        meanwhile()
    try:
        return connection.read_response()
    except NoScriptError:
        connection.send_command("EVAL", script.source, len(keys), *keys, *args)
        return connection.read_response()


def pipeline(client: redis.Redis, calls: Sequence[Call[Any]]) -> list[Any]:
    """The replies to all calls, sent at once; once more with their text when the server knows no such script."""
    replies: list[Any] = []
    for command, text_of in (("EVALSHA", attrgetter("sha")), ("EVAL", attrgetter("source"))):
        pipe: Any = client.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command(command, text_of(call.script), len(call.keys), *call.keys, *call.args)
        replies = pipe.execute(raise_on_error=command == "EVAL")
        if not any(isinstance(reply, NoScriptError) for reply in replies):
            break
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
