"""Locks of tasks on one event loop: an uncontended pair, a thousand tasks on a hundred keys, ten thousand waiting."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import redis.asyncio
from django.conf import settings
from django_redis import get_redis_connection
from redis.asyncio.lock import Lock

from django_redislock import lock

from .contenders import COMPARE_AND_DELETE, KEYS, RAW
from .measure import WARM_UP, median_of
from .report import Column, Report, Row, Target
from .rivals import requests_so_far, watcher

OURS = 'async with lock("name")'
THEIRS = "redis.asyncio Lock"
PAIRS = 50
TTL = 60
LOOK = 31.0
"""Seconds for which waiters are watched: all that they do, they do within a ttl."""
NAME = "redislock-benchmark"
"""By which the server knows our connections."""
PORTION = 500
"""So many waiters come at a time."""

Pair = Callable[[int], Awaitable[None]]
COLUMNS = (
    Column("p50", "pair\np50 us", ".0f"),
    Column("ratio", "x raw\npair", ".3f"),
    Column("rate", "acq/s", ".0f"),
    Column("rate_ratio", "acq/s x\nredis.asyncio", ".2f"),
    Column("connections", "connections\nwaiting", "g"),
    Column("requests", "requests/s\nwaiting", ".1f"),
)
NOTES = (
    "Pair: nobody else wants the lock. Raw pair: SET NX PX and a compare-and-delete on one redis.asyncio client.",
    "acq/s: tasks of one loop, each of which takes its key several times and holds it for no time at all.",
    "Waiting: for a lock that is held; connections of this process, and reads of the server's event loop.",
    "All clients have the default settings but a pool that is large enough, without which redis.asyncio raises.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure all three scenes."""
    small = arguments.quick
    get_redis_connection("default").connection_pool.connection_kwargs["client_name"] = NAME
    pairs = asyncio.run(measure_pairs(rounds=2 if small else 100))
    rates = [
        asyncio.run(measure_rates(tasks=20 if small else 1_000, keys=5 if small else 100))
        for _ in range(1 if small else 3)
    ]
    waiting = asyncio.run(measure_waiting(10 if small else arguments.waiters, look=1.0 if small else LOOK))
    rows: dict[str, Row] = {name: dict.fromkeys(column.key for column in COLUMNS) | row for name, row in pairs.items()}
    for name in (OURS, THEIRS):
        rows[name]["rate"] = median_of(rate[name] for rate in rates)
        rows[name]["rate_ratio"] = median_of(rate[name] / rate[THEIRS] for rate in rates)
    rows[OURS] |= waiting
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=list(NOTES))


def client() -> redis.asyncio.Redis:
    """A client of the same server, as its documentation makes it, for all tasks of a loop."""
    return redis.asyncio.Redis.from_url(settings.CACHES["default"]["LOCATION"])


async def measure_pairs(*, rounds: int) -> dict[str, Row]:
    """Uncontended pairs, in turns."""
    async with client() as theirs:
        pairs = dict(pairs_of(theirs))
        await theirs.script_load(COMPARE_AND_DELETE.decode())
        blocks = []
        for _ in range(rounds):
            names = random.sample(list(pairs), len(pairs))
            blocks.append({name: await take_turn(pairs[name]) for name in names})
    medians = [{name: statistics.median(times) for name, times in block.items()} for block in blocks]
    return {
        name: {
            "p50": statistics.median(time for block in blocks for time in block[name]) / 1e3,
            "ratio": statistics.median(block[name] / block[RAW] for block in medians),
        }
        for name in pairs
    }


def pairs_of(theirs: redis.asyncio.Redis) -> Iterator[tuple[str, Pair]]:
    """The ways to lock."""
    token, sha = "5f0c1dce2f6b4d0e8a7f3b9d6c1e2a47", hashlib.sha1(COMPARE_AND_DELETE, usedforsecurity=False).hexdigest()

    async def raw(number: int) -> None:
        key = f"raw:task-{number % KEYS}"
        await theirs.set(key, token, nx=True, px=30_000)
        await theirs.evalsha(sha, 1, key, token)

    async def redis_asyncio(number: int) -> None:
        async with Lock(theirs, f"raw:task-{number % KEYS}", timeout=30):
            pass

    async def ours(number: int) -> None:
        async with lock(f"task-{number % KEYS}"):
            pass

    return iter([(RAW, raw), (THEIRS, redis_asyncio), (OURS, ours)])


async def take_turn(pair: Pair) -> list[int]:
    """How long each of some pairs took, in nanoseconds."""
    times = []
    for number in range(WARM_UP):
        await pair(number)
    for number in range(PAIRS):
        start = time.perf_counter_ns()
        await pair(number)
        times.append(time.perf_counter_ns() - start)
    return times


async def measure_rates(*, tasks: int, keys: int) -> dict[str, float]:
    """Acquisitions per second of so many tasks, each of which takes one of the keys three times."""
    theirs = redis.asyncio.Redis(
        connection_pool=redis.asyncio.BlockingConnectionPool.from_url(
            settings.CACHES["default"]["LOCATION"], max_connections=50, timeout=None
        )
    )
    ways: dict[str, Callable[[str], Any]] = {
        OURS: lambda name: lock(name, wait=TTL),
        THEIRS: lambda name: Lock(theirs, f"raw:{name}", timeout=TTL),
    }
    rates = {}
    async with theirs:
        for name in random.sample(list(ways), 2):
            rates[name] = await rate_of(ways[name], tasks=tasks, keys=keys)
    return rates


async def rate_of(way: Callable[[str], Any], *, tasks: int, keys: int) -> float:
    """As `measure_rates()`, of one way to lock."""

    async def work(number: int) -> None:
        for _ in range(3):
            async with way(f"crowd-{number % keys}"):
                pass

    start = time.perf_counter()
    await asyncio.gather(*map(work, range(tasks)))
    return tasks * 3 / (time.perf_counter() - start)


async def measure_waiting(waiters: int, *, look: float) -> Row:
    """What it costs that so many tasks wait for a lock which is held; then all of them have it, one after the other."""

    async def wait() -> None:
        async with lock("queue", wait=600):
            pass

    async with lock("queue"):
        tasks = []
        for first in range(0, waiters, PORTION):
            tasks += [asyncio.create_task(wait()) for _ in range(min(PORTION, waiters - first))]
            while waiting() < len(tasks):
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        before, requests = time.perf_counter(), requests_so_far()
        await asyncio.sleep(look)
        requests = requests_so_far() - requests - 1  # the one that asked
        row: Row = {"requests": requests / (time.perf_counter() - before), "connections": connections_here()}
    await asyncio.gather(*tasks)
    return row


def waiting() -> int:
    """How many wait."""
    info = lock("queue").info()
    return info.waiters if info else 0


def connections_here() -> int:
    """How many the server has of this package here: of the loop, of the thread that asks, of the watchdog."""
    return sum(entry["name"] == NAME for entry in watcher().client_list())


def targets(rows: dict[str, Row]) -> Iterator[Target]:
    """What is to be reached."""
    row = rows[OURS]
    yield Target(f"{OURS}, x raw pair", row["ratio"], 1.10, ".3f")
    yield Target(f"acquisitions/s, x {THEIRS}", row["rate_ratio"], 1.5, ".2f", at_least=True)
    yield Target("connections while all wait", row["connections"], 3, "g")
    yield Target("requests/s while all wait", row["requests"], 1, ".1f")
