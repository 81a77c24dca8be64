"""Locks in one Redis server: sends the calls of `verbs` over a redis-py client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from redis import Redis
from redis.exceptions import ConnectionError, NoScriptError, RedisError, TimeoutError

from ..exceptions import StoreUnavailable
from .verbs import Call, Verbs

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Answer, Held, Taken

T = TypeVar("T")


class RedisStore:
    """A `Store` on the client that `connect` gives; it is asked for once, at the first call.

    Raises `StoreUnavailable` for whatever keeps the server from answering.
    """

    def __init__(self, connect: Callable[[], Redis], *, scope: str, prefix: str) -> None:
        self.scope = scope
        self._connect = connect
        self._client: Redis | None = None
        self._verbs = Verbs(prefix)

    def acquire(self, key: Key, *, token: str, ttl: float, holder: str) -> Taken | Held:
        """Take the key for `token` and `ttl` seconds, or say who holds it."""
        return self._run(self._verbs.acquire(key, token=token, ttl=ttl, holder=holder), key)

    def release(self, key: Key, *, token: str) -> Answer:
        """Give the key back if `token` holds it."""
        return self._run(self._verbs.release(key, token=token), key)

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        return self._run(self._verbs.renew(key, token=token, ttl=ttl), key)

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self._run(self._verbs.inspect(key), key)

    def _run(self, call: Call[T], key: Key) -> T:
        try:
            return call.read(self._send(call))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(
                f"Redis could not be asked about {key} ({type(error).__name__}: {error}), "
                f"so nobody knows who holds it. Check the server and the cache alias {self.scope!r}.",
                key=key.name,
            ) from error

    def _send(self, call: Call[Any]) -> Any:
        """Send it, and once more when the connection broke: an answer that got lost is given again."""
        client = self._client
        if client is None:
            client = self._client = self._connect()
        try:
            return self._evaluate(client, call)
        except TimeoutError:
            raise  # the caller has waited for as long as its own time-out allows
        except ConnectionError:
            return self._evaluate(client, call)

    @staticmethod
    def _evaluate(client: Redis, call: Call[Any]) -> Any:
        script, keys, args, _ = call
        execute: Callable[..., Any] = client.execute_command
        try:
            return execute("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return execute("EVAL", script.source, len(keys), *keys, *args)
