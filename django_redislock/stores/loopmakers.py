"""Connections for an event loop, made from the settings of a pool for blocking ones."""

from __future__ import annotations

import asyncio
import inspect
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import redis.sentinel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOT_FOR_LOOPS = {
    "parser_class",
    "retry",
    "redis_connect_func",
    "connection_pool",
    "event_dispatcher",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
}
"""Settings whose values are made for blocking connections. What they are for is done by the store itself."""


def connection_for_loop(pool: redis.ConnectionPool, options: Mapping[str, Any]) -> Any:
    """A connection for a loop to where the pool's go, with those of these settings that mean the same for it."""
    kind = kind_for_loops(pool.connection_class)
    settings = {name: value for name, value in options.items() if name in parameters_of(kind)}
    find_master = getattr(pool, "get_master_address", None)
    return (kind if find_master is None else followed(kind, find_master))(**settings)


def followed(kind: Any, find_master: Callable[[], tuple[str, int]]) -> Any:
    """The class of connections that go to the master which a Sentinel names, each time that they are made anew."""

    class Followed(kind):  # type: ignore[misc]  # it is known at run time
        async def _connect(self) -> None:
            self.host, self.port = await asyncio.to_thread(find_master)  # over a blocking connection
            await super()._connect()

    return Followed


def kind_for_loops(kind: type) -> Any:
    """The class of connections for loops that stands beside one of blocking connections."""
    fake = sys.modules.get("fakeredis")
    if fake is not None and issubclass(kind, fake.FakeRedisConnection):
        return import_module("fakeredis.aioredis").FakeAsyncRedisConnection
    return next(ours for theirs, ours in KINDS if issubclass(kind, theirs))


KINDS = [
    (redis.sentinel.SentinelManagedSSLConnection, redis.asyncio.SSLConnection),
    (redis.SSLConnection, redis.asyncio.SSLConnection),
    (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    (object, redis.asyncio.Connection),
]


@cache
def parameters_of(kind: type) -> frozenset[str]:
    """The names of the settings that such a connection takes and that mean the same for it."""
    names = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
    return frozenset(names - NOT_FOR_LOOPS - {"self", "args", "kwargs"})
