"""A subscription on a redis-py connection of its own."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import redis.connection
from redis.exceptions import NoPermissionError, RedisError

from .discretion import hush, secrets_in
from .verbs import text
from .wakeups import Interrupted, Refused

if TYPE_CHECKING:
    from redis import ConnectionPool

HAS_PROTOCOLS = "protocol" in signature(redis.connection.AbstractConnection.__init__).parameters
OPTIONS = {"protocol": 2} if HAS_PROTOCOLS else {}  # with RESP3 what is published comes beside the replies


class PoolSubscription:
    """A `Subscription` made with the settings of a pool.

    It reads the replies as they come: `PubSub.get_message()` costs more than all the rest of being woken.
    """

    def __init__(self, pool: ConnectionPool, channel: str) -> None:
        """Raises `Refused` where the user may not subscribe, `Interrupted` when the server cannot be reached."""
        self._secrets = secrets_in(pool.connection_kwargs)
        self._connection: Any = pool.connection_class(**pool.connection_kwargs | OPTIONS)
        try:
            self._connection.connect()
            self._connection.send_command("SUBSCRIBE", channel)
            # Until the server has confirmed: what is published before would be lost.
            self._connection.read_response(disconnect_on_error=False)
        except NoPermissionError as error:
            self.close()
            raise Refused(str(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise Interrupted(str(hush(error, self._secrets))) from error

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""
        try:
            if not self._connection.can_read(timeout=seconds):
                return None
            _, _, said = self._connection.read_response(disconnect_on_error=False)
        except (RedisError, OSError) as error:
            raise Interrupted(str(hush(error, self._secrets))) from error
        return text(said)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
