"""The locks that can be waited for, each as a process would use it: one client, one connection for each in need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import psycopg
import redis_lock
from django_redis import get_redis_connection
from redis import Redis
from redis.lock import Lock

from django_redislock import lock
from django_redislock.handler import locks

OURS = 'lock("name")'
REDIS_PY = "redis-py Lock"
PYTHON_REDIS_LOCK = "python-redis-lock"
ADVISORY = "PostgreSQL advisory lock"

TTL = 60
"""Longer than anything here takes: what expires would not be handed over."""

Locking = Callable[[], AbstractContextManager[Any]]
"""Gives what `with` enters: waits for the lock, and releases it. The process is connected by then."""


@lru_cache
def client_of(name: str) -> Redis:
    """The client of this process for one rival; the server lists its connections under that name.

    Without `socket_timeout`, which is 5 s by default: python-redis-lock blocks for longer.
    """
    return Redis.from_url(os.environ["TEST_REDIS_URL"], client_name=label(name, os.getpid()), socket_timeout=None)


def label(rival: str, pid: int) -> str:
    """By which the server knows the connections of a process; Redis wants no spaces in it."""
    return f"{RIVALS[rival].__name__}:{pid}"


@contextmanager
def ours(key: str) -> Iterator[Locking]:
    """This package's."""
    client = get_redis_connection("default")
    client.connection_pool.connection_kwargs["client_name"] = label(OURS, os.getpid())
    with lock(f"{key} of {os.getpid()}"):  # on connections of its own, of which the cache's client knows nothing
        pass
    yield lambda: lock(key, wait=TTL)


@contextmanager
def redis_py(key: str) -> Iterator[Locking]:
    """Polls, every 100 ms by default."""
    client = client_of(REDIS_PY)
    client.ping()
    yield lambda: Lock(client, key, timeout=TTL)


@contextmanager
def python_redis_lock(key: str) -> Iterator[Locking]:
    """Waits by `BLPOP`, each on a connection of its own."""
    client = client_of(PYTHON_REDIS_LOCK)
    client.ping()
    yield lambda: redis_lock.Lock(client, key, expire=TTL)


class AdvisoryLock:
    """`pg_advisory_lock()` as statements that psycopg prepares, without Django on top."""

    def __init__(self, connection: psycopg.Connection, key: str) -> None:
        self._connection = connection
        self._key = [key]

    def __enter__(self) -> None:
        self._connection.execute("SELECT pg_advisory_lock(hashtext(%s))", self._key)

    def __exit__(self, *exception: object) -> None:
        self._connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", self._key)


@contextmanager
def advisory(key: str) -> Iterator[Locking]:
    """Waits in the server, each on a connection of its own."""
    name = label(ADVISORY, os.getpid())
    with psycopg.connect(os.environ["TEST_POSTGRES_URL"], autocommit=True, application_name=name) as connection:
        yield lambda: AdvisoryLock(connection, key)


RIVALS: dict[str, Callable[[str], AbstractContextManager[Locking]]] = {
    OURS: ours,
    PYTHON_REDIS_LOCK: python_redis_lock,
    REDIS_PY: redis_py,
    ADVISORY: advisory,
}


def rivals_here() -> list[str]:
    """Those whose server is there."""
    return [name for name in RIVALS if name != ADVISORY or "TEST_POSTGRES_URL" in os.environ]


def connections_of(rival: str, pids: Iterable[int]) -> int:
    """How many connections the server counts for these processes now."""
    labels = {label(rival, pid) for pid in pids}
    if rival != ADVISORY:
        return sum(entry["name"] in labels for entry in watcher().client_list())
    with psycopg.connect(os.environ["TEST_POSTGRES_URL"]) as connection:
        names = connection.execute("SELECT application_name FROM pg_stat_activity").fetchall()
    return sum(name in labels for (name,) in names)


def disconnect() -> None:
    """Close this process' connections to Redis, as far as they are idle."""
    for name in (PYTHON_REDIS_LOCK, REDIS_PY):
        client_of(name).connection_pool.disconnect()
    locks["default"].close()


def requests_so_far() -> int:
    """How many requests the Redis server has read from its sockets; this one counts, too.

    Neither `total_commands_processed` nor `commandstats` tell: both count what scripts call as well. A closed
    connection is read once more, for its end.
    """
    info = watcher().info()
    closed = info["total_connections_received"] - info["connected_clients"]
    return int(info["total_reads_processed"] - closed)


@lru_cache
def watcher() -> Redis:
    """The client that only looks."""
    return Redis.from_url(os.environ["TEST_REDIS_URL"])
