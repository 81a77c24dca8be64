"""Locks in one Redis server for the tasks of one event loop: as `redis`, over a connection that they share."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from redis.exceptions import NoScriptError, TimeoutError

from ..steps import arun
from .asking import FAULTS, NOT_BEGUN, Begun, evaluating
from .base import Held
from .discretion import hush
from .loopconnections import LoopConnection
from .loopmakers import connection_for_loop
from .loopreplicas import ConfirmingLoopEar, LoopReplicas
from .loopwakeups import LoopWakeups
from .options import options_for_listening
from .redis import RedisStore
from .subscription import opening
from .wakeups import Interrupted

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Kept, Renewal


class LoopStore(RedisStore):
    """The twin of a `RedisStore` on an event loop: what its verbs give is to be awaited.

    What an interrupted task could not give back is owed by both, so that whichever asks next does it.
    """

    _connections: Any
    _connections_to: ClassVar[Any] = LoopConnection

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store._connect, scope=store.scope, prefix=store.prefix)
        self._debts = store._debts
        self._replicas = LoopReplicas(store._replicas.number) if store._replicas else None
        self._wakeups: Any = LoopWakeups(self._subscribe, prefix=store.root, keep=self.keep)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connections is not None:
            await self._connections.aclose()

    async def acquire(  # type: ignore[override]
        self, key: Key, *, token: str, ttl: float, channel: str = "", **asked: Any
    ) -> Any:
        """As `Store.acquire()`. The place of one who has to wait is kept from then on."""
        answer = await super().acquire(key, token=token, ttl=ttl, channel=channel, **asked)  # type: ignore[misc]
        if isinstance(answer, Held):
            self._wakeups.line_up(key, token, channel, ttl=ttl, held=answer)
        return answer

    async def keep(self, key: Key, channel: str) -> Kept:
        """Keep the places of those who wait for the key and listen on the channel."""
        kept: Kept = await self._run(self._verbs.keep(key, channel=channel), key)
        return kept

    async def ear(self, token: str, *, within: float | None = None) -> Any:  # type: ignore[override]
        """As `Store.ear()`."""
        ear = await arun(self._wakeups.hearing(token, within))
        return ConfirmingLoopEar(ear) if self._replicas else ear

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> Any:
        """Refused: the watchdog is one thread for all loops and threads, and asks the store itself."""
        raise TypeError("Leases are renewed by the watchdog's thread, which asks the store, not its twin.")

    async def _run(  # type: ignore[override]
        self, call: Any, *keys: Key, meanwhile: Any = None, **how: Any
    ) -> Any:
        connection, begun = self._connections, NOT_BEGUN
        try:
            is_usual = not self._debts and not how and self._evaluating is evaluating  # as in `RedisStore._ask()`
            if is_usual and connection is not None and connection.is_open:
                turn = connection.take()
                try:
                    turn.send(call.packed, wakes=call.wakes)
                    if meanwhile is not None:
                        meanwhile()
                    answer = await turn.read_answer()
                except NoScriptError:
                    pass
                except BaseException as error:  # noqa: BLE001 - it is raised in the steps
                    begun = Begun(turn, error)
                else:
                    return call.read(answer)
            return call.read(await arun(self._sending(call, meanwhile, begun=begun, **how)))
        except FAULTS as error:
            raise self._unavailable(error, keys) from error

    def _subscribe(self, channel: str) -> Coroutine[Any, Any, LoopSubscription]:  # type: ignore[override]
        return subscribe(self._connections or self._open(), channel, self._secrets)


async def subscribe(connections: Any, channel: str, secrets: list[str]) -> LoopSubscription:
    """A subscription on a connection of its own. As `opening()`."""
    connection = connection_for_loop(connections.pool, options_for_listening(connections.pool))
    await arun(opening(connection, channel, secrets))
    return LoopSubscription(connection, secrets)


class LoopSubscription:
    """As `Subscription`, to be awaited."""

    def __init__(self, connection: Any, secrets: list[str]) -> None:
        self._connection = connection
        self._secrets = secrets

    async def read(self, seconds: float) -> str | None:
        """As `Subscription.read()`."""
        try:
            reply = await self._connection.read_response(timeout=seconds, disconnect_on_error=False)
        except TimeoutError:
            return None
        except FAULTS as error:
            raise Interrupted(str(hush(error, self._secrets))) from error
        return None if reply is None else reply[2]

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect()
