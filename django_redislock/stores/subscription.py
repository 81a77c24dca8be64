"""A subscription on redis-py's connections."""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import NoPermissionError, RedisError

from .discretion import hush, secrets_in
from .verbs import text
from .wakeups import Interrupted, Refused

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
