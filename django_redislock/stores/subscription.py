"""A subscription on a redis-py connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, RedisError

from ..steps import Steps, run
from .asking import FAULTS
from .discretion import hush, secrets_in
from .options import options_for_listening
from .straight import Straight, straightened
from .wakeups import Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import ConnectionPool


def opening(connection: Any, channel: str, secrets: Sequence[str]) -> Steps[None]:
    """Connect and subscribe, on a connection of either kind; what fails is closed.

    Raises `Refused` where the user may not subscribe, `Interrupted` when the server cannot be reached.
    """
    try:
        yield connection.connect()
        yield connection.send_command("SUBSCRIBE", channel.encode())  # as scripts are told it
        # Until the server has confirmed: what is published before would be lost.
        yield connection.read_response(disconnect_on_error=False)
    except BaseException as error:
        yield connection.disconnect()
        if isinstance(error, NoPermissionError):
            raise Refused(str(error)) from error
        if isinstance(error, FAULTS):
            raise Interrupted(str(hush(error, secrets))) from error
        raise


class PoolSubscription:
    """A `Subscription` made with the settings of a pool.

    It reads the replies as they come: `PubSub.get_message()` costs more than all the rest of being woken.
    """

    wait: Callable[[float], bool]
    """As `Audible.wait()`."""

    def __init__(self, pool: ConnectionPool, channel: str) -> None:
        """As `opening()`."""
        self._secrets = secrets_in(pool.connection_kwargs)
        self._connection: Any = straightened(pool.connection_class)(**options_for_listening(pool))
        run(opening(self._connection, channel, self._secrets))
        self._shared = self._connection.shared() if isinstance(self._connection, Straight) else None
        if self._shared is not None:
            self.wait = self._shared.wait

    @property
    def is_audible(self) -> bool:
        """Whether it is an `Audible`."""
        return self._shared is not None

    def read_all(self) -> list[str]:
        """As `Audible.read_all()`."""
        assert self._shared is not None
        try:
            return [message for _, _, message in self._shared.read()]
        except (RedisError, UnicodeError) as error:
            raise Interrupted(str(hush(error, self._secrets))) from error

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""
        try:
            message = self._connection.read_within(seconds)
        except FAULTS as error:
            raise Interrupted(str(hush(error, self._secrets))) from error
        return None if message is None else message[2]

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
