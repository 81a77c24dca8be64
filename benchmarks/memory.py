"""Memory per held lock: what the client's Python objects take, and what the server does."""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import redis_lock
from django_redis import get_redis_connection
from redis import Redis
from redis.lock import Lock

from django_redislock import lock

from .contenders import OURS
from .report import Column, Report, Row, Target

COLUMNS = (Column("client", "client\nB", ".0f"), Column("server", "server\nB", ".0f"))
NOTES = (
    "Client: traced by tracemalloc, the lock object and the name included. Server: used_memory of INFO.",
    "Ours keeps on the server who holds it, its fence and its entry in the list of held locks, too.",
)
WARM_UP = 100
"""Locks before the count: what they leave behind (connections, caches) is not memory per lock."""


def run(arguments: argparse.Namespace) -> Report:
    """Measure ours and the others, one after the other on an emptied server."""
    client = get_redis_connection("default")
    makers: dict[str, Callable[[int], Any]] = {
        OURS: lambda number: lock(f"name-{number}"),
        "redis-py Lock": lambda number: Lock(client, f"name-{number}", timeout=30),
        "python-redis-lock": lambda number: redis_lock.Lock(client, f"name-{number}", expire=30),
    }
    rows = {name: weigh(client, make, count=arguments.locks) for name, make in makers.items()}
    return Report(
        columns=COLUMNS,
        rows=rows,
        targets=[Target(f"{OURS}, client bytes per held lock", rows[OURS]["client"], 1200, ".0f")],
        notes=[f"{arguments.locks} locks held at once.", *NOTES],
    )


def weigh(client: Redis, make: Callable[[int], Any], *, count: int) -> Row:
    """Bytes per lock while `count` are held."""
    for lock_object in hold(make, [None] * WARM_UP):
        lock_object.release()
    client.flushdb()
    places: list[Any] = [None] * count  # made before the count, so that they are not in it
    server_before = used_memory(client)
    tracemalloc.start()
    held = hold(make, places)
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    server = used_memory(client) - server_before
    for lock_object in held:
        lock_object.release()
    return {"client": traced / count, "server": server / count}


def hold(make: Callable[[int], Any], places: list[Any]) -> list[Any]:
    """Fill the places with locks that are held."""
    for number in range(len(places)):
        places[number] = make(number)
        places[number].acquire()
    return places


def used_memory(client: Redis) -> int:
    """Bytes that the server has allocated."""
    return int(client.info("memory")["used_memory"])
